import { AppError } from "../errors.ts";
import {
  beginText,
  Connection,
  type ConnectionOptions,
  type Rows,
  type Scope,
} from "./connection.ts";
import { FairQueue } from "./fair-queue.ts";
import type { SlowStatements } from "./slow-statements.ts";
import { type SqlValue, sql, type Statement } from "./sql.ts";

/**
 * A transaction of one tenant, open for as long as its callback runs. The only handle with which
 * several statements can be run with awaits between them; of no use once the callback has ended.
 */
export interface TenantSql {
  /** Runs a statement at once and gives its rows. Throws what {@link TransactionPool.run} throws. */
  <Rows extends readonly object[] = readonly object[]>(
    strings: TemplateStringsArray,
    ...values: readonly SqlValue[]
  ): Promise<Rows[number][]>;
  /**
   * Runs `work` in a savepoint: when it throws, what it wrote is undone and the transaction goes on.
   * Await it before anything else: what runs beside it is undone with it.
   * https://www.postgresql.org/docs/18/sql-savepoint.html
   */
  savepoint<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Sends a statement together with the commit, which saves a round trip: for what nothing after it in the
   * transaction reads, as an entry of a log. Should it fail, nothing is committed, and the transaction throws its error. Asked
   * for inside a savepoint it is forgotten when that is undone.
   */
  withCommit(statement: Statement): void;
  /**
   * Calls back once the server has said that it committed, in the order of the calls and before the
   * transaction's promise resolves. Never when it is rolled back, nor when the connection is lost
   * before that answer; what was asked for inside a savepoint is forgotten when that is undone. The
   * change stands whatever `callback` does: what it throws becomes a warning of the process.
   */
  afterCommit(callback: () => void): void;
}

export interface TransactionPoolOptions extends ConnectionOptions {
  /** Connections, so transactions at once, at most. */
  readonly connectionsMax: number;
  /** Of these, one tenant's at most: some are left to the others. */
  readonly connectionsPerTenantMax: number;
  /** Transactions waiting for a connection at most; past it `overloaded`. */
  readonly queueMax: number;
  /** Of these, one tenant's at most: a loud one is told before it keeps the others out. */
  readonly queuePerTenantMax: number;
  /** How long a transaction waits for a connection. */
  readonly queueTimeoutMs: number;
  /** Told of statements that take long. */
  readonly slow?: SlowStatements | undefined;
}

/**
 * Different schemas one connection serves before it is replaced: the server keeps catalogue entries
 * of every table a backend has touched.
 */
const SCHEMAS_PER_CONNECTION_MAX = 1_000;

interface Slot {
  connection: Connection | undefined;
  readonly schemas: Set<string>;
}

interface Waiter {
  readonly take: (slot: Slot) => void;
  readonly refuse: (error: AppError) => void;
}

/**
 * Connections for transactions with awaits between their statements, and for statements that may be
 * slow: one transaction has one connection to itself. Nothing is kept prepared on them.
 */
export class TransactionPool {
  readonly #options: TransactionPoolOptions;
  readonly #idle: Slot[] = [];
  readonly #waiters = new FairQueue<Waiter>();
  readonly #slots = new Set<Slot>();
  /** Transactions that have a connection, by schema; only of those that have some. */
  readonly #running = new Map<string, number>();
  #isClosed = false;

  constructor(options: TransactionPoolOptions) {
    this.#options = options;
  }

  /** Transactions that run or wait. */
  get load(): number {
    return this.#slots.size - this.#idle.length + this.#waiters.length;
  }

  /**
   * Runs `work` in one transaction of the scope and commits when it returns. When it throws,
   * everything is undone and its error is thrown. A statement that fails and is caught inside
   * without a savepoint still fails the whole: PostgreSQL then commits nothing, and this throws.
   *
   * @throws AppError `overloaded` when no connection comes free, `not_ready` when the connection is
   *   lost (before the commit was sent: nothing happened; after: unknown);
   *   postgres.PostgresError from the server
   */
  async run<T>(scope: Scope, work: (tx: TenantSql) => Promise<T>): Promise<T> {
    const slot = await this.#take(scope.schema);
    try {
      const connection = await this.#connectionOf(slot);
      slot.schemas.add(scope.schema);
      return await runTransaction(connection, scope, work, this.#options.slow);
    } finally {
      this.#giveBack(slot, scope.schema);
    }
  }

  /** Refuses new transactions, waits for those that run and closes every connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiter of this.#waiters.takeAll()) waiter.refuse(stopping());
    await Promise.all([...this.#idle].map((slot) => this.#discard(slot)));
    while (this.#slots.size > 0) {
      // A transaction that hangs is ended by idle_in_transaction_session_timeout and
      // statement_timeout; giving its slot back discards it.
      await new Promise<void>((resolve) => this.#onDiscard.push(resolve));
    }
  }

  readonly #onDiscard: (() => void)[] = [];

  #take(schema: string): Promise<Slot> {
    if (this.#isClosed) throw stopping();
    const slot = this.#mayRun(schema) ? this.#free() : undefined;
    if (slot) {
      this.#count(schema, 1);
      return Promise.resolve(slot);
    }
    const { queueMax, queuePerTenantMax, queueTimeoutMs } = this.#options;
    if (this.#waiters.length >= queueMax || this.#waiters.lengthOf(schema) >= queuePerTenantMax) {
      throw overloaded();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (this.#waiters.remove(schema, waiter)) reject(overloaded());
      }, queueTimeoutMs);
      const waiter: Waiter = {
        take: (taken) => {
          clearTimeout(timer);
          resolve(taken);
        },
        refuse: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiters.push(schema, waiter);
    });
  }

  /** A connection that nobody uses, or one more where there may be one. */
  #free(): Slot | undefined {
    const idle = this.#idle.pop();
    if (idle || this.#slots.size >= this.#options.connectionsMax) return idle;
    const slot: Slot = { connection: undefined, schemas: new Set() };
    this.#slots.add(slot);
    return slot;
  }

  #mayRun(schema: string): boolean {
    return (this.#running.get(schema) ?? 0) < this.#options.connectionsPerTenantMax;
  }

  #count(schema: string, change: 1 | -1): void {
    const running = (this.#running.get(schema) ?? 0) + change;
    if (running > 0) this.#running.set(schema, running);
    else this.#running.delete(schema);
  }

  async #connectionOf(slot: Slot): Promise<Connection> {
    if (slot.schemas.size > SCHEMAS_PER_CONNECTION_MAX) await slot.connection?.close();
    if (!slot.connection?.isOpen) {
      slot.schemas.clear();
      slot.connection = await Connection.open(this.#options);
    }
    return slot.connection;
  }

  #giveBack(slot: Slot, schema: string): void {
    this.#count(schema, -1);
    if (this.#isClosed) {
      void this.#discard(slot);
      return;
    }
    this.#idle.push(slot);
    // Several may go: of one who had its most running, and of another who waited for a connection.
    for (;;) {
      if (this.#idle.length === 0 && this.#slots.size >= this.#options.connectionsMax) return;
      let next: string | undefined;
      const waiter = this.#waiters.take((waiting) => {
        if (!this.#mayRun(waiting)) return false;
        next = waiting;
        return true;
      });
      const free = waiter && this.#free();
      if (!waiter || !free || next === undefined) return;
      this.#count(next, 1);
      waiter.take(free);
    }
  }

  async #discard(slot: Slot): Promise<void> {
    await slot.connection?.close();
    this.#slots.delete(slot);
    for (const resolve of this.#onDiscard.splice(0)) resolve();
  }
}

async function runTransaction<T>(
  connection: Connection,
  scope: Scope,
  work: (tx: TenantSql) => Promise<T>,
  slow: SlowStatements | undefined,
): Promise<T> {
  // The mark that keeps a callback that outlives its transaction, or its backend, from writing into
  // the next one's.
  let isEnded = false;
  let running = 0;
  let savepoints = 0;
  let failure: unknown;
  const callbacks: (() => void)[] = [];
  const last: (() => Promise<Rows>)[] = [];

  const requireGoingOn = () => {
    if (isEnded) throw new Error("The transaction has ended");
  };
  const send = async (text: string): Promise<Rows> => {
    requireGoingOn();
    return connection.send(text);
  };
  /**
   * Counts what has not yet ended. What nobody awaits fails the transaction below, not the process
   * (as an unhandled rejection).
   */
  const watch = <R>(part: Promise<R>): Promise<R> => {
    running += 1;
    const ended = () => {
      running -= 1;
    };
    part.then(ended, ended);
    return part;
  };
  const run = ({ text, values }: Statement) => {
    const sent = connection.send({ text: `/*${scope.schema}*/ ${text}`, values });
    return slow ? slow.watch(scope.role, text, sent) : sent;
  };
  // Async: a connection that was lost is a rejection.
  const query = (strings: TemplateStringsArray, ...parameters: SqlValue[]) =>
    watch(
      (async () => {
        requireGoingOn();
        return run(sql(strings, ...parameters));
      })(),
    );
  const withCommit = (statement: Statement) => {
    requireGoingOn();
    last.push(async () => run(statement));
  };
  const inSavepoint = async <R>(inner: () => Promise<R>): Promise<R> => {
    savepoints += 1;
    const name = `s${savepoints}`;
    const [callbacksBefore, lastBefore] = [callbacks.length, last.length];
    await send(`savepoint ${name}`);
    try {
      const result = await inner();
      await send(`release savepoint ${name}`);
      return result;
    } catch (error) {
      callbacks.length = callbacksBefore;
      last.length = lastBefore;
      await send(`rollback to savepoint ${name}; release savepoint ${name}`);
      throw error;
    }
  };
  const savepoint = <R>(inner: () => Promise<R>) => watch(inSavepoint(inner));
  const afterCommit = (callback: () => void) => {
    requireGoingOn();
    callbacks.push(callback);
  };
  // The rows' type is the caller's word, as in every SQL client.
  const tx = Object.assign(query, { savepoint, withCommit, afterCommit }) as TenantSql;

  // Sent without waiting: the first statement, or the commit, follows in the same write. Should it fail, whatever
  // follows fails too, the commit is a rollback, and this error is the one to tell.
  const begun = connection.send(beginText(scope)).catch((error: unknown) => {
    failure = error;
  });
  try {
    const result = await unlessLost(connection, work(tx));
    isEnded = true;
    if (running > 0) {
      throw new Error(`${running} statements of the transaction were not awaited`);
    }
    // After one that fails the commit is a rollback. Async: a connection that was lost is a rejection.
    const outcomes = await Promise.all(
      [...last, async () => connection.send("commit")].map((sendOne) => sendOne()),
    );
    const command = outcomes.at(-1)?.command;
    if (command !== "COMMIT") {
      throw new Error("A statement of the transaction failed and its error was swallowed");
    }
    for (const callback of callbacks) callSafely(callback);
    return result;
  } catch (error) {
    isEnded = true;
    await begun;
    if (connection.isOpen) {
      await connection.send("rollback").catch(() => connection.destroy(asError(error)));
    }
    throw failure ?? error;
  }
}

/** The transaction has committed: whoever asked to be told cannot make it look as if it had not. */
function callSafely(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    process.emitWarning(asError(error));
  }
}

/** What `work` gives, or a rejection as soon as the connection it may be waiting for is lost. */
async function unlessLost<T>(connection: Connection, work: Promise<T>): Promise<T> {
  let forget: () => void = () => undefined;
  const lost = new Promise<never>((_, reject) => {
    forget = connection.onLost(reject);
  });
  try {
    return await Promise.race([work, lost]);
  } finally {
    forget();
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function overloaded(): AppError {
  return new AppError("overloaded", "Too many requests are waiting for the database.", {
    retryAfterSeconds: 1,
  });
}

function stopping(): AppError {
  return new AppError("not_ready", "The service is stopping.", { retryAfterSeconds: 1 });
}
