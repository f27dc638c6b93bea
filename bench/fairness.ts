import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { type Config, readConfig } from "../src/config.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { logInMember } from "./http-callers.ts";
import { build, type MeasuredServer, startService } from "./http-processes.ts";
import { MEMBER, seedTenants } from "./http-seed.ts";
import { keepBusy, quantile, sendAtRate, spread } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { OpenLoad, type Outcome } from "./open-load.ts";
import { printTable, whole } from "./report.ts";

/** Tenants besides the loud one. */
const OTHERS = 20;
/** What the loud one offers, of what all the others offer together. */
const LOUDNESS = 10;
/** Share of what the service can take that all of them offer together, below saturation. */
const TOTAL_SHARE = 0.5;
/** Requests that the loud one has under way past saturation, and logins of a flood. */
const FLOOD = 256;
const LOGINS = 64;

/** How much slower the others may become, and of how many of theirs may be refused. */
const TARGETS = { loudP95: 1.5, loginsP99: 3, refusedOfOthers: 0 } as const;

const HELP = `npm run bench -- fairness [options]

  --rounds N    rounds of every part (5)
  --seconds N   seconds of every part in a round (4)
  --quick       one short round, to try it: the figures mean nothing

What the requests of 20 tenants notice of one that offers ten times as much as they do together, below and past
what the service can take, and of a flood of logins.
`;

interface Ground {
  readonly service: MeasuredServer;
  readonly load: OpenLoad;
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
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
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
      ground.load.close();
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
  await seedTenants(database, await hasher.hash(MEMBER.password), [1, OTHERS + 1]);
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
  return { service, load: new OpenLoad(service.port), tokens };
}

async function measure(
  { load, tokens }: Ground,
  rounds: number,
  seconds: number,
): Promise<boolean> {
  const profileOf = (tenant: number): Promise<Outcome> =>
    load.send({
      method: "GET",
      path: "/api/account/profile/",
      tenant: `tenant-${tenant + 1}`,
      token: tokens[tenant] ?? "",
    });
  const logIn = (): Promise<Outcome> =>
    load.send({
      method: "POST",
      path: "/api/auth/login/",
      tenant: "tenant-1",
      body: { identifier: MEMBER.email, password: MEMBER.password },
    });
  let next = 0;
  const ofOthers = () => {
    next += 1;
    return profileOf(1 + (next % OTHERS));
  };
  // Until the code is compiled and everything is remembered.
  await keepBusy(ofOthers, { seconds: 3, concurrency: 32 });
  const { perSecond: capacity } = await keepBusy(ofOthers, { seconds, concurrency: 32 });
  const othersPerSecond = (capacity * TOTAL_SHARE) / (1 + LOUDNESS);

  const alone: Outcome[][] = [];
  const withLoud: Outcome[][] = [];
  const withFlood: Outcome[][] = [];
  const withLogins: Outcome[][] = [];
  const loud: Outcome[] = [];
  const flood: Outcome[] = [];
  const logins: Outcome[] = [];
  for (let round = 0; round < rounds; round += 1) {
    alone.push(await atRate(othersPerSecond, seconds, ofOthers));
    const [theirs, own] = await Promise.all([
      atRate(othersPerSecond, seconds, ofOthers),
      atRate(othersPerSecond * LOUDNESS, seconds, () => profileOf(0)),
    ]);
    withLoud.push(theirs);
    loud.push(...own);
    const keep = (outcomes: Outcome[], send: () => Promise<Outcome>) => async () =>
      void outcomes.push(await send());
    const [besideFlood] = await Promise.all([
      atRate(othersPerSecond, seconds, ofOthers),
      keepBusy(
        keep(flood, () => profileOf(0)),
        { seconds, concurrency: FLOOD },
      ),
    ]);
    withFlood.push(besideFlood);
    const [besideLogins] = await Promise.all([
      atRate(othersPerSecond, seconds, ofOthers),
      keepBusy(keep(logins, logIn), { seconds, concurrency: LOGINS }),
    ]);
    withLogins.push(besideLogins);
  }

  const median = (parts: Outcome[][], share: number) =>
    spread(
      parts.map((outcomes) =>
        quantile(
          outcomes.map(({ milliseconds }) => milliseconds),
          share,
        ),
      ),
    ).median;
  const row = (name: string, parts: Outcome[][], beside: readonly Outcome[]) => [
    name,
    median(parts, 0.5).toFixed(1),
    median(parts, 0.95).toFixed(1),
    median(parts, 0.99).toFixed(1),
    `${refused(parts.flat())} of ${whole(parts.flat().length)}`,
    beside.length === 0 ? "–" : `${whole(refused(beside))} of ${whole(beside.length)}`,
  ];
  printTable(
    `Reads of ${OTHERS} tenants, ${whole(othersPerSecond)} a second together (the service takes ${whole(capacity)})`,
    ["", "p50 ms", "p95 ms", "p99 ms", "refused", "refused of the loud one's"],
    [
      row("alone", alone, []),
      row(`beside one that offers ${LOUDNESS} times as much`, withLoud, loud),
      row(`beside one with ${FLOOD} requests under way all the time`, withFlood, flood),
      row(`beside ${LOGINS} logins under way all the time`, withLogins, logins),
    ],
  );
  const loudP95 = median(withLoud, 0.95) / median(alone, 0.95);
  const loginsP99 = median(withLogins, 0.99) / median(alone, 0.99);
  const others = refused([...alone, ...withLoud, ...withFlood, ...withLogins].flat());
  const judged: [string, string, boolean][] = [
    [
      `p95 beside the loud one: ${loudP95.toFixed(2)} of alone`,
      `< ${TARGETS.loudP95}`,
      loudP95 < TARGETS.loudP95,
    ],
    [
      `p99 beside logins: ${loginsP99.toFixed(2)} of alone`,
      `≤ ${TARGETS.loginsP99}`,
      loginsP99 <= TARGETS.loginsP99,
    ],
    [`requests of the others refused: ${others}`, "0", others <= TARGETS.refusedOfOthers],
    [
      `requests of the loud one refused past saturation: ${refused(flood)}`,
      "> 0",
      refused(flood) > 0,
    ],
  ];
  printTable(
    "Targets",
    ["measured", "target", ""],
    judged.map(([name, target, isMet]) => [name, target, isMet ? "met" : "missed"]),
  );
  return judged.every(([, , isMet]) => isMet);
}

function refused(outcomes: readonly Outcome[]): number {
  return outcomes.filter(({ status }) => status === 429 || status === 503).length;
}

/** Sends at a fixed rate and gives what became of each. */
async function atRate(
  perSecond: number,
  seconds: number,
  send: () => Promise<Outcome>,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  await sendAtRate({ perSecond, seconds }, () => ({
    request: send().then((outcome) => outcomes.push(outcome)),
    record: () => undefined,
  }));
  return outcomes;
}
