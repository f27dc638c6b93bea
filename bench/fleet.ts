import { chmod, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { type Config, readConfig } from "../src/config.ts";
import { AdminConnection, withAdmin } from "../src/db/admin.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import {
  APPLIED_TABLE,
  loadTenantMigrations,
  type TenantMigration,
  upgradeText,
} from "../src/db/tenant-migrations.ts";
import { type FleetReport, migrateFleet } from "../src/tenants/fleet.ts";
import { createTenant } from "../src/tenants/provisioning.ts";
import { LoadClient, type LoadReport, OWNER, startApi } from "./fleet-load.ts";
import { spread } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { printTable, whole } from "./report.ts";

const HELP = `npm run bench -- fleet [options]

  --tenants N  size of the fleet (default 1000)
  --quick      40 tenants, to try it: the figures mean nothing
`;

/** What a fleet of 1,000 has to stay below, in milliseconds. */
const TARGETS = {
  nothingToDo: 1_000,
  migration: 15_000,
  createInBulk: 100,
  createAlone: 200,
} as const;

/** A small migration: a table, an index, a column of a table that every request reads. */
const SMALL: TenantMigration = {
  name: "1999999999990_add-notes",
  up: `create table notes (id bigint generated always as identity primary key, user_id bigint not null references users (id), body text not null);
       create index notes_of_user on notes (user_id, id);
       alter table users add column nickname text;
       grant select, insert, update, delete on notes to {{tenant_role}};`,
  down: "alter table users drop column nickname; drop table notes;",
};

/** Tenants made one after the other, nothing else going on. */
const ALONE = 20;

/** Runs the benchmark of docs/benchmarks/fleet.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tenants: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const count = Number(values.tenants ?? (values.quick ? 40 : 1_000));
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const config: Config = {
    ...readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" }),
    bcryptCost: 4,
  };
  const database = await openDatabase(config);
  try {
    await migrateRegistry(database.migrationUrl, database.url);
    return await measure(config, database, count);
  } finally {
    await database.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function measure(config: Config, database: OpenDatabase, count: number): Promise<boolean> {
  const { migrationUrl } = database;
  const migrations = await loadTenantMigrations();
  const small = [...migrations, SMALL];
  console.log(await describeMachine(migrationUrl));
  const maker = new TenantMaker(config, database, migrations);

  console.error(`# making ${whole(count)} tenants`);
  const bulkMs = await maker.makeInBulk(count);
  const alone = await maker.makeAlone(ALONE);
  const plain = await makePlain(database, migrations, ALONE);

  const nothing = await timed(() => migrateFleet(migrationUrl, migrations));
  const quiet = await timed(() => migrateFleet(migrationUrl, small));
  const bound = await timed(() => runPlainly(migrationUrl, maker.ids, SMALL));
  console.error("# back, and forth again under load");
  await migrateFleet(migrationUrl, small, { target: migrations.at(-1)?.name ?? "" });
  const api = await startApi(config, database);
  let load: LoadReport;
  let loaded: Timed;
  try {
    const client = new LoadClient(api.port, maker.subdomains);
    await client.logIn();
    const over = new AbortController();
    const running = client.keepBusy(over.signal);
    loaded = await timed(() => migrateFleet(migrationUrl, small));
    // Every tenant is asked once more after the last was migrated.
    await client.untilAllAnswered();
    over.abort();
    load = await running;
  } finally {
    await api.stop();
  }

  const bulkEach = bulkMs / count;
  const aloneMs = spread(alone);
  const isComplete = [quiet, loaded].every(
    ({ report }) => report.failed.length === 0 && report.left === 0,
  );
  printTable(
    `A fleet of ${whole(count)} tenants`,
    ["", "measured", "target", "bound", "of the bound"],
    [
      row("create, one after the other (median)", aloneMs.median, TARGETS.createAlone, plain),
      row(`create, ${availableParallelism()} at a time, each`, bulkEach, TARGETS.createInBulk),
      row("migrate with nothing to do", nothing.ms, TARGETS.nothingToDo),
      row("one small migration", quiet.ms, TARGETS.migration, bound.ms),
      row("the same while the API is asked", loaded.ms, TARGETS.migration),
    ],
  );
  console.log(
    `\nWhile it was migrated: ${whole(load.requests)} requests to ${whole(load.tenants)} tenants, ${load.errors.length} errors, longest ${whole(load.longestMs)} ms.`,
  );
  for (const error of load.errors.slice(0, 5)) console.log(`  ${error}`);
  const isMet =
    aloneMs.median <= TARGETS.createAlone &&
    bulkEach <= TARGETS.createInBulk &&
    nothing.ms <= TARGETS.nothingToDo &&
    Math.max(quiet.ms, loaded.ms) <= TARGETS.migration &&
    isComplete &&
    load.errors.length === 0 &&
    load.tenants === maker.subdomains.length;
  console.log(isMet ? "\nEvery target was met." : "\nA target was MISSED.");
  return isMet;
}

function row(name: string, ms: number, target: number, bound?: number): string[] {
  return [
    name,
    `${whole(ms)} ms`,
    `≤ ${whole(target)} ms`,
    bound === undefined ? "–" : `${whole(bound)} ms`,
    bound === undefined ? "–" : `${(ms / bound).toFixed(2)}×`,
  ];
}

interface Timed {
  readonly ms: number;
  readonly report: FleetReport;
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; report: T }> {
  const startedAt = performance.now();
  const report = await work();
  return { ms: performance.now() - startedAt, report };
}

/** Makes tenants as the command and the platform's API do, without the password's hash. */
class TenantMaker {
  readonly subdomains: string[] = [];
  readonly ids: number[] = [];
  readonly #passwordHash: Promise<string>;
  readonly #database: OpenDatabase;
  readonly #migrations: readonly TenantMigration[];

  constructor(config: Config, database: OpenDatabase, migrations: readonly TenantMigration[]) {
    const passwords = new PasswordHasher({ pepper: config.passwordPepper, cost: 4 });
    this.#passwordHash = passwords.hash(OWNER.password);
    this.#database = database;
    this.#migrations = migrations;
  }

  /** As many at a time as there are cores. @returns milliseconds in all */
  async makeInBulk(count: number): Promise<number> {
    await this.#passwordHash;
    const { ms } = await timed(() =>
      Promise.all(
        Array.from({ length: availableParallelism() }, () =>
          withAdmin(this.#database.migrationUrl, async (admin) => {
            while (this.subdomains.length < count) await this.#make(admin);
          }),
        ),
      ),
    );
    return ms;
  }

  /** @returns milliseconds of each */
  async makeAlone(count: number): Promise<number[]> {
    return withAdmin(this.#database.migrationUrl, async (admin) => {
      const durations: number[] = [];
      for (let made = 0; made < count; made += 1) {
        durations.push((await timed(() => this.#make(admin))).ms);
      }
      return durations;
    });
  }

  async #make(admin: AdminConnection): Promise<void> {
    const subdomain = `tenant-${this.subdomains.length}`;
    this.subdomains.push(subdomain);
    const { url } = this.#database;
    const { id } = await createTenant(admin, this.#migrations, apiRoleOf(url).name, {
      name: subdomain,
      subdomain,
      owner: {
        fullName: "Olive Owner",
        email: OWNER.email,
        phone: "+201001234567",
        passwordHash: await this.#passwordHash,
      },
    });
    this.ids.push(id);
  }
}

/** The bound of creating: the same schema as one text in one transaction. @returns the median */
async function makePlain(
  { migrationUrl, url }: OpenDatabase,
  migrations: readonly TenantMigration[],
  count: number,
): Promise<number> {
  return withAdmin(migrationUrl, async (admin) => {
    const durations: number[] = [];
    for (let made = 0; made < count; made += 1) {
      const name = `bound_${made}`;
      const text = upgradeText(migrations, [], name);
      const { ms } = await timed(() =>
        admin.execute(`
          begin; create role ${name} nologin; grant ${name} to "${apiRoleOf(url).name}";
          create schema ${name}; grant usage on schema ${name} to ${name};
          set local search_path to ${name}; ${APPLIED_TABLE} ${text} commit`),
      );
      durations.push(ms);
    }
    return spread(durations).median;
  });
}

/** The bound of migrating: the same text in each schema, without ledger, plan or canary. */
async function runPlainly(
  url: string,
  ids: readonly number[],
  { up }: TenantMigration,
): Promise<void> {
  // What is there already is made under other names.
  const other = (text: string) =>
    text.replaceAll("notes", "plain_notes").replaceAll("nickname", "plain_nickname");
  const queue = [...ids];
  await Promise.all(
    Array.from({ length: availableParallelism() }, () =>
      withAdmin(url, async (admin) => {
        for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
          const text = other(up).replaceAll("{{tenant_role}}", tenantSchema(id));
          await admin.execute(
            `begin; set local search_path to ${tenantSchema(id)}; ${text} commit`,
          );
        }
      }),
    ),
  );
}
