import postgres from "postgres";
import { LaneConnection } from "../src/db/lane-connection.ts";
import { PreparedStatements } from "../src/db/prepared-statements.ts";
import { TenantDatabase } from "../src/db/tenant-database.ts";
import { MIX, readPermissions, type Run, USERS_PER_TENANT } from "./fixture.ts";
import { type Draw, keepBusy, type Request, runAll } from "./load.ts";
import { memoryOf } from "./machine.ts";
import { whole } from "./report.ts";

/** Requests under way at once, in every round. */
export const CONCURRENCY = 64;

export interface SubjectOptions {
  readonly url: string;
  readonly lanes: number;
  readonly preparedMax: number;
}

/** The bound: the same statements on one bare schema, as plain postgres.js runs them. */
export interface Bare {
  readonly run: Run;
  /** Opens new connections in place of those there are, with the twelve statements prepared. */
  renew(): Promise<void>;
  close(): Promise<void>;
}

/** How long new connections of the bound are in use before a round, in seconds. */
const RENEWED_SECONDS = 0.3;

/**
 * Tagged templates, no tenancy, no transaction. One plan per statement as ours, or the bound would
 * plan some statements anew each time.
 *
 * A client of several connections that is kept gets slower from second to second (from 25,000 to
 * 13,000 a second within six, docs/benchmarks/tenant-query.md), so a round of the bound begins with
 * {@link Bare.renew}.
 */
export function openBare(url: string, connections: number): Bare {
  const open = () =>
    postgres(url, {
      max: connections,
      max_lifetime: null,
      fetch_types: false,
      onnotice: () => undefined,
      types: { bigint: { to: 20, from: [20], serialize: String, parse: Number } },
      connection: { search_path: "bare", plan_cache_mode: "force_generic_plan", jit: "off" },
    } as postgres.Options<Record<string, postgres.PostgresType>>);
  let sql = open();
  const run: Run = (strings, ...values) => sql(strings, ...values);
  return {
    run,
    async renew() {
      await sql.end();
      sql = open();
      await keepBusy(() => anyOfTwelve(run), {
        seconds: RENEWED_SECONDS,
        concurrency: CONCURRENCY,
      });
    },
    close: () => sql.end(),
  };
}

/** What runs a statement for a tenant, ours or a way that was tried. */
export interface Subject {
  runOf(tenant: number): Run;
  /** Its server processes, and what each keeps prepared. */
  backends(): readonly { pid: number | undefined; prepared: number }[];
  close(): Promise<void>;
}

/** The product's own, as it is. */
export async function openOurs({ url, lanes, preparedMax }: SubjectOptions): Promise<Subject> {
  const database = new TenantDatabase({
    url,
    lanes,
    transactionConnections: 1,
    preparedPerLaneMax: preparedMax,
  });
  await database.open();
  const runs = new Map<number, Run>();
  return {
    runOf(tenant) {
      let run = runs.get(tenant);
      if (!run) {
        const connection = database.tenant(tenant);
        run = (strings, ...values) => connection.query(strings, ...values);
        runs.set(tenant, run);
      }
      return run;
    },
    backends: () => database.lanes(),
    close: () => database.close(),
  };
}

/** Makes requests of one statement or of the twelve, to tenants drawn from `tenants`. */
export function oneStatement(subject: Subject, tenants: readonly number[], draw: Draw): Request {
  return () => readPermissions(subject.runOf(tenants[draw()] ?? 1), anyUser());
}

export function mixOfTwelve(subject: Subject, tenants: readonly number[], draw: Draw): Request {
  return () => anyOfTwelve(subject.runOf(tenants[draw()] ?? 1));
}

export function anyOfTwelve(run: Run): Promise<readonly object[]> {
  const statement = MIX[Math.floor(Math.random() * MIX.length)] ?? readPermissions;
  return statement(run, anyUser());
}

export function anyUser(): number {
  return 1 + Math.floor(Math.random() * USERS_PER_TENANT);
}

/** Each of the twelve twice for every tenant: what may be kept prepared is prepared after it. */
export async function warmUp(subject: Subject, tenants: readonly number[]): Promise<void> {
  function* requests(): Generator<Request> {
    for (const tenant of tenants) {
      const run = subject.runOf(tenant);
      for (const statement of [...MIX, ...MIX]) yield () => statement(run, anyUser());
    }
  }
  await runAll(requests(), CONCURRENCY);
}

/** One row a backend: process, prepared statements, own and resident memory. */
export function backendRows(subject: Subject): string[][] {
  return subject.backends().map(({ pid, prepared }) => {
    const memory = memoryOf(pid);
    return [
      String(pid),
      whole(prepared),
      whole(memory?.own ?? Number.NaN),
      whole(memory?.resident ?? Number.NaN),
    ];
  });
}

/** The greatest RssAnon of a subject's backends, in MB; undefined when it cannot be read. */
export function ownMemoryMax(subject: Subject): number | undefined {
  const figures = subject.backends().flatMap(({ pid }) => memoryOf(pid)?.own ?? []);
  return figures.length > 0 ? Math.max(...figures) : undefined;
}

/** What lanes did so far, all those of this process together. */
export interface LaneCounts {
  /** Statements given up. */
  readonly deallocated: number;
  /** Connections opened, first ones and replacements. */
  readonly opened: number;
}

/** Counts from here on what lanes do not tell, because their connections are replaced. */
export function countLanes(): () => LaneCounts {
  let deallocated = 0;
  let opened = 0;
  const open = LaneConnection.open.bind(LaneConnection);
  LaneConnection.open = (options) => {
    opened += 1;
    return open(options);
  };
  // Called below with its own `this`.
  // oxlint-disable-next-line typescript/unbound-method
  const { takeSurplus } = PreparedStatements.prototype;
  PreparedStatements.prototype.takeSurplus = function (this: PreparedStatements, surplus: number) {
    const names = takeSurplus.call(this, surplus);
    deallocated += names.length;
    return names;
  };
  return () => ({ deallocated, opened });
}
