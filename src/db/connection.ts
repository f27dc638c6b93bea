import net from "node:net";
import type { Readable, Writable } from "node:stream";
import postgres from "postgres";
import { AppError } from "../errors.ts";
import { SilenceWatch } from "./silence-watch.ts";
import { DRIVER_TYPES } from "./values.ts";

/**
 * Whose rights and tables a transaction sees: the role it takes on, and a `search_path` of that one
 * schema, or of none. Names are made from numbers or constants by the callers, never from input.
 */
export interface Scope {
  readonly role: string;
  readonly schema: string;
}

export interface ConnectionOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /** The server ends a statement that runs longer. */
  readonly statementTimeoutMs: number;
  /** The server ends a statement that waits longer for a lock. */
  readonly lockTimeoutMs: number;
  /** The server ends a session that is idle in a transaction for longer. */
  readonly idleInTransactionTimeoutMs: number;
  /** Called for every NOTIFY on a channel this connection LISTENs to. */
  readonly onNotification?: (channel: string, payload: string) => void;
}

/** A statement ready to be sent. It is planned for this once. */
export interface OutgoingStatement {
  readonly text: string;
  /** In PostgreSQL's text format. */
  readonly values: readonly (string | null)[];
}

/** Rows as objects, in the server's order. */
export type Rows = postgres.RowList<postgres.Row[]>;

/** Time to open a socket and log in, in milliseconds. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** What holds for every session, as the server is told when it begins. */
export function settingsOf(options: ConnectionOptions): Readonly<Record<string, string | number>> {
  return {
    // Nothing is found until a transaction names its schema. One empty name, quoted: postgres.js
    // does not send a setting that is an empty string, and `public` would stay.
    search_path: '""',
    statement_timeout: options.statementTimeoutMs,
    lock_timeout: options.lockTimeoutMs,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs,
    // One plan per statement instead of five custom ones and then a generic one beside them.
    plan_cache_mode: "force_generic_plan",
    jit: "off",
    // What JavaScript can read, whatever the server's setting: an offset of New York in 1850 has
    // seconds.
    TimeZone: "UTC",
    DateStyle: "ISO",
  };
}

/**
 * One backend, for as long as it lives: opened once, never reconnected. postgres.js 3.4.9 reconnects
 * by itself, and a caller that holds on to a connection then writes into whatever transaction runs
 * there next; so its socket can be made only once, and whoever owns a connection replaces it.
 *
 * Everything sent in one synchronous block goes out in order and side by side, in one write below
 * 1 KB, and is answered in order.
 */
export class Connection {
  readonly pid: number;

  readonly #client: postgres.Sql;
  readonly #socket: net.Socket | undefined;
  #isOpen = true;
  readonly #onLost = new Set<(reason: AppError) => void>();
  readonly #silence: SilenceWatch;

  private constructor(
    client: postgres.Sql,
    socket: net.Socket | undefined,
    pid: number,
    allowedMs: number,
  ) {
    this.#client = client;
    this.#socket = socket;
    this.pid = pid;
    this.#silence = new SilenceWatch(allowedMs, (reason) => this.destroy(reason));
  }

  /**
   * Opens a connection and logs in.
   *
   * @throws AppError `not_ready` when the server cannot be reached or refuses
   */
  static async open(options: ConnectionOptions): Promise<Connection> {
    let connection: Connection | undefined;
    let socketsMade = 0;
    let socket: net.Socket | undefined;
    const clientOptions = {
      max: 1,
      max_pipeline: 10_000,
      max_lifetime: null,
      idle_timeout: 0,
      connect_timeout: CONNECT_TIMEOUT_MS / 1000,
      fetch_types: false,
      types: DRIVER_TYPES,
      onnotice: () => undefined,
      onnotify: options.onNotification,
      onclose: () => connection?.destroy(new Error("The connection was closed")),
      socket: async (target: { host: string[]; port: number[]; path: string | false }) => {
        if (socketsMade > 0) throw new Error("A connection is not opened twice");
        socketsMade += 1;
        socket = await openSocket(target);
        return socket;
      },
      connection: { application_name: options.applicationName, ...settingsOf(options) },
    };
    // `socket` is read by postgres.js (connection.js, createSocket) but missing in its types.
    const client = postgres(options.url, clientOptions as object);
    try {
      const [row] = await client.unsafe<{ pid: number }[]>("select pg_backend_pid() as pid");
      if (!row) throw new Error("The server did not name its process");
      connection = new Connection(
        client,
        socket,
        row.pid,
        options.statementTimeoutMs + options.lockTimeoutMs,
      );
      return connection;
    } catch (error) {
      socket?.destroy();
      void client.end({ timeout: 0 });
      throw new AppError("not_ready", "The database cannot be reached.", {
        cause: error,
        retryAfterSeconds: 1,
      });
    }
  }

  /**
   * Calls back once when the connection can no longer be used.
   *
   * @returns takes the callback back
   */
  onLost(callback: (reason: AppError) => void): () => void {
    this.#onLost.add(callback);
    return () => this.#onLost.delete(callback);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * Sends one statement, or a text of several without values, as it is and in whatever state the
   * connection is.
   *
   * @throws AppError `not_ready` when the connection is lost; postgres.PostgresError from the server
   */
  send(statement: OutgoingStatement | string): Promise<Rows> {
    this.#requireOpen();
    this.#silence.expectAnswer();
    const query =
      typeof statement === "string" ? this.#client.unsafe(statement) : this.#prepare(statement);
    return this.#start(query).then(
      (rows) => {
        this.#silence.answered();
        return rows;
      },
      (error: unknown) => {
        const failure = this.#failed(error);
        this.#silence.answered();
        throw failure;
      },
    );
  }

  /**
   * What a `copy … to stdout` writes. It is to be read to its end before anything else is sent.
   * https://www.postgresql.org/docs/18/sql-copy.html
   *
   * @throws AppError `not_ready` when the connection is lost; postgres.PostgresError from the server
   */
  async copyOut(text: string): Promise<Readable> {
    this.#requireOpen();
    return this.#client
      .unsafe(text)
      .readable()
      .catch((error: unknown) => {
        throw this.#failed(error);
      });
  }

  /**
   * What a `copy … from stdin` reads. It is finished when the server has taken all of it; what the server
   * refuses is the stream's error.
   */
  async copyIn(text: string): Promise<Writable> {
    this.#requireOpen();
    const query = this.#client.unsafe(text);
    const stream = await query.writable().catch((error: unknown) => {
      throw this.#failed(error);
    });
    // What the server says after the last row, postgres.js tells nobody: the query was answered with the
    // stream, and that would wait for its end for ever.
    (query as unknown as QueryState).reject = (error) => {
      stream.destroy(error instanceof Error ? error : new Error(String(error)));
    };
    return stream;
  }

  /** Waits for what was sent, then says goodbye to the server. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    await this.#client.end({ timeout: 5 });
    this.destroy(new Error("The connection was closed"));
  }

  /** Gives the connection up at once; whatever is on its way fails with `not_ready`. */
  destroy(reason: Error): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#silence.stop();
    const error = lost(reason);
    for (const callback of this.#onLost) callback(error);
    this.#onLost.clear();
    // The driver would say goodbye and wait for the answer; a dead peer gives none, and answers to
    // statements given up must not come in any more.
    this.#socket?.destroy();
    void this.#client.end({ timeout: 0 });
  }

  #prepare(statement: OutgoingStatement): Query {
    const query = this.#client.unsafe(statement.text, [], {
      prepare: false,
      // Not in the types: without it, `unsafe` without arguments uses the simple protocol.
      simple: false,
    } as postgres.UnsafeQueryOptions);
    // Arguments handed to `unsafe` make postgres.js ask the server for their types before it binds
    // them: one more round trip, in the middle of a transaction that others are queued behind. Ours
    // are text already, so they are put where it would put them after that question.
    (query as unknown as { parameters: readonly (string | null)[] }).parameters = statement.values;
    return query;
  }

  /** Queries of postgres.js are lazy: this one is sent now, in the order of the calls. */
  #start(query: Query): Query {
    return query.execute();
  }

  #requireOpen(): void {
    if (!this.#isOpen) throw lost(new Error("The connection was closed before"));
  }

  /** The server's own errors leave the connection usable; anything else ends it. */
  #failed(error: unknown): unknown {
    if (error instanceof postgres.PostgresError && error.severity === "ERROR") return error;
    const reason = error instanceof Error ? error : new Error(String(error));
    this.destroy(reason);
    return lost(reason);
  }
}

type Query = ReturnType<postgres.Sql["unsafe"]>;

/** What postgres.js (query.js) keeps on a query and leaves out of its types. */
interface QueryState {
  reject: (error: unknown) => void;
}

export function lost(reason: Error): AppError {
  return new AppError("not_ready", "The connection to the database was lost. Try again.", {
    cause: reason,
    retryAfterSeconds: 1,
  });
}

/** Opens the transaction and takes on the scope, as one message of the simple protocol. */
export function beginText({ role, schema }: Scope): string {
  return `begin; set local role ${role}; set local search_path to ${schema || "''"}`;
}

/** An open socket that sends what it is given at once. */
async function openSocket(target: {
  host: string[];
  port: number[];
  path: string | false;
}): Promise<net.Socket> {
  const host = target.host[0] ?? "localhost";
  const socket = target.path
    ? net.connect({ path: target.path })
    : net.connect({ host, port: target.port[0] ?? 5432, noDelay: true });
  // postgres.js reads it for the name in the certificate.
  Object.assign(socket, { host });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
      socket.setTimeout(CONNECT_TIMEOUT_MS, () =>
        reject(new Error(`No connection within ${CONNECT_TIMEOUT_MS} ms`)),
      );
    });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.setTimeout(0);
  socket.removeAllListeners();
  return socket;
}
