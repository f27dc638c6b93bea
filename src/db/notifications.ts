import { randomBytes } from "node:crypto";
import { Connection } from "./connection.ts";

/** How often the connection sends itself a sign of life. */
const HEARTBEAT_INTERVAL_MS = 300;

/**
 * How old the last sign of life may be for the channel to count as alive. With the interval above and
 * a second's promise for revocations, a half-open socket is noticed before the second is over.
 */
const HEARTBEAT_AGE_MAX_MS = 800;

/** Pause before another try to connect. */
const RECONNECT_DELAY_MS = 250;

export interface NotificationsOptions {
  /** Straight to the server: LISTEN does not work through PgBouncer's transaction mode. */
  readonly url: string;
  /** Channel → what to do with a payload. */
  readonly channels: Readonly<Record<string, (payload: string) => void>>;
  /** Called when notifications may have been missed: whatever rests on them is to be forgotten. */
  readonly onGap: () => void;
}

/**
 * A LISTEN connection that knows whether it works. A closed socket shows itself, a half-open one does
 * not: so a heartbeat goes through the server and back, and {@link isAlive} is about the last one.
 * https://www.postgresql.org/docs/18/sql-notify.html
 */
export class Notifications {
  readonly #options: NotificationsOptions;
  readonly #heartbeatChannel = `ouvira_heartbeat_${randomBytes(8).toString("hex")}`;
  #connection: Connection | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #reconnect: NodeJS.Timeout | undefined;
  /** When the newest heartbeat that came back was sent. */
  #lastHeartbeatAt = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  constructor(options: NotificationsOptions) {
    this.#options = options;
  }

  /** Whether every change up to a moment ago has been heard of. */
  get isAlive(): boolean {
    return performance.now() - this.#lastHeartbeatAt <= HEARTBEAT_AGE_MAX_MS;
  }

  /** Connects and listens; keeps trying by itself when that fails or ends. */
  async open(): Promise<void> {
    try {
      const connection = await Connection.open({
        url: this.#options.url,
        applicationName: "ouvira listen",
        statementTimeoutMs: 2_000,
        lockTimeoutMs: 1_000,
        idleInTransactionTimeoutMs: 2_000,
        onNotification: (channel, payload) => this.#receive(channel, payload),
      });
      connection.onLost(() => this.#lose());
      if (this.#isClosed) {
        connection.destroy(new Error("The service is stopping"));
        return;
      }
      this.#connection = connection;
      const channels = [this.#heartbeatChannel, ...Object.keys(this.#options.channels)];
      await connection.send(channels.map((channel) => `listen ${channel}`).join("; "));
      // Changes between the last connection's end and this LISTEN were not heard of.
      this.#options.onGap();
      this.#beat();
      this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_INTERVAL_MS);
      this.#heartbeat.unref();
    } catch {
      this.#lose();
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#reconnect);
    clearInterval(this.#heartbeat);
    await this.#connection?.close();
  }

  #receive(channel: string, payload: string): void {
    if (channel === this.#heartbeatChannel) this.#lastHeartbeatAt = Number(payload);
    else this.#options.channels[channel]?.(payload);
  }

  #beat(): void {
    const text = `notify ${this.#heartbeatChannel}, '${performance.now()}'`;
    // A failure ends the connection, which is dealt with there.
    this.#connection?.send(text).catch(() => undefined);
  }

  #lose(): void {
    clearInterval(this.#heartbeat);
    this.#connection = undefined;
    this.#lastHeartbeatAt = Number.NEGATIVE_INFINITY;
    this.#options.onGap();
    if (this.#isClosed || this.#reconnect) return;
    this.#reconnect = setTimeout(() => {
      this.#reconnect = undefined;
      void this.open();
    }, RECONNECT_DELAY_MS);
    this.#reconnect.unref();
  }
}
