import { AppError } from "../errors.ts";
import { AdminConnection } from "./admin.ts";
import type { ConnectionOptions } from "./connection.ts";

export interface AdminPoolOptions {
  /** Of the role that owns the tables. */
  readonly url: string;
  /** Connections at most; opened when they are needed. */
  readonly connectionsMax?: number;
  /** Callers that wait for one at most. */
  readonly queueMax?: number;
  readonly connection?: Partial<ConnectionOptions>;
}

/** Operators are few: what a handful of them does at once. */
const CONNECTIONS_MAX = 4;
const QUEUE_MAX = 50;

/** How long one statement of an operator's request may take, or wait for a lock. */
const TIMEOUTS = {
  statementTimeoutMs: 30_000,
  lockTimeoutMs: 3_000,
  idleInTransactionTimeoutMs: 30_000,
  applicationName: "ouvira platform",
} as const;

/**
 * Connections of the role that owns the tables, for requests of operators. One caller has a connection at a
 * time; one that was lost, or left in the middle of a transaction, is replaced.
 */
export class AdminPool {
  readonly #options: AdminPoolOptions;
  readonly #idle: AdminConnection[] = [];
  readonly #waiting: ((isOpen: boolean) => void)[] = [];
  #taken = 0;
  #isClosed = false;

  constructor(options: AdminPoolOptions) {
    this.#options = options;
  }

  /**
   * Gives `work` a connection.
   *
   * @throws AppError `overloaded` when too many wait, `not_ready` when the database cannot be reached
   */
  async use<T>(work: (admin: AdminConnection) => Promise<T>): Promise<T> {
    await this.#take();
    let admin: AdminConnection | undefined;
    try {
      admin = await this.#connection();
      return await work(admin);
    } finally {
      this.#giveBack(admin);
    }
  }

  /** Runs `work` in one transaction: all of it, or nothing. */
  transaction<T>(work: (admin: AdminConnection) => Promise<T>): Promise<T> {
    return this.use((admin) => admin.transaction(() => work(admin)));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const wake of this.#waiting.splice(0)) wake(false);
    await Promise.all(this.#idle.splice(0).map((admin) => admin.close()));
  }

  async #take(): Promise<void> {
    const { connectionsMax = CONNECTIONS_MAX, queueMax = QUEUE_MAX } = this.#options;
    if (this.#isClosed) throw stopping();
    if (this.#taken < connectionsMax) {
      this.#taken += 1;
      return;
    }
    if (this.#waiting.length >= queueMax) {
      throw new AppError("overloaded", "Too many operators' requests are waiting.", {
        retryAfterSeconds: 1,
      });
    }
    const isOpen = await new Promise<boolean>((resolve) => this.#waiting.push(resolve));
    if (!isOpen) throw stopping();
  }

  async #connection(): Promise<AdminConnection> {
    for (let admin = this.#idle.pop(); admin; admin = this.#idle.pop()) {
      if (admin.isOpen) return admin;
    }
    const { url, connection } = this.#options;
    return AdminConnection.open(url, { ...TIMEOUTS, ...connection });
  }

  #giveBack(admin: AdminConnection | undefined): void {
    if (admin?.isOpen) {
      if (this.#isClosed) void admin.close();
      else this.#idle.push(admin);
    }
    const next = this.#waiting.shift();
    if (next) next(true);
    else this.#taken -= 1;
  }
}

function stopping(): AppError {
  return new AppError("not_ready", "The service is stopping.", { retryAfterSeconds: 1 });
}
