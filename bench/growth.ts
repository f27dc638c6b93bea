import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { type Config, readConfig } from "../src/config.ts";
import { AdminConnection, withAdmin } from "../src/db/admin.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { type TenantConnection, TenantDatabase } from "../src/db/tenant-database.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { createTenant } from "../src/tenants/provisioning.ts";
import { describeMachine, memoryOf } from "./machine.ts";
import { printTable, whole } from "./report.ts";

const HELP = `npm run bench -- growth [options]

  --sizes A,B  sizes of the fleet to measure at (default 1000,5000)
  --quick      20,60, to try it: the figures mean nothing
`;

const MB = 2 ** 20;

/** What grows with tenants. */
interface Size {
  readonly tenants: number;
  readonly catalogRows: Readonly<Record<string, number>>;
  readonly databaseBytes: number;
  readonly catalogBytes: number;
  readonly files: number;
  /** Tenants made a second since the size before. */
  readonly madePerSecond: number;
  /** Own memory of a backend in MB, by how many tenants it has served. */
  readonly backend: readonly { readonly touched: number; readonly megabytes: number }[];
  readonly restartMs: number;
}

const CATALOGS = [
  "pg_class",
  "pg_attribute",
  "pg_index",
  "pg_constraint",
  "pg_depend",
  "pg_shdepend",
  "pg_authid",
  "pg_auth_members",
] as const;

/** Runs the benchmark of docs/benchmarks/growth.md. It has no target: it says what there is. */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sizes: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const sizes = (values.sizes ?? (values.quick ? "20,60" : "1000,5000")).split(",").map(Number);
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const config = readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" });
  let database = await openDatabase(config);
  try {
    await migrateRegistry(database.migrationUrl, database.url);
    console.log(await describeMachine(database.migrationUrl));
    const measured: Size[] = [];
    const ids: number[] = [];
    for (const tenants of [0, ...sizes]) {
      console.error(`# ${whole(tenants)} tenants`);
      const startedAt = performance.now();
      const made = tenants - ids.length;
      await makeTenants(database, ids, tenants);
      const seconds = (performance.now() - startedAt) / 1_000;
      const reopened = await restart(config, database);
      ({ database } = reopened);
      measured.push({
        tenants,
        ...(await readSizes(database)),
        files: await countFiles(dataDir),
        madePerSecond: made / seconds,
        backend: await touch(config, database, ids),
        restartMs: reopened.ms,
      });
    }
    print(measured);
    return true;
  } finally {
    await database.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function makeTenants(
  { migrationUrl, url }: OpenDatabase,
  ids: number[],
  count: number,
): Promise<void> {
  const migrations = await loadTenantMigrations();
  let begun = ids.length;
  const work = async (admin: AdminConnection) => {
    while (begun < count) {
      const subdomain = `tenant-${begun}`;
      begun += 1;
      const { id } = await createTenant(admin, migrations, apiRoleOf(url).name, {
        name: subdomain,
        subdomain,
        owner: { fullName: "Olive", email: "owner@corp.test", phone: "+201001234567" },
      });
      ids.push(id);
    }
  };
  await Promise.all(
    Array.from({ length: availableParallelism() }, () => withAdmin(migrationUrl, work)),
  );
}

/** Stops the server as an operator does and starts it again: what it has to read does grow. */
async function restart(
  config: Config,
  before: OpenDatabase,
): Promise<{ database: OpenDatabase; ms: number }> {
  // How many rows a catalog has is known once it was looked at. All of a fleet takes minutes.
  await withAdmin(before.migrationUrl, (admin) => admin.execute(`analyze ${CATALOGS.join(", ")}`), {
    statementTimeoutMs: 600_000,
  });
  await before.stop();
  const startedAt = performance.now();
  const database = await openDatabase(config);
  return { database, ms: performance.now() - startedAt };
}

async function readSizes({
  migrationUrl,
}: OpenDatabase): Promise<Pick<Size, "catalogRows" | "databaseBytes" | "catalogBytes">> {
  return withAdmin(migrationUrl, async (admin) => {
    const rows = await admin.query<{ name: string; count: number; bytes: number }[]>`
      select c.relname::text as name, c.reltuples::bigint as count, pg_total_relation_size(c.oid) as bytes
        from pg_class c where c.relname = any(${[...CATALOGS]}::text[]) and c.relnamespace = 11`;
    const [size] = await admin.query<{ database: number; catalogs: number }[]>`
      select pg_database_size(current_database()) as database,
             (select sum(pg_total_relation_size(oid)) from pg_class
               where relnamespace = 11 and relkind = 'r')::bigint as catalogs`;
    return {
      catalogRows: Object.fromEntries(rows.map(({ name, count }) => [name, count])),
      databaseBytes: size?.database ?? NaN,
      catalogBytes: size?.catalogs ?? NaN,
    };
  });
}

async function countFiles(folder: string): Promise<number> {
  return (await readdir(folder, { recursive: true })).length;
}

/**
 * Own memory of one backend that serves tenants as a lane of the API does: one read of each over three of its
 * tables, prepared.
 */
async function touch(
  config: Config,
  { url }: OpenDatabase,
  ids: readonly number[],
): Promise<Size["backend"]> {
  const tenants = new TenantDatabase({
    url,
    lanes: 1,
    transactionConnections: 1,
    preparedPerLaneMax: config.databasePreparedPerLane,
  });
  await tenants.open();
  try {
    const steps = [0, 100, 1_000, ids.length].filter(
      (count, index, all) => count <= ids.length && all.indexOf(count) === index,
    );
    const measured: { touched: number; megabytes: number }[] = [];
    let touched = 0;
    for (const count of steps) {
      for (; touched < count; touched += 1) {
        const id = ids[touched];
        if (id === undefined) break;
        // Twice: the second one is prepared.
        await readCaller(tenants.tenant(id));
        await readCaller(tenants.tenant(id));
      }
      measured.push({ touched, megabytes: memoryOf(tenants.lanes()[0]?.pid)?.own ?? NaN });
    }
    return measured;
  } finally {
    await tenants.close();
  }
}

function readCaller(tenant: TenantConnection): Promise<readonly object[]> {
  return tenant.query`
    select u.id, u.email, s.expires_at, m.company
      from users u
      left join login_sessions s on s.user_id = u.id and s.ended_at is null
      left join user_companies m on m."user" = u.id and m.deleted_at is null
     where u.id = ${1}`;
}

function print(sizes: readonly Size[]): void {
  const [empty] = sizes;
  if (!empty) return;
  const columns = sizes.map(({ tenants }) => `${whole(tenants)} tenants`);
  const figures = (name: string, of: (size: Size) => number) => [
    name,
    ...sizes.map((size) => whole(of(size))),
    ...sizes.slice(-1).map((size) => ((of(size) - of(empty)) / size.tenants).toFixed(2)),
  ];
  printTable(
    "What the server holds",
    ["", ...columns, "a tenant"],
    [
      ...CATALOGS.map((name) =>
        figures(`rows of ${name}`, (size) => size.catalogRows[name] ?? NaN),
      ),
      figures("database, MB", ({ databaseBytes }) => databaseBytes / MB),
      figures("of that catalogs, MB", ({ catalogBytes }) => catalogBytes / MB),
      figures("files in the data folder", ({ files }) => files),
      ["tenants made a second", ...sizes.map((size) => size.madePerSecond.toFixed(1)), "–"],
      ["stop and start again, ms", ...sizes.map(({ restartMs }) => whole(restartMs)), "–"],
    ],
  );
  printTable(
    "Own memory of one backend (RssAnon), by how many tenants it has served",
    ["fleet", "tenants served", "MB"],
    sizes.flatMap(({ tenants, backend }) =>
      backend.map(({ touched, megabytes }) => [
        `${whole(tenants)} tenants`,
        whole(touched),
        megabytes.toFixed(1),
      ]),
    ),
  );
}
