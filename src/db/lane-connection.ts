import type { Socket } from "node:net";
import { Client } from "pg";
import { type DatabaseError, parse, serialize } from "pg-protocol";
import postgres from "postgres";
import { AppError } from "../errors.ts";
import {
  CONNECT_TIMEOUT_MS,
  type ConnectionOptions,
  lost,
  type Scope,
  settingsOf,
} from "./connection.ts";
import type { Column, Prepared } from "./prepared-statements.ts";
import { SilenceWatch } from "./silence-watch.ts";
import type { SlowStatements } from "./slow-statements.ts";
import { parserOf } from "./values.ts";

export interface LaneConnectionOptions extends ConnectionOptions {
  /** Told of transactions that take long. */
  readonly slow?: SlowStatements | undefined;
}

/** A statement ready to be sent. */
export interface LaneStatement {
  readonly text: string;
  /** In PostgreSQL's text format. */
  readonly values: readonly (string | null)[];
  /** How the server keeps it; undefined when it is planned for this once. */
  readonly prepared: Prepared | undefined;
}

/** Takes on a tenant's role and schema until the transaction ends; kept prepared under this name. */
const SCOPE_NAME = "scope";
const SCOPE_TEXT = "select set_config('role', $1, true), set_config('search_path', $2, true)";

const EXECUTE = serialize.execute();
const SYNC = serialize.sync();
const DESCRIBE_UNNAMED = serialize.describe({ type: "S", name: "" });

/** What was sent up to one Sync, and what of its answer has come. */
interface Exchange {
  /** What its first statement takes on; undefined for what needs no scope. */
  readonly role: string | undefined;
  readonly sentAt: number;
  readonly statements: readonly LaneStatement[];
  readonly results: object[][];
  /** The statement that is being answered. */
  index: number;
  /** Columns of a statement that is not kept. */
  columns: readonly Column[];
  failure: postgres.PostgresError | undefined;
  readonly resolve: (rows: object[][]) => void;
  readonly reject: (error: unknown) => void;
}

/** A message of the server, as pg-protocol reads it; of each kind the fields that are read here. */
interface ServerMessage {
  readonly name: string;
  /** Of `rowDescription`, and of `dataRow`. */
  readonly fields: readonly FieldDescription[] | readonly (string | null)[];
  /** Of `readyForQuery`: `I` outside of a transaction. */
  readonly status: string;
}

interface FieldDescription {
  readonly name: string;
  readonly dataTypeID: number;
}

/**
 * One backend for transactions that are a single write: role, schema and statements go out together and end
 * with one Sync, which commits them, or with the first error, after which the server skips the rest. So what
 * fails runs nothing, least of all in the scope before it, and there is one answer to wait for.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 *
 * Connected and logged in by pg; from then on it speaks the protocol with pg-protocol, because neither pg nor
 * postgres.js sends several statements with values before a Sync. Opened once, never again: whoever owns it
 * replaces it.
 */
export class LaneConnection {
  /** The server's process. */
  readonly pid: number;

  readonly #socket: Socket;
  readonly #silence: SilenceWatch;
  readonly #slow: SlowStatements | undefined;
  /** When the server last had nothing older to do. */
  #answeredAt = 0;
  readonly #onLost = new Set<(reason: AppError) => void>();
  /** Oldest first: the server answers in order. */
  readonly #exchanges: Exchange[] = [];
  /** Messages that take on a scope, by role. */
  readonly #scopes = new Map<string, Buffer>();
  #outgoing: Uint8Array[] = [];
  #isOpen = true;

  private constructor(socket: Socket, pid: number, options: LaneConnectionOptions) {
    this.#slow = options.slow;
    this.#socket = socket;
    this.pid = pid;
    this.#silence = new SilenceWatch(options.statementTimeoutMs + options.lockTimeoutMs, (reason) =>
      this.destroy(reason),
    );
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy(new Error("The connection was closed")));
    void parse(socket, (message) => {
      try {
        this.#take(message as unknown as ServerMessage);
      } catch (error) {
        this.destroy(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /**
   * Opens a connection and logs in.
   *
   * @throws AppError `not_ready` when the server cannot be reached or refuses
   */
  static async open(options: LaneConnectionOptions): Promise<LaneConnection> {
    const client = new Client({
      ...clientUrl(options.url),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      application_name: options.applicationName,
      options: Object.entries(settingsOf(options))
        .map(([name, value]) => `-c ${name}=${value}`)
        .join(" "),
    });
    // Said by the call that fails.
    client.on("error", () => undefined);
    try {
      await client.connect();
      // In pg's client.js, missing in its types.
      const { connection, processID } = client as unknown as {
        connection: { stream: Socket; removeAllListeners(): void };
        processID: number;
      };
      const { stream } = connection;
      connection.removeAllListeners();
      stream.removeAllListeners("data").removeAllListeners("error");
      const opened = new LaneConnection(stream, processID, options);
      await opened.#exchange([], [serialize.parse({ name: SCOPE_NAME, text: SCOPE_TEXT })]);
      return opened;
    } catch (error) {
      client.end().catch(() => undefined);
      throw new AppError("not_ready", "The database cannot be reached.", {
        cause: error,
        retryAfterSeconds: 1,
      });
    }
  }

  get isOpen(): boolean {
    return this.#isOpen;
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

  /**
   * Runs statements in one transaction, in the scope's role and schema, in one round trip. Resolves when the
   * server has committed; rejects with the first error, after which nothing of it was done. When the
   * connection is lost its outcome is unknown: that, too, is a rejection.
   *
   * @throws AppError `not_ready` when the connection is lost; postgres.PostgresError from the server
   */
  runTransaction(scope: Scope, statements: readonly LaneStatement[]): Promise<object[][]> {
    const messages: Uint8Array[] = [this.#scopeOf(scope)];
    for (const { text, values, prepared } of statements) {
      const name = prepared?.name ?? "";
      if (!prepared) {
        messages.push(serialize.parse({ text }), DESCRIBE_UNNAMED);
      } else if (!prepared.isSent) {
        prepared.isSent = true;
        messages.push(serialize.parse({ name, text }), serialize.describe({ type: "S", name }));
      }
      messages.push(serialize.bind({ statement: name, values: [...values] }), EXECUTE);
    }
    return this.#exchange(statements, messages, scope.role);
  }

  /**
   * Gives statements up that the server keeps.
   *
   * @throws AppError `not_ready` when the connection is lost
   */
  async deallocate(names: readonly string[]): Promise<void> {
    await this.#exchange(
      [],
      names.map((name) => serialize.close({ type: "S", name })),
    );
  }

  /** Waits for what was sent, then says goodbye to the server. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    await this.#exchange([], []).catch(() => undefined);
    if (this.#isOpen)
      await new Promise<void>((resolve) => this.#socket.end(serialize.end(), resolve));
    this.destroy(new Error("The connection was closed"));
  }

  /** Gives the connection up at once; whatever is on its way fails with `not_ready`. */
  destroy(reason: Error): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#silence.stop();
    // What the server said last, such as that it is shutting down, tells more than a closed socket.
    const error = lost(this.#exchanges[0]?.failure ?? reason);
    for (const callback of this.#onLost) callback(error);
    this.#onLost.clear();
    // What is not yet sent stays here, and a dead peer is not waited for.
    this.#socket.destroy();
    for (const { reject } of this.#exchanges.splice(0)) reject(error);
  }

  #exchange(
    statements: readonly LaneStatement[],
    messages: readonly Uint8Array[],
    role?: string,
  ): Promise<object[][]> {
    if (!this.#isOpen) throw lost(new Error("The connection was closed before"));
    this.#silence.expectAnswer(statements.length);
    // All that is sent in one turn of the event loop goes out in one write.
    if (this.#outgoing.length === 0) setImmediate(() => this.#flush());
    this.#outgoing.push(...messages, SYNC);
    return new Promise((resolve, reject) => {
      this.#exchanges.push({
        role,
        sentAt: performance.now(),
        statements,
        results: statements.map(() => []),
        index: role === undefined ? 0 : -1,
        columns: [],
        failure: undefined,
        resolve,
        reject,
      });
    });
  }

  #flush(): void {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    if (this.#isOpen) this.#socket.write(Buffer.concat(outgoing));
  }

  /** Bind and Execute of a scope are the same every time. */
  #scopeOf({ role, schema }: Scope): Buffer {
    let message = this.#scopes.get(role);
    if (!message) {
      const bind = serialize.bind({ statement: SCOPE_NAME, values: [role, schema] });
      // Memory of its own: of a small Buffer's, which is a part of 8 KB, all would be kept with it.
      message = Buffer.alloc(bind.length + EXECUTE.length);
      bind.copy(message);
      EXECUTE.copy(message, bind.length);
      this.#scopes.set(role, message);
    }
    return message;
  }

  #take(message: ServerMessage): void {
    const [exchange] = this.#exchanges;
    if (!exchange) {
      // Unasked: a notice or a setting, or the reason for which the server is about to go.
      if (message.name === "error") this.destroy(errorOf(message));
      return;
    }
    this.#silence.heard();
    switch (message.name) {
      case "dataRow":
        // The scope's row says what was sent.
        if (exchange.index >= 0) addRow(exchange, message.fields as readonly (string | null)[]);
        break;
      case "commandComplete":
      case "emptyQuery":
        exchange.index += 1;
        break;
      case "rowDescription":
        keepColumns(exchange, message.fields as readonly FieldDescription[]);
        break;
      case "noData":
        keepColumns(exchange, []);
        break;
      case "error":
        exchange.failure = errorOf(message);
        break;
      case "readyForQuery":
        this.#finish(exchange, message.status);
        break;
      default:
        break;
    }
  }

  #finish(
    { role, sentAt, statements, failure, results, resolve, reject }: Exchange,
    status: string,
  ): void {
    this.#exchanges.shift();
    this.#silence.answered();
    // The server does one after the other: what was sent early waited for those before it.
    const began = Math.max(sentAt, this.#answeredAt);
    this.#answeredAt = performance.now();
    if (role !== undefined) this.#slow?.note(role, statements, this.#answeredAt - began);
    if (status !== "I") this.destroy(new Error("A statement left a transaction open"));
    if (failure) reject(failure);
    else resolve(results);
  }
}

/** Thousands of tenants are answered the same few rows: their columns are kept once, by names and types. */
const knownColumns = new Map<string, readonly Column[]>();

function columnsOf(fields: readonly FieldDescription[]): readonly Column[] {
  const key = fields.map(({ name, dataTypeID }) => `${name} ${dataTypeID}`).join(",");
  let columns = knownColumns.get(key);
  if (!columns) {
    columns = fields.map(({ name, dataTypeID }) => ({ name, parse: parserOf(dataTypeID) }));
    knownColumns.set(key, columns);
  }
  return columns;
}

function keepColumns(exchange: Exchange, fields: readonly FieldDescription[]): void {
  const columns = columnsOf(fields);
  const prepared = exchange.statements[exchange.index]?.prepared;
  if (prepared) prepared.columns = columns;
  else exchange.columns = columns;
}

function addRow(
  { statements, index, columns: own, results }: Exchange,
  values: readonly (string | null)[],
): void {
  const columns = statements[index]?.prepared?.columns ?? own;
  const row: Record<string, unknown> = {};
  for (let position = 0; position < columns.length; position += 1) {
    const column = columns[position];
    if (!column) continue;
    const value = values[position] ?? null;
    row[column.name] = value === null || !column.parse ? value : column.parse(value);
  }
  results[index]?.push(row);
}

/** The server's error in the form in which the rest of the code knows it. */
function errorOf(message: unknown): postgres.PostgresError {
  const error = message as DatabaseError;
  const { code, detail, hint, schema, table, column, constraint, where, position } = error;
  const fields = {
    // Anything worse ends the connection, which is told instead.
    severity: "ERROR",
    message: error.message,
    code,
    detail,
    hint,
    where,
    position,
    schema_name: schema,
    table_name: table,
    column_name: column,
    constraint_name: constraint,
  };
  // It takes an object; its types know of the message alone.
  return new postgres.PostgresError(fields as unknown as string);
}

/**
 * The parts of a URL as pg takes them. What `sslmode` means is postgres.js' word, which opens the other
 * connections: `require` encrypts, `verify-full` checks the certificate, too.
 */
function clientUrl(text: string): { connectionString: string; ssl: boolean | object } {
  const url = new URL(text);
  const mode = url.searchParams.get("sslmode") ?? url.searchParams.get("ssl") ?? "disable";
  url.searchParams.delete("sslmode");
  url.searchParams.delete("ssl");
  const isOff = ["disable", "false", "none", ""].includes(mode);
  const isVerified = mode === "verify-full" || mode === "true";
  return {
    connectionString: url.href,
    ssl: isOff ? false : { rejectUnauthorized: isVerified },
  };
}
