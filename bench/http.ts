import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { type Config, readConfig } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { Callers } from "./http-callers.ts";
import { measureLogins, measureReads, measureStarts, type ReadCase } from "./http-measure.ts";
import { build, greatestBackend, startBound, startService } from "./http-processes.ts";
import { type Figures, judge, printReport, writePage } from "./http-report.ts";
import { READ_NAMES } from "./http-reads.ts";
import { MEMBER, seedTenants } from "./http-seed.ts";
import { uniform, zipf } from "./load.ts";
import { describeMachine, memoryOf } from "./machine.ts";

/** Lanes of the service, and statements that each keeps prepared: with 5,000 busy tenants, as docs/SCALING.md advises. */
const LANES = 32;
const PREPARED_PER_LANE = 2_200;

/** Connections of each of the bound's two pools: more made it slower (docs/benchmarks/tenant-query.md). */
const BOUND_CONNECTIONS = 8;

/** bcrypt's cost of the members' passwords. */
const SEED_COST = 4;

/**
 * How many times as long as one of reads a round of logins is. Its begin and its end, when not all threads have something to
 * hash, would be a part of two seconds, in which there are some fifty logins.
 */
const LOGIN_LENGTH = 4;

const HELP = `npm run bench -- http [options]

  --sizes A,B    tenants that are asked; as many as the greatest are made (100,1000,5000)
  --rounds N     rounds of every case (5)
  --seconds N    seconds of every case in a round (2)
  --lanes N      connections of the service's lanes (${LANES})
  --parts A,B    some of: reads, logins, starts (all three)
  --only TEXT    only the reads that have this in their name
  --profile DIR  where the service writes what its CPU did (node --cpu-prof)
  --keep DIR     a folder whose database is used and stays, so that tenants are made once
  --write        puts the tables into docs/PERFORMANCE.md
  --quick        20,50 tenants and short rounds, to try it: the figures mean nothing
`;

/** Runs the benchmark of docs/PERFORMANCE.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sizes: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      lanes: { type: "string", default: String(LANES) },
      parts: { type: "string", default: "reads,logins,starts" },
      only: { type: "string", default: "" },
      profile: { type: "string" },
      keep: { type: "string" },
      write: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const sizes = (values.sizes ?? (values.quick ? "20,50" : "100,1000,5000")).split(",").map(Number);
  const timing = {
    rounds: Number(values.rounds ?? (values.quick ? 1 : 5)),
    seconds: Number(values.seconds ?? (values.quick ? 0.5 : 2)),
  };
  await build();
  const dataDir = values.keep ?? (await mkdtemp(path.join(tmpdir(), "ouvira-bench-")));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const config = readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" });
  const database = await openDatabase(config, undefined, serverSettings());
  try {
    await prepare(config, database, Math.max(...sizes));
    const figures = await measure(config, database, {
      sizes,
      timing,
      lanes: Number(values.lanes),
      parts: new Set(values.parts.split(",")),
      only: values.only,
      profileDir: values.profile,
    });
    const report = printReport(figures);
    if (values.write) await writePage(report);
    return values.quick || judge(figures).every(({ isMet }) => isMet);
  } finally {
    await database.stop();
    if (values.keep === undefined) await rm(dataDir, { recursive: true, force: true });
  }
}

/** As docs/SCALING.md advises; the service and the bound are measured on the same server. */
function serverSettings(): Record<string, string> {
  return {
    shared_buffers: `${Math.floor(totalmem() / 4 / 1_048_576)}MB`,
    max_files_per_process: "4096",
  };
}

/** Makes the tenants that are missing. */
async function prepare(config: Config, database: OpenDatabase, tenants: number): Promise<void> {
  await migrateRegistry(database.migrationUrl, database.url);
  const there = await withAdmin(database.migrationUrl, async (admin) => {
    const [row] = await admin.query<{ count: number }[]>`
      select count(*) as count from public.tenants where subdomain like 'tenant-%'`;
    return row?.count ?? 0;
  });
  if (there >= tenants) return;
  const hasher = new PasswordHasher({ pepper: config.passwordPepper, cost: SEED_COST });
  const hash = await hasher.hash(MEMBER.password);
  await seedTenants(database, hash, [there + 1, tenants]);
  await withAdmin(database.migrationUrl, (admin) => admin.execute("vacuum analyze"), {
    statementTimeoutMs: 3_600_000,
  });
}

interface Plan {
  readonly sizes: readonly number[];
  readonly timing: { readonly rounds: number; readonly seconds: number };
  readonly lanes: number;
  readonly parts: ReadonlySet<string>;
  readonly only: string;
  readonly profileDir: string | undefined;
}

async function measure(
  config: Config,
  database: OpenDatabase,
  { sizes, timing, lanes, parts, only, profileDir }: Plan,
): Promise<Figures> {
  const postmaster = Number(
    (await readFile(path.join(config.dataDir, "postgres", "postmaster.pid"), "utf8")).split(
      "\n",
    )[0],
  );
  const machine = await describeMachine(database.migrationUrl);
  const service = await startService(
    settingsOf(config, database, lanes),
    profileDir === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${path.resolve(profileDir)}`],
  );
  const schema = await firstSchema(database);
  const callers = await Callers.logIn(service.port, Math.max(...sizes));
  await keepAnswers(callers, database, schema);
  const bound = await startBound(database.migrationUrl, schema, BOUND_CONNECTIONS);
  const figures: Figures = { machine, sizes, timing, lanes };
  try {
    if (parts.has("reads")) {
      const cases = casesOf(callers, sizes).filter(({ name }) => name.includes(only));
      figures.reads = await measureReads({ service, bound, postmaster }, cases, timing);
      figures.memory = {
        serviceMegabytes: memoryOf(service.pid)?.resident ?? Number.NaN,
        backendMegabytes: greatestBackend(postmaster),
      };
    }
  } finally {
    await Promise.all([service.stop(), bound.stop()]);
  }
  if (parts.has("logins")) {
    const { BCRYPT_COST: _, ...settings } = settingsOf(config, database, lanes);
    const hashing = await startService(settings);
    try {
      const servers = { service: hashing, postmaster };
      figures.logins = await measureLogins(servers, database, config, {
        ...timing,
        seconds: timing.seconds * LOGIN_LENGTH,
      });
    } finally {
      await hashing.stop();
    }
  }
  if (parts.has("starts")) figures.starts = await measureStarts(database, timing.rounds);
  return figures;
}

/** All that a service has turned on, with limits that are counted and not met. */
function settingsOf(config: Config, database: OpenDatabase, lanes: number): Record<string, string> {
  const never = "100000000/day";
  return {
    APP_ENV: "local",
    DATA_DIR: config.dataDir,
    DATABASE_URL: database.url,
    DATABASE_MIGRATION_URL: database.migrationUrl,
    DATABASE_LANES: String(lanes),
    DATABASE_PREPARED_PER_LANE: String(PREPARED_PER_LANE),
    // The members of thousands of tenants log in once, before anything is measured.
    BCRYPT_COST: String(SEED_COST),
    RATE_LIMIT_AUTHENTICATED: never,
    RATE_LIMIT_ANONYMOUS: never,
    RATE_LIMIT_LOGIN: never,
  };
}

async function firstSchema(database: OpenDatabase): Promise<string> {
  return withAdmin(database.migrationUrl, async (admin) => {
    const [row] = await admin.query<{ id: number }[]>`
      select id from public.tenants where subdomain = 'tenant-1'`;
    return tenantSchema(row?.id ?? 0);
  });
}

/** Puts the service's own answers where the bound reads them from, a row each. */
async function keepAnswers(
  callers: Callers,
  database: OpenDatabase,
  schema: string,
): Promise<void> {
  await withAdmin(database.migrationUrl, async (admin) => {
    const table = `${schema}.bench_answers`;
    await admin.execute(`drop table if exists ${table};
      create table ${table} (name text primary key, body jsonb not null)`);
    for (const name of ["listCompanies", "getMyPermissions"] as const) {
      const { status, body } = await callers.ask(0, name);
      if (status !== 200) throw new Error(`${name} answered ${status}: ${body}`);
      await admin.execute(`insert into ${table} values ('${name}', '${body}')`);
    }
  });
}

/** Every read at the least and the greatest number of tenants, mixes above the least. */
function casesOf(callers: Callers, sizes: readonly number[]): ReadCase[] {
  const [least = 1] = sizes;
  const greatest = sizes.at(-1) ?? least;
  const one = (name: "getProfile" | "listCompanies" | "getMyPermissions", tenants: number) => ({
    name,
    tenants,
    draw: "uniform" as const,
    ours: callers.one(name, uniform(tenants)),
    bound: callers.boundRow(name),
    warmUp: callers.everyOne([name], tenants, 2),
  });
  const mix = (draw: "uniform" | "zipf", tenants: number) => ({
    name: "mix" as const,
    tenants,
    draw,
    ours: callers.mix(READ_NAMES, draw === "uniform" ? uniform(tenants) : zipf(tenants)),
    bound: callers.boundMix(READ_NAMES),
    // What more tenants ask is more than is kept prepared.
    warmUp: draw === "uniform" && tenants <= 1_000 ? callers.everyOne(READ_NAMES, tenants, 2) : [],
  });
  return [
    ...[...new Set([least, greatest])].flatMap((tenants) => [
      one("getProfile", tenants),
      one("listCompanies", tenants),
      one("getMyPermissions", tenants),
    ]),
    ...sizes
      .filter((tenants) => tenants > least || sizes.length === 1)
      .flatMap((tenants) => [mix("uniform", tenants), mix("zipf", tenants)]),
  ];
}
