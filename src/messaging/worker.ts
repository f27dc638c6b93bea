import type { TenantDatabase } from "../db/tenant-database.ts";
import type { Keys } from "../keys.ts";
import type { Message } from "./messages.ts";
import { messageContext } from "./queue.ts";

/** Hands a message to whoever delivers it. Rejects when it was not taken. */
export interface Transport {
  send(message: Message): Promise<void>;
}

export interface WorkerLog {
  warn(details: object, message: string): void;
}

/** Tries before a message is given up, with a pause of 2^attempt seconds between them. */
const ATTEMPTS_MAX = 8;

/** How long a worker has a message to itself; past it another may send it again. */
const CLAIM_SECONDS = 60;

/** How often queues are looked through for what no NOTIFY told of: retries, a crash, a missed wake-up. */
const SWEEP_INTERVAL_MS = 30_000;

/** Messages of one tenant claimed at a time. */
const BATCH = 20;

interface ClaimedMessage {
  id: number;
  sealed: Uint8Array;
  attempts: number;
}

/**
 * Sends what is queued, tenant by tenant: at least once, and once when nothing fails. A message is
 * claimed for a minute, sent without a connection being held, and deleted; one that fails is tried
 * again later, and given up with a logged reason.
 */
export class MessageWorker {
  readonly #database: TenantDatabase;
  readonly #keys: Keys;
  readonly #transports: Readonly<Record<Message["channel"], Transport>>;
  readonly #log: WorkerLog;
  readonly #busy = new Map<number, Promise<void>>();
  readonly #again = new Set<number>();
  #sweep: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(
    database: TenantDatabase,
    keys: Keys,
    transports: Readonly<Record<Message["channel"], Transport>>,
    log: WorkerLog,
  ) {
    this.#database = database;
    this.#keys = keys;
    this.#transports = transports;
    this.#log = log;
  }

  /** Looks through every queue now and from time to time. */
  start(): void {
    const sweep = () => {
      this.#sweepAll().catch((error: unknown) => {
        this.#log.warn({ err: error }, "The message queues could not be looked through");
      });
    };
    sweep();
    this.#sweep = setInterval(sweep, SWEEP_INTERVAL_MS);
    this.#sweep.unref();
  }

  /** Takes no more messages and waits for those on their way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#sweep);
    await Promise.all(this.#busy.values());
  }

  /** Sends what is due in one tenant's queue. Of calls at the same time, one works. */
  wake(tenantId: number): Promise<void> {
    const busy = this.#busy.get(tenantId);
    if (busy) {
      this.#again.add(tenantId);
      return busy;
    }
    const work = this.#drain(tenantId)
      .catch((error: unknown) => {
        if (!this.#isStopped) {
          this.#log.warn({ err: error, tenant: tenantId }, "A message queue could not be read");
        }
      })
      .finally(() => this.#busy.delete(tenantId));
    this.#busy.set(tenantId, work);
    return work;
  }

  async #sweepAll(): Promise<void> {
    const tenants = await this.#database.registry.query<{ id: number }[]>`
      select id from public.tenants where status <> 'suspended' order by id`;
    for (const { id } of tenants) {
      if (this.#isStopped) return;
      await this.wake(id);
    }
  }

  async #drain(tenantId: number): Promise<void> {
    for (;;) {
      if (this.#isStopped) return;
      this.#again.delete(tenantId);
      const claimed = await this.#claim(tenantId);
      for (const message of claimed) await this.#deliver(tenantId, message);
      if (claimed.length < BATCH && !this.#again.has(tenantId)) return;
    }
  }

  #claim(tenantId: number): Promise<ClaimedMessage[]> {
    return this.#database.tenant(tenantId).query<ClaimedMessage[]>`
      update messages
         set attempts        = attempts + 1,
             next_attempt_at = now() + make_interval(secs => ${CLAIM_SECONDS}::int)
       where id in (
         select id from messages
          where next_attempt_at <= now()
          order by next_attempt_at
          limit ${BATCH}::int
          for update skip locked)
      returning id, sealed, attempts`;
  }

  async #deliver(tenantId: number, { id, sealed, attempts }: ClaimedMessage): Promise<void> {
    const tenant = this.#database.tenant(tenantId);
    try {
      const [row] = await tenant.query<{ is_expired: boolean }[]>`
        select expires_at <= now() as is_expired from messages where id = ${id}`;
      if (!row) return;
      if (row.is_expired) {
        this.#log.warn({ tenant: tenantId, message: id }, "A message was too old to send");
      } else {
        // What queueMessage sealed.
        const message = JSON.parse(this.#keys.open(sealed, messageContext(tenantId))) as Message;
        await this.#transports[message.channel].send(message);
      }
      await tenant.query`delete from messages where id = ${id}`;
    } catch (error) {
      const isLast = attempts >= ATTEMPTS_MAX;
      this.#log.warn(
        { err: error, tenant: tenantId, message: id, attempts },
        isLast ? "A message was given up" : "A message could not be sent yet",
      );
      if (isLast) {
        await tenant.query`delete from messages where id = ${id}`;
      } else {
        await tenant.query`
          update messages
             set next_attempt_at = now() + make_interval(secs => ${2 ** attempts}::int)
           where id = ${id}`;
      }
    }
  }
}
