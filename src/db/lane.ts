import postgres from "postgres";
import { AppError } from "../errors.ts";
import type { Scope } from "./connection.ts";
import { FairQueue } from "./fair-queue.ts";
import {
  LaneConnection,
  type LaneConnectionOptions,
  type LaneStatement,
} from "./lane-connection.ts";
import { type Prepared, PreparedStatements } from "./prepared-statements.ts";
import type { Statement } from "./sql.ts";

export interface LaneOptions extends LaneConnectionOptions {
  /** Statements the connection keeps prepared at most. */
  readonly preparedMax: number;
  /** Transactions under way on the connection at most; the rest wait here, where they can be moved. */
  readonly pipelineMax: number;
  /** Of these, one tenant's at most: the others' never wait for more than that many of a loud one's. */
  readonly pipelinePerTenantMax: number;
  /** Transactions waiting at most; past it `overloaded`. */
  readonly queueMax: number;
  /** Of these, one tenant's at most: a loud one is told before it keeps the others out. */
  readonly queuePerTenantMax: number;
}

/**
 * Different schemas one connection serves before it is replaced. The server keeps catalogue entries
 * of every table a backend has touched and never gives them back: some 0.2 to 0.4 MB a tenant, by how much of the
 * product it uses (docs/benchmarks/growth.md, docs/PERFORMANCE.md).
 */
const SCHEMAS_PER_CONNECTION_MAX = 1_000;

/** Statements given up in one message. */
const DEALLOCATE_BATCH = 64;

/** Pause before the next try to open a connection, in milliseconds: doubled up to the last. */
const REOPEN_DELAYS_MS = [0, 50, 100, 200, 400, 800] as const;

/** How long one try after the other may fail before those who wait are told. */
const REOPEN_PATIENCE_MS = 2_000;

/**
 * Errors with which a prepared statement may fail only because it was prepared before a column's type
 * changed: the types of its parameters stay what they were (an int column made bigint still refuses
 * 3,000,000,000 with 22003). Planned anew, it fails again if it is wrong in itself.
 */
const STALE_STATEMENT_CODES = new Set([
  "0A000", // cached plan must not change result type
  "26000", // prepared statement does not exist
  "42804", // column is of type … but expression is of type …
  "42883", // operator does not exist
  "22P02", // invalid input syntax for type …
  "22003", // value … is out of range for type …
]);

interface Job {
  readonly scope: Scope;
  readonly statements: readonly Statement[];
  readonly isRetry: boolean;
  readonly resolve: (rows: object[][]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A queue in front of one backend that is replaced whenever it is lost or has grown too large.
 * Transactions on it are single writes, so many tenants share it, in turn: one that floods the lane
 * waits for itself. (640 transactions of one tenant at once put its neighbours' median at 72 ms; with a
 * simulation of this limit in front of the lane at 1 ms: docs/benchmarks/tenant-query.md.) What was not
 * yet sent when a connection is lost waits for the next; what was sent fails with `not_ready`.
 */
export class Lane {
  readonly #options: LaneOptions;
  readonly #waiting = new FairQueue<Job>();
  #current: Backend | undefined;
  #opening: Promise<void> | undefined;
  /** Connections let go that still have answers to give. */
  readonly #leaving = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Transactions not yet answered. */
  get load(): number {
    return this.#waiting.length + (this.#current?.inFlight ?? 0);
  }

  /** The server process behind the lane, or undefined while there is none. */
  get pid(): number | undefined {
    return this.#current?.connection.pid;
  }

  /** What the connection keeps prepared. */
  get preparedCount(): number {
    return this.#current?.prepared.size ?? 0;
  }

  /** Tenants that the connection has served. */
  get tenantCount(): number {
    return this.#current?.schemas.size ?? 0;
  }

  /** Opens the connection ahead of the first transaction, unless there is one. Failing to is told to those who wait. */
  open(): Promise<void> {
    if (this.#current?.connection.isOpen) return Promise.resolve();
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = undefined;
      this.#pump();
    });
    return this.#opening;
  }

  /**
   * Runs statements in one transaction of the scope, in one round trip.
   *
   * @throws AppError `overloaded` when the queue is full, `not_ready` when the connection is lost
   *   with the transaction on its way; postgres.PostgresError from the server
   */
  run(scope: Scope, statements: readonly Statement[]): Promise<object[][]> {
    if (this.#isClosed) throw new AppError("not_ready", "The service is stopping.");
    const { queueMax, queuePerTenantMax } = this.#options;
    if (
      this.#waiting.length >= queueMax ||
      this.#waiting.lengthOf(scope.schema) >= queuePerTenantMax
    ) {
      throw new AppError("overloaded", "Too many requests are waiting for the database.", {
        retryAfterSeconds: 1,
      });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(scope.schema, { scope, statements, isRetry: false, resolve, reject });
      this.#pump();
    });
  }

  /** Ends the connection after what is on its way; what waits fails with `not_ready`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#failWaiting(new AppError("not_ready", "The service is stopping."));
    await this.#opening;
    await Promise.all([this.#current?.connection.close(), ...this.#leaving]);
  }

  #pump(): void {
    while (this.#waiting.length > 0) {
      const backend = this.#current;
      if (!backend?.connection.isOpen) {
        this.#current = undefined;
        void this.open();
        return;
      }
      if (backend.inFlight >= this.#options.pipelineMax) return;
      const job = this.#waiting.take(
        (schema) => (backend.inFlightOf.get(schema) ?? 0) < this.#options.pipelinePerTenantMax,
      );
      if (!job) return;
      this.#send(backend, job);
    }
  }

  /** Opens the next connection; when that keeps failing, tells those who wait. */
  async #reopen(): Promise<void> {
    const startedAt = performance.now();
    for (const delayMs of REOPEN_DELAYS_MS) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      if (this.#isClosed) return;
      try {
        const connection = await LaneConnection.open(this.#options);
        const backend: Backend = {
          connection,
          prepared: new PreparedStatements(this.#options.preparedMax),
          schemas: new Set(),
          inFlight: 0,
          inFlightOf: new Map(),
        };
        connection.onLost(() => {
          if (this.#current === backend) this.#current = undefined;
          this.#pump();
        });
        this.#current = backend;
        return;
      } catch (error) {
        const hasTriedEnough =
          delayMs === REOPEN_DELAYS_MS.at(-1) || performance.now() - startedAt > REOPEN_PATIENCE_MS;
        if (!hasTriedEnough) continue;
        this.#failWaiting(error);
        return;
      }
    }
  }

  #failWaiting(error: unknown): void {
    for (const job of this.#waiting.takeAll()) job.reject(error);
  }

  #send(backend: Backend, job: Job): void {
    const tag = job.scope.schema;
    const uses: Prepared[] = [];
    const outgoing: LaneStatement[] = job.statements.map(({ text, values }) => {
      const prepared = backend.prepared.next(tag, text);
      if (prepared) uses.push(prepared);
      // The tag is for who looks into pg_stat_activity.
      return { text: `/*${tag}*/ ${text}`, values, prepared };
    });
    backend.schemas.add(tag);
    backend.inFlight += 1;
    backend.inFlightOf.set(tag, (backend.inFlightOf.get(tag) ?? 0) + 1);
    const settle = () => {
      backend.inFlight -= 1;
      const left = (backend.inFlightOf.get(tag) ?? 1) - 1;
      if (left > 0) backend.inFlightOf.set(tag, left);
      else backend.inFlightOf.delete(tag);
      if (this.#current === backend) this.#tidy(backend);
      this.#pump();
    };
    backend.connection.runTransaction(job.scope, outgoing).then(
      (results) => {
        settle();
        job.resolve(results);
      },
      (error: unknown) => {
        const code = error instanceof postgres.PostgresError ? error.code : "";
        const isStale = uses.length > 0 && STALE_STATEMENT_CODES.has(code);
        for (const use of uses)
          if (isStale || use.columns === undefined) backend.prepared.forget(use);
        settle();
        // The transaction was rolled back, so it may run once more, planned anew.
        if (isStale && !job.isRetry && !this.#isClosed) {
          this.#waiting.unshift(tag, { ...job, isRetry: true });
          this.#pump();
        } else {
          job.reject(error);
        }
      },
    );
  }

  /** Keeps the backend within its budgets, or lets it go. */
  #tidy(backend: Backend): void {
    const surplus = backend.prepared.takeSurplus(DEALLOCATE_BATCH);
    if (surplus.length > 0) backend.connection.deallocate(surplus).catch(() => undefined);
    if (backend.schemas.size > SCHEMAS_PER_CONNECTION_MAX) {
      this.#current = undefined;
      const leaving = backend.connection.close().finally(() => this.#leaving.delete(leaving));
      this.#leaving.add(leaving);
    }
  }
}

interface Backend {
  readonly connection: LaneConnection;
  readonly prepared: PreparedStatements;
  readonly schemas: Set<string>;
  inFlight: number;
  /** The same by schema; only of those that have some. */
  readonly inFlightOf: Map<string, number>;
}
