import net from "node:net";
import type { Readable, Writable } from "node:stream";
import postgres from "postgres";
import { AppError } from "../errors.ts";

/**
 * Whose rights and tables a transaction sees: `set local role`, and a `search_path` of that one
 * schema. Names are made from numbers or constants by the callers, never from input.
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

/** A statement ready to be sent: its text with the tenant's tag, and whether to keep it prepared. */
export interface OutgoingStatement {
  readonly text: string;
  readonly values: readonly (string | null)[];
  readonly isPrepared: boolean;
  /** Told the name under which the server keeps it, whether it then succeeded or failed. */
  readonly onPrepared?: (name: string) => void;
}

/** Rows as objects, in the server's order. */
export type Rows = postgres.RowList<postgres.Row[]>;

/** Time to open a socket and log in, in milliseconds. */
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * How long past `statement_timeout` an answer may stay out before the socket is taken for dead. The
 * server cannot tell us when the network is gone.
 */
const SILENCE_GRACE_MS = 2_000;

/** How often it is looked for. */
const SILENCE_TICK_MS = 1_000;

const asIs = (value: string): string => value;

/** Values arrive here encoded (sql.ts), so nothing is serialized twice; int8 comes back as a number. */
const TYPES = {
  bigint: { to: 20, from: [20], serialize: asIs, parse: Number },
  boolean: { to: 16, from: [16], serialize: asIs, parse: (text: string) => text === "t" },
  bytea: {
    to: 17,
    from: [17],
    serialize: asIs,
    parse: (text: string) => Buffer.from(text.slice(2), "hex"),
  },
  // A day has no time zone: it stays `2026-11-23`. The driver's own way fails on days it cannot read.
  day: { to: 1082, from: [1082], serialize: asIs, parse: asIs },
  date: {
    to: 1184,
    from: [1114, 1184],
    serialize: asIs,
    parse: (text: string) => new Date(text),
  },
  json: {
    to: 114,
    from: [114, 3802],
    serialize: asIs,
    parse: (text: string): unknown => JSON.parse(text),
  },
};

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
  #waiting = 0;
  #silentTicks = 0;
  readonly #silenceTimer: NodeJS.Timeout;

  private constructor(
    client: postgres.Sql,
    socket: net.Socket | undefined,
    pid: number,
    silenceMs: number,
  ) {
    this.#client = client;
    this.#socket = socket;
    this.pid = pid;
    // Ticks are counted, not the clock read: while this process is busy there are none, and an answer
    // may lie unread, or the question unsent.
    const ticksMax = Math.ceil(silenceMs / SILENCE_TICK_MS);
    this.#silenceTimer = setInterval(() => {
      if (this.#waiting === 0) return;
      this.#silentTicks += 1;
      if (this.#silentTicks > ticksMax) {
        this.destroy(new Error("The server has not answered in time"));
      }
    }, SILENCE_TICK_MS);
    this.#silenceTimer.unref();
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
      types: TYPES,
      onnotice: () => undefined,
      onnotify: options.onNotification,
      onclose: () => connection?.destroy(new Error("The connection was closed")),
      socket: async (target: { host: string[]; port: number[]; path: string | false }) => {
        if (socketsMade > 0) throw new Error("A connection is not opened twice");
        socketsMade += 1;
        socket = await openSocket(target);
        return socket;
      },
      connection: {
        application_name: options.applicationName,
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
      },
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
        options.statementTimeoutMs + options.lockTimeoutMs + SILENCE_GRACE_MS,
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
   * Runs statements in one transaction, in the scope's role and schema, in one round trip: nothing
   * is awaited between `begin` and `commit`. Resolves only when the server has said COMMIT (a failed
   * transaction's commit answers ROLLBACK); rejects with the first error. When the connection is
   * lost after the commit was sent its outcome is unknown: that, too, is a rejection.
   *
   * @throws AppError `not_ready` when the connection is lost; postgres.PostgresError from the server
   */
  runTransaction(scope: Scope, statements: readonly OutgoingStatement[]): Promise<Rows[]> {
    const results: Rows[] = [];
    let failure: unknown;
    const fail = (error: unknown) => {
      failure ??= this.#failed(error);
    };
    this.#expectAnswer();
    this.#start(this.#client.unsafe(beginText(scope))).then(undefined, fail);
    statements.forEach((statement, index) => {
      const query = this.#prepare(statement);
      this.#start(query).then(
        (rows) => {
          this.#silentTicks = 0;
          tellName(query, statement);
          results[index] = rows;
        },
        (error: unknown) => {
          tellName(query, statement);
          fail(error);
        },
      );
    });
    return this.#start(this.#client.unsafe("commit")).then(
      (answer) => {
        this.#answered();
        if (failure !== undefined) throw failure;
        if (answer.command !== "COMMIT") {
          throw new Error(`The transaction ended with ${answer.command}`);
        }
        return results;
      },
      (error: unknown) => {
        fail(error);
        this.#answered();
        throw failure;
      },
    );
  }

  /**
   * Sends one statement, or a text of several without values, as it is and in whatever state the
   * connection is.
   *
   * @throws AppError `not_ready` when the connection is lost; postgres.PostgresError from the server
   */
  send(statement: OutgoingStatement | string): Promise<Rows> {
    this.#expectAnswer();
    const query =
      typeof statement === "string" ? this.#client.unsafe(statement) : this.#prepare(statement);
    return this.#start(query).then(
      (rows) => {
        this.#answered();
        return rows;
      },
      (error: unknown) => {
        const failure = this.#failed(error);
        this.#answered();
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
    clearInterval(this.#silenceTimer);
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
      prepare: statement.isPrepared,
      // Not in the types: without it, `unsafe` without arguments uses the simple protocol.
      simple: false,
    } as postgres.UnsafeQueryOptions);
    if (statement.isPrepared) void Object.defineProperty(query, "retried", NOT_RETRIED);
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

  #expectAnswer(): void {
    this.#requireOpen();
    if (this.#waiting === 0) this.#silentTicks = 0;
    this.#waiting += 1;
  }

  #answered(): void {
    this.#waiting -= 1;
    this.#silentTicks = 0;
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

/** What postgres.js (connection.js, query.js) keeps on a query and leaves out of its types. */
interface QueryState {
  statement: { name: string; columns?: unknown } | null;
  cancelled: unknown;
  reject: (error: unknown) => void;
}

/**
 * postgres.js sends a prepared statement whose plan is stale once more by itself, and marks it with
 * `retried` first. By then `commit` is on its way: it would run outside the transaction, behind other
 * tenants' ones, and its error would be told too late. Marked as cancelled it is not sent.
 */
const NOT_RETRIED: PropertyDescriptor & ThisType<QueryState> = {
  set(error: unknown) {
    this.cancelled = true;
    this.reject(error);
  },
};

/** The server keeps what it could parse and describe, so what has columns (or none, as a list). */
function tellName(query: Query, { isPrepared, onPrepared }: OutgoingStatement): void {
  if (!isPrepared || !onPrepared) return;
  const { statement } = query as unknown as QueryState;
  if (statement?.columns !== undefined) onPrepared(statement.name);
}

function lost(reason: Error): AppError {
  return new AppError("not_ready", "The connection to the database was lost. Try again.", {
    cause: reason,
    retryAfterSeconds: 1,
  });
}

/** Opens the transaction and takes on the scope, as one message of the simple protocol. */
export function beginText({ role, schema }: Scope): string {
  return `begin; set local role ${role}; set local search_path to ${schema}`;
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
