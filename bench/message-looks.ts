import postgres from "postgres";
import type { TenantDatabase } from "../src/db/tenant-database.ts";
import { claimDueQueues } from "../src/messaging/queue-hints.ts";
import { runAll, spread, type Spread } from "./load.ts";
import { cpuOf, memoryOf } from "./machine.ts";
import { printTable, whole } from "./report.ts";

export interface LooksOptions {
  readonly admin: postgres.Sql;
  readonly connect: (transactionConnections: number) => TenantDatabase;
  readonly tenants: number;
  readonly rounds: number;
}

/** Tenants polled at once. */
const POLLS_AT_ONCE = 64;

/** Quick looks of one round: the server's CPU is counted in steps of 10 ms. */
const QUICK_LOOKS = 1_000;

/** Schemas of one statement where all of them are too many for the server's table of locks. */
const PIECE = 500;

/** A way to find out that nothing is due. */
interface Way {
  readonly name: string;
  readonly looks: number;
  readonly look: () => Promise<unknown>;
  readonly prepare?: () => Promise<unknown>;
}

interface Sample {
  /** Milliseconds of one look: on the clock, of the server's CPU, of this process's CPU. */
  readonly wall: number;
  readonly server: number;
  readonly client: number;
}

/**
 * What one look at all queues costs when nothing is due, as milliseconds and as a ratio to the bound:
 * one `select 1` through the registry's lane.
 *
 * @returns the ratio of the hint table with a row for every tenant
 */
export async function printLooks({
  admin,
  connect,
  tenants,
  rounds,
}: LooksOptions): Promise<number> {
  const database = connect(1);
  await database.open();
  try {
    const ways = await prepareWays(admin, database, tenants);
    const firsts = new Map<string, Sample>();
    const samples = new Map<string, Sample[]>(ways.map(({ name }) => [name, []]));
    for (let round = 0; round < rounds + 1; round += 1) {
      for (const way of ways) {
        await way.prepare?.();
        const sample = await measureLooks(admin, way);
        // The first one reads catalogues and prepares statements.
        if (round === 0) firsts.set(way.name, sample);
        else samples.get(way.name)?.push(sample);
      }
    }
    const bound = spread((samples.get("bound") ?? []).map(({ wall }) => wall));
    const ratioOf = (name: string) =>
      spread((samples.get(name) ?? []).map(({ wall }) => wall)).median / bound.median;
    printTable(
      "One look when nothing is due, ms",
      ["way", "first look", "later looks", "ratio to the bound", "server CPU", "own CPU"],
      ways.map(({ name }) => {
        const own = samples.get(name) ?? [];
        const figure = (key: keyof Sample) => spread(own.map((sample) => sample[key]));
        return [
          name === "bound" ? "`select 1` (the bound)" : name,
          (firsts.get(name)?.wall ?? Number.NaN).toFixed(2),
          spreadText(figure("wall")),
          ratioOf(name) < 10 ? ratioOf(name).toFixed(1) : whole(ratioOf(name)),
          figure("server").median.toFixed(2),
          figure("client").median.toFixed(2),
        ];
      }),
    );
    await printMemory(admin);
    return ratioOf("hints, a row for every tenant");
  } finally {
    await database.close();
  }
}

async function prepareWays(
  admin: postgres.Sql,
  database: TenantDatabase,
  tenants: number,
): Promise<Way[]> {
  const ids = Array.from({ length: tenants }, (_, index) => index + 1);
  const poll = () =>
    runAll(
      ids.map(
        (id) => () =>
          database.tenant(id).query`select 1 from messages where next_attempt_at <= now() limit 1`,
      ),
      POLLS_AT_ONCE,
    );
  const union = (part: readonly number[]) => {
    const texts = part.map(
      (id) => `select ${id} from t_${id}.messages where next_attempt_at <= now()`,
    );
    return admin.unsafe(texts.join(" union all "));
  };
  const failure = await union(ids).then(
    () => undefined,
    (error: unknown) => (error instanceof postgres.PostgresError ? error.message : String(error)),
  );
  if (failure !== undefined) {
    console.log(`\nOne statement over all ${tenants} schemas fails: ${failure}.`);
  }
  const pieces = Array.from({ length: Math.ceil(tenants / PIECE) }, (_, index) =>
    ids.slice(index * PIECE, (index + 1) * PIECE),
  );
  const look = () => claimDueQueues(database.registry);
  return [
    {
      name: "bound",
      looks: QUICK_LOOKS,
      look: () => database.registry.query`select 1`,
    },
    { name: "polling each schema", looks: 1, look: poll },
    failure === undefined
      ? { name: "one union over all schemas", looks: 1, look: () => union(ids) }
      : {
          name: `unions over ${PIECE} schemas each`,
          looks: 1,
          look: async () => {
            for (const piece of pieces) await union(piece);
          },
        },
    {
      name: "hints, none",
      looks: QUICK_LOOKS,
      look,
      prepare: () => admin`truncate public.message_queues`,
    },
    {
      name: "hints, a row for every tenant",
      looks: QUICK_LOOKS,
      look,
      prepare: async () => {
        await admin`
          insert into public.message_queues (tenant_id, due_at)
          select id, now() + interval '1 hour' from public.tenants`;
        await admin`analyze public.message_queues`;
      },
    },
  ];
}

async function measureLooks(admin: postgres.Sql, { looks, look }: Way): Promise<Sample> {
  const pids = (
    await admin<{ pid: number }[]>`
      select pid from pg_stat_activity where datname = current_database()`
  ).map(({ pid }) => pid);
  const server = cpuOf(pids);
  const client = process.cpuUsage();
  const startedAt = performance.now();
  for (let count = 0; count < looks; count += 1) await look();
  const wall = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(client);
  return {
    wall: wall / looks,
    server: (cpuOf(pids) - server) / looks,
    client: (user + system) / 1_000 / looks,
  };
}

async function printMemory(admin: postgres.Sql): Promise<void> {
  const backends = await admin<{ pid: number; name: string }[]>`
    select pid, case when pid = pg_backend_pid() then 'union'
                     when application_name like 'ouvira lane%' then 'lane'
                     else application_name end as name
      from pg_stat_activity
     where datname = current_database() and (application_name like 'ouvira%' or pid = pg_backend_pid())`;
  const greatest = new Map<string, number>();
  for (const { pid, name } of backends) {
    const own = memoryOf(pid)?.own ?? Number.NaN;
    greatest.set(name, Math.max(greatest.get(name) ?? 0, own));
  }
  printTable(
    "Own memory of a backend afterwards (RssAnon, the greatest of its kind), MB",
    ["backend", "MB"],
    [...greatest].map(([name, own]) => [name, whole(own)]),
  );
}

function spreadText({ median, min, max }: Spread): string {
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}
