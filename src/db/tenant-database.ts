import type { ConnectionOptions, Scope } from "./connection.ts";
import { Lane } from "./lane.ts";
import { LaneAffinity } from "./lane-affinity.ts";
import type { SlowStatements } from "./slow-statements.ts";
import { type RunSql, type SqlValue, sql, type Statement } from "./sql.ts";
import { type TenantSql, TransactionPool } from "./transactions.ts";

/**
 * The only way to a tenant's tables. Every call runs in a transaction with the rights of the
 * tenant's role and a `search_path` of its schema alone; a table that is not there is an error
 * (42P01), another tenant's is out of reach (42501).
 */
export interface TenantConnection {
  /**
   * Runs one statement in one round trip. For what is quick and waits for nobody's lock: the
   * connection is shared with other tenants.
   */
  readonly query: RunSql;

  /**
   * Runs several statements in one round trip and one transaction; gives the rows of each. Same
   * caution as `query`.
   */
  batch<Rows extends readonly object[][] = readonly object[][]>(
    build: (q: typeof sql) => readonly Statement[],
  ): Promise<{ [Index in keyof Rows]: Rows[Index] }>;

  /**
   * Runs `work` in a transaction on a connection of its own: for writes that depend on what was
   * read, for whatever may wait for a lock, and for reads that may be slow.
   */
  transaction<T>(work: (tx: TenantSql) => Promise<T>): Promise<T>;
}

/** Runs a call's statements, or a whole transaction, as a part of what is traced. */
export type TraceStatements = <T>(
  schema: string,
  texts: readonly string[] | "transaction",
  work: () => Promise<T>,
) => Promise<T>;

export interface TenantDatabaseOptions {
  readonly url: string;
  /** Shared connections at most; a tenant always comes to the same one ({@link LaneAffinity}). */
  readonly lanes: number;
  /** Connections for `transaction`. */
  readonly transactionConnections: number;
  /** Statements each shared connection keeps prepared. */
  readonly preparedPerLaneMax: number;
  /** Told of statements that take long. */
  readonly slow?: SlowStatements;
  readonly trace?: TraceStatements | undefined;
  /** Instead of {@link LANE_TIMEOUTS}, for statements on shared connections. */
  readonly laneTimeouts?: Partial<Timeouts>;
  /** Instead of {@link TRANSACTION_TIMEOUTS}. */
  readonly transactionTimeouts?: Partial<Timeouts>;
}

/** Limits the server keeps for us, in milliseconds. */
type Timeouts = Pick<
  ConnectionOptions,
  "statementTimeoutMs" | "lockTimeoutMs" | "idleInTransactionTimeoutMs"
>;

/** How PostgreSQL knows the part of the product that reads tenants and domains. */
export const REGISTRY_ROLE = "ouvira_registry";

/** An empty `search_path`: registry tables are written out, `public.tenants`. */
const REGISTRY_SCOPE: Scope = { role: REGISTRY_ROLE, schema: "" };

/**
 * Transactions on their way on one shared connection. The server runs them one after the other;
 * more than a few only hide the network's round trip, and are lost together when it is.
 */
const PIPELINE_MAX = 16;

/** Transactions waiting for one shared connection: at 0.1 ms each a tenth of a second's work. */
const LANE_QUEUE_MAX = 1_000;

/** Transactions waiting for a connection of their own, and for how long. */
const TRANSACTION_QUEUE_MAX = 200;
const TRANSACTION_QUEUE_TIMEOUT_MS = 5_000;

/** A statement on a shared connection keeps others waiting; one in a transaction of its own, nobody. */
const LANE_TIMEOUTS: Timeouts = {
  statementTimeoutMs: 2_000,
  lockTimeoutMs: 200,
  idleInTransactionTimeoutMs: 5_000,
};
const TRANSACTION_TIMEOUTS: Timeouts = {
  statementTimeoutMs: 10_000,
  lockTimeoutMs: 3_000,
  idleInTransactionTimeoutMs: 10_000,
};

/** The schema of a tenant, which is also its role's name. @throws RangeError for what is no id */
export function tenantSchema(tenantId: number): string {
  if (!Number.isSafeInteger(tenantId) || tenantId < 1) {
    throw new RangeError(`${tenantId} is not the id of a tenant`);
  }
  return `t_${tenantId}`;
}

/** Connections to one database of many tenants, for the process that serves requests. */
export class TenantDatabase {
  readonly #lanes: readonly Lane[];
  readonly #affinity: LaneAffinity;
  readonly #registryLane: Lane;
  readonly #transactions: TransactionPool;
  readonly #trace: TraceStatements | undefined;

  constructor({
    url,
    lanes,
    transactionConnections,
    preparedPerLaneMax,
    slow,
    trace,
    laneTimeouts,
    transactionTimeouts,
  }: TenantDatabaseOptions) {
    this.#trace = trace;
    this.#affinity = new LaneAffinity(lanes, preparedPerLaneMax);
    const laneOptions = {
      ...LANE_TIMEOUTS,
      ...laneTimeouts,
      url,
      slow,
      preparedMax: preparedPerLaneMax,
      pipelineMax: PIPELINE_MAX,
      pipelinePerTenantMax: PIPELINE_MAX / 2,
      queueMax: LANE_QUEUE_MAX,
      queuePerTenantMax: LANE_QUEUE_MAX / 4,
    };
    this.#lanes = Array.from(
      { length: lanes },
      (_, index) => new Lane({ ...laneOptions, applicationName: `ouvira lane ${index}` }),
    );
    this.#registryLane = new Lane({
      ...laneOptions,
      // All of it is one schema's.
      pipelinePerTenantMax: PIPELINE_MAX,
      queuePerTenantMax: LANE_QUEUE_MAX,
      applicationName: "ouvira registry",
    });
    this.#transactions = new TransactionPool({
      ...TRANSACTION_TIMEOUTS,
      ...transactionTimeouts,
      url,
      applicationName: "ouvira transaction",
      slow,
      connectionsMax: transactionConnections,
      // A quarter, one at least, is left to the others.
      connectionsPerTenantMax: Math.max(
        1,
        transactionConnections - Math.ceil(transactionConnections / 4),
      ),
      queueMax: TRANSACTION_QUEUE_MAX,
      queuePerTenantMax: TRANSACTION_QUEUE_MAX / 2,
      queueTimeoutMs: TRANSACTION_QUEUE_TIMEOUT_MS,
    });
  }

  /** Opens the connection to the registry alone, which every request needs; a lane opens with its first transaction. */
  async openRegistry(): Promise<void> {
    await this.#registryLane.open();
  }

  /** Opens the shared connections that are used at first, one after the other: requests may have begun to come. */
  async open(): Promise<void> {
    for (const lane of [this.#registryLane, ...this.#lanes.slice(0, this.#affinity.used)]) {
      await lane.open();
    }
  }

  /** Waits for what is under way and closes every connection. */
  async close(): Promise<void> {
    await Promise.all([
      ...[this.#registryLane, ...this.#lanes].map((lane) => lane.close()),
      this.#transactions.close(),
    ]);
  }

  /** The way to one tenant's tables. @throws RangeError when `tenantId` is no id */
  tenant(tenantId: number): TenantConnection {
    const schema = tenantSchema(tenantId);
    const lane = this.#lanes[this.#affinity.laneOf(tenantId)];
    if (!lane) throw new Error("A lane is used that is not there");
    return this.#connect({ role: schema, schema }, lane);
  }

  /** The way to the registry's tables, with the rights of {@link REGISTRY_ROLE}. */
  get registry(): TenantConnection {
    return this.#connect(REGISTRY_SCOPE, this.#registryLane);
  }

  #connect(scope: Scope, lane: Lane): TenantConnection {
    const connection = connect(scope, lane, this.#transactions);
    return this.#trace ? traced(connection, scope.role, this.#trace) : connection;
  }

  /** Transactions that have a connection of their own or wait for one. */
  get transactionLoad(): number {
    return this.#transactions.load;
  }

  /** What the lanes are doing, for metrics and benchmarks. */
  lanes(): { pid: number | undefined; load: number; prepared: number; tenants: number }[] {
    return this.#lanes.map((lane) => ({
      pid: lane.pid,
      load: lane.load,
      prepared: lane.preparedCount,
      tenants: lane.tenantCount,
    }));
  }
}

function connect(scope: Scope, lane: Lane, transactions: TransactionPool): TenantConnection {
  return {
    async query(strings: TemplateStringsArray, ...values: readonly SqlValue[]) {
      const [rows] = await lane.run(scope, [sql(strings, ...values)]);
      return rows ?? [];
    },
    async batch(build: (q: typeof sql) => readonly Statement[]) {
      return lane.run(scope, build(sql));
    },
    transaction<T>(work: (tx: TenantSql) => Promise<T>) {
      return transactions.run(scope, work);
    },
    // The rows' types are the caller's word, as in every SQL client.
  } as TenantConnection;
}

/** The same connection, each call a span. */
function traced(
  connection: TenantConnection,
  role: string,
  trace: TraceStatements,
): TenantConnection {
  return {
    query(strings: TemplateStringsArray, ...values: readonly SqlValue[]) {
      const { text } = sql(strings, ...values);
      return trace(role, [text], () => connection.query(strings, ...values));
    },
    batch(build: (q: typeof sql) => readonly Statement[]) {
      const texts = build(sql).map(({ text }) => text);
      return trace(role, texts, () => connection.batch(build));
    },
    transaction<T>(work: (tx: TenantSql) => Promise<T>) {
      return trace(role, "transaction", () => connection.transaction(work));
    },
    // The rows' types are the caller's word, as in every SQL client.
  } as TenantConnection;
}
