import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { type Config, readConfig } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { logInMember } from "./http-callers.ts";
import { getRequest, postRequest } from "./http-load.ts";
import { build, type MeasuredServer, startService } from "./http-processes.ts";
import { MEMBER, seedTenants } from "./http-seed.ts";
import { quantile, ratio, spread } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { type Job, type Outcomes, PacedLoad } from "./paced-load.ts";
import { printTable, ratioText, whole } from "./report.ts";

/** Tenants besides the loud one. */
const OTHERS = 20;
/** What the loud one offers, of what all the others offer together. */
const LOUDNESS = 10;
/** Share of what the service can take that all of them offer together, below saturation. */
const TOTAL_SHARE = 1 / 3;
/** What the loud one alone offers past saturation, of what the service can take. */
const OVERLOAD = 2;
/** Requests that the loud one has under way without a pause, and logins of a flood. */
const FLOOD = 256;
const LOGINS = 64;

/** How much slower the others may become. */
const TARGETS = { loudP95: 1.5, loginsP99: 3 } as const;

const HELP = `npm run bench -- fairness [options]

  --rounds N    rounds of every part (7)
  --seconds N   seconds of every part in a round (4)
  --quick       one short round, to try it: the figures mean nothing

What the requests of 20 tenants notice of one that offers ten times as much as they do together, below and past
what the service can take, and of a flood of logins.
`;

interface Ground {
  readonly service: MeasuredServer;
  /** The client of the others, and that of the loud one: a process each. */
  readonly quiet: PacedLoad;
  readonly loud: PacedLoad;
  /** Of the member of tenant-1, the loud one, and of the others. */
  readonly tokens: readonly string[];
}

/** Runs the benchmark of docs/benchmarks/fairness.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 7));
  const seconds = Number(values.seconds ?? (values.quick ? 1 : 4));
  await build();
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const config = readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" });
  const database = await openDatabase(config);
  try {
    const ground = await prepare(config, database);
    console.log(
      `${await describeMachine(database.migrationUrl)}. ${rounds} rounds of ${seconds} s.`,
    );
    try {
      const isMet = await measure(ground, rounds, seconds);
      return values.quick || isMet;
    } finally {
      ground.quiet.close();
      ground.loud.close();
      await ground.service.stop();
    }
  } finally {
    await database.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function prepare(config: Config, database: OpenDatabase): Promise<Ground> {
  await migrateRegistry(database.migrationUrl, database.url);
  const hasher = new PasswordHasher({ pepper: config.passwordPepper, cost: config.bcryptCost });
  const hash = await hasher.hash(MEMBER.password);
  await seedTenants(database, hash, [1, OTHERS + 1]);
  await withAdmin(database.migrationUrl, async (admin) => {
    const [row] = await admin.query<{ id: number }[]>`
      select id from public.tenants where subdomain = 'tenant-1'`;
    // A user of its own for each login under way: of one user's, most would be refused.
    await admin.execute(`
      insert into ${tenantSchema(row?.id ?? 0)}.users
        (username, full_name, email, primary_mobile, password_hash, email_verified_at)
      select 'user' || n, 'User ' || n, 'user' || n || '@corp.test', '+2010200' || 10000 + n, '${hash}', now()
        from generate_series(1, ${LOGINS}) n`);
  });
  const service = await startService({
    APP_ENV: "local",
    DATA_DIR: config.dataDir,
    DATABASE_URL: database.url,
    DATABASE_MIGRATION_URL: database.migrationUrl,
    RATE_LIMIT_AUTHENTICATED: "0",
    RATE_LIMIT_ANONYMOUS: "0",
    RATE_LIMIT_LOGIN: "0",
  });
  const tokens: string[] = [];
  for (let tenant = 1; tenant <= OTHERS + 1; tenant += 1) {
    tokens.push(await logInMember(service.port, `tenant-${tenant}`));
  }
  return {
    service,
    quiet: await PacedLoad.start(service.port),
    loud: await PacedLoad.start(service.port),
    tokens,
  };
}

/** A part of every round: reads, and what the loud one does beside them. */
interface Part {
  readonly name: string;
  readonly reads: readonly string[];
  readonly beside?: Job;
}

interface MeasuredPart {
  readonly part: Part;
  readonly reads: Outcomes[];
  readonly beside: Outcomes[];
}

async function measure(ground: Ground, rounds: number, seconds: number): Promise<boolean> {
  const { quiet, loud, tokens } = ground;
  const profiles = tokens.map((token, index) =>
    getRequest("/api/account/profile/", {
      "x-tenant": `tenant-${index + 1}`,
      authorization: `Bearer ${token}`,
    }).toString(),
  );
  const others = profiles.slice(1);
  // Until the code is compiled and everything is remembered.
  await quiet.run({ requests: profiles, seconds: 3, concurrency: 32 });
  const taken = await quiet.run({ requests: others, seconds, concurrency: 32 });
  const capacity = taken.statuses.length / taken.seconds;
  const perSecond = (capacity * TOTAL_SHARE) / (1 + LOUDNESS);
  const measured = partsOf(profiles, { capacity, perSecond, seconds }).map(
    (part): MeasuredPart => ({ part, reads: [], beside: [] }),
  );
  for (let round = 0; round < rounds; round += 1) {
    for (const { part, reads, beside } of measured) {
      const [theirs, its] = await Promise.all([
        quiet.run({ requests: part.reads, seconds, perSecond }),
        part.beside && loud.run(part.beside),
      ]);
      reads.push(theirs);
      if (its) beside.push(its);
    }
  }
  printTable(
    `Reads of ${OTHERS} tenants, ${whole(perSecond)} a second together (the service takes ${whole(capacity)})`,
    ["", "p50 ms", "p95 ms", "p99 ms", "refused", "the loud one's, answered a second", "refused"],
    measured.map(rowOf),
  );
  return judge(measured);
}

/** @param profiles a read of every tenant, the loud one's first */
function partsOf(
  profiles: readonly string[],
  { capacity, perSecond, seconds }: { capacity: number; perSecond: number; seconds: number },
): [Part, Part, Part, Part, Part, Part] {
  const [own = "", ...others] = profiles;
  const logins = Array.from({ length: LOGINS }, (_, index) =>
    postRequest(
      "/api/auth/login/",
      { "x-tenant": "tenant-1" },
      { identifier: `user${index + 1}@corp.test`, password: MEMBER.password },
    ).toString(),
  );
  const flood = { requests: logins, seconds, concurrency: LOGINS };
  return [
    { name: "alone", reads: others },
    {
      name: `beside one that offers ${LOUDNESS} times as much`,
      reads: others,
      beside: { requests: [own], seconds, perSecond: perSecond * LOUDNESS },
    },
    {
      name: `beside one that offers ${OVERLOAD} times what the service takes`,
      reads: others,
      beside: { requests: [own], seconds, perSecond: capacity * OVERLOAD },
    },
    {
      name: `beside one with ${FLOOD} requests under way all the time`,
      reads: others,
      beside: { requests: [own], seconds, concurrency: FLOOD },
    },
    { name: `beside ${LOGINS} logins under way all the time`, reads: others, beside: flood },
    { name: `of that tenant, beside its ${LOGINS} logins`, reads: [own], beside: flood },
  ];
}

function rowOf({ part, reads, beside }: MeasuredPart): string[] {
  const quantiles = [0.5, 0.95, 0.99].map((share) => spread(quantilesOf(reads, share)).median);
  const busySeconds = beside.reduce((sum, { seconds }) => sum + seconds, 0);
  const answered = countOf(beside, (status) => status === 200);
  return [
    part.name,
    ...quantiles.map((milliseconds) => milliseconds.toFixed(1)),
    `${whole(countOf(reads, isRefusal))} of ${whole(countOf(reads))}`,
    part.beside ? whole(answered / busySeconds) : "–",
    part.beside ? `${whole(countOf(beside, isRefusal))} of ${whole(countOf(beside))}` : "–",
  ];
}

function judge(measured: readonly MeasuredPart[]): boolean {
  const [alone, withLoud, overloaded, withFlood, withLogins, ownLogins] = measured;
  const comparedWithAlone = (part: MeasuredPart | undefined, share: number) =>
    ratio(quantilesOf(part?.reads ?? [], share), quantilesOf(alone?.reads ?? [], share));
  const rows: [string, string, string, boolean][] = [];
  const slower = (name: string, part: MeasuredPart | undefined, share: number, most: number) => {
    const figure = comparedWithAlone(part, share);
    rows.push([name, `${ratioText(figure)} of alone`, `≤ ${most}`, figure.median <= most]);
  };
  slower("p95 beside the loud one", withLoud, 0.95, TARGETS.loudP95);
  slower("p99 beside logins", withLogins, 0.99, TARGETS.loginsP99);
  slower("p99 beside the tenant's own logins", ownLogins, 0.99, TARGETS.loginsP99);
  const unanswered = measured.reduce(
    (sum, { reads }) => sum + countOf(reads, (status) => status !== 200),
    0,
  );
  rows.push(["reads of the others not answered", String(unanswered), "0", unanswered === 0]);
  for (const [name, part] of [
    ["of the loud one's refused, offering too much", overloaded],
    ["of the loud one's refused, without a pause", withFlood],
  ] as const) {
    const refused = countOf(part?.beside ?? [], isRefusal);
    rows.push([name, whole(refused), "> 0", refused > 0]);
  }
  printTable(
    "Targets",
    ["", "measured (least–greatest round)", "target", ""],
    rows.map(([name, figure, target, isMet]) => [name, figure, target, isMet ? "met" : "missed"]),
  );
  return rows.every(([, , , isMet]) => isMet);
}

/** What this share of a round's requests took at most, for each round. */
function quantilesOf(rounds: readonly Outcomes[], share: number): number[] {
  return rounds.map(({ milliseconds }) => quantile(milliseconds, share));
}

function countOf(
  rounds: readonly Outcomes[],
  matches: (status: number) => boolean = () => true,
): number {
  return rounds.flatMap(({ statuses }) => statuses).filter(matches).length;
}

function isRefusal(status: number): boolean {
  return status === 429 || status === 503;
}
