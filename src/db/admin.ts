import type { Readable, Writable } from "node:stream";
import { Connection, type ConnectionOptions } from "./connection.ts";
import { type RunSql, type SqlValue, sql } from "./sql.ts";

/**
 * How long DDL may run or wait for a lock. A migration that waits for a busy table makes every
 * later reader of it wait too, so it gives up soon and is tried again.
 */
const TIMEOUTS = {
  statementTimeoutMs: 60_000,
  lockTimeoutMs: 3_000,
  idleInTransactionTimeoutMs: 60_000,
};

/**
 * A connection of the role that owns the tables: migrations, provisioning, checks. Never used to
 * serve a request.
 */
export class AdminConnection {
  readonly #connection: Connection;
  #isInTransaction = false;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** @throws AppError `not_ready` when the server cannot be reached or refuses */
  static async open(
    url: string,
    options: Partial<ConnectionOptions> = {},
  ): Promise<AdminConnection> {
    return new AdminConnection(
      await Connection.open({ ...TIMEOUTS, applicationName: "ouvira admin", ...options, url }),
    );
  }

  /** False once the connection is lost: it is not opened again. */
  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  readonly query: RunSql = async <Rows extends readonly object[]>(
    strings: TemplateStringsArray,
    ...values: readonly SqlValue[]
  ) => {
    const { text, values: encoded } = sql(strings, ...values);
    const rows = await this.#connection.send({ text, values: encoded });
    // The rows' type is the caller's word, as in every SQL client.
    return rows as Rows[number][];
  };

  /** Runs a text of one or more statements, without values. */
  async execute(text: string): Promise<void> {
    await this.#connection.send(text);
  }

  /** See {@link Connection.copyOut}. */
  copyOut(text: string): Promise<Readable> {
    return this.#connection.copyOut(text);
  }

  /** See {@link Connection.copyIn}. */
  copyIn(text: string): Promise<Writable> {
    return this.#connection.copyIn(text);
  }

  /**
   * Runs `work` between `begin` and commit; when it throws, nothing of it stays. Within another one it is part
   * of that.
   */
  async transaction<T>(work: () => Promise<T>, begin = "begin"): Promise<T> {
    if (this.#isInTransaction) return work();
    await this.execute(begin);
    this.#isInTransaction = true;
    try {
      const result = await work();
      const { command } = await this.#connection.send("commit");
      if (command !== "COMMIT") throw new Error("A statement of the transaction failed");
      return result;
    } catch (error) {
      if (this.#connection.isOpen) await this.execute("rollback");
      throw error;
    } finally {
      this.#isInTransaction = false;
    }
  }

  /** Gives the connection up at once: the server rolls back what was under way. */
  abandon(reason: Error): void {
    this.#connection.destroy(reason);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}

/** Opens a connection, uses it and closes it whatever happens. */
export async function withAdmin<T>(
  url: string,
  work: (admin: AdminConnection) => Promise<T>,
  options: Partial<ConnectionOptions> = {},
): Promise<T> {
  const admin = await AdminConnection.open(url, options);
  try {
    return await work(admin);
  } finally {
    await admin.close();
  }
}

/** A name as an SQL identifier. https://www.postgresql.org/docs/18/sql-syntax-lexical.html */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A string as an SQL literal, for the statements that take no parameters (`create role`). */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
