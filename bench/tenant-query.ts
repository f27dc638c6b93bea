import { parseArgs } from "node:util";
import { printBulkCreation } from "./bulk-creation.ts";
import { printComparison } from "./comparison.ts";
import { readPermissions } from "./fixture.ts";
import { printHotTenant, printLaneShares } from "./hot-tenant.ts";
import {
  type Case,
  keepBusy,
  measureInTurn,
  ratio,
  shuffled,
  type Spread,
  spread,
  uniform,
  zipf,
} from "./load.ts";
import { describeMachine } from "./machine.ts";
import { printTable, ratioText, whole } from "./report.ts";
import {
  anyOfTwelve,
  anyUser,
  backendRows,
  type Bare,
  CONCURRENCY,
  countLanes,
  type LaneCounts,
  mixOfTwelve,
  oneStatement,
  openBare,
  openOurs,
  ownMemoryMax,
  type Subject,
  warmUp,
} from "./subject.ts";
import { type SeededServer, seedServer } from "./tenants.ts";

/** Least share of the bound, in percent of 1, and most memory that is ours alone. */
const TARGETS = { one: 0.55, mixUniform: 0.4, mixZipf: 0.45, megabytesPerBackend: 200 } as const;

/**
 * How long the bound's connections are in use before the first round, in seconds: by then they have
 * settled at the speed at which a service that has been up for a while runs its queries.
 */
const KEPT_SECONDS = 8;

/** Bounds with new connections beside the one that has as many connections as ours has lanes. */
const BOUND_CONNECTIONS = [1, 2, 4, 10] as const;

const HELP = `npm run bench -- tenant-query [options]

  --tenants N   tenants to make (1000)
  --lanes N     shared connections (8)
  --prepared N  statements each keeps prepared (3000)
  --rounds N    rounds of every case (5)
  --seconds N   seconds of every case in a round (1.5)
  --only PARTS  some of: cases, hot, creation (all three)
  --compare     also what was tried instead (about five minutes)
  --ways TEXT   of what was tried, only what has this in its name
  --quick       100 tenants and short rounds, to try it: the figures mean nothing

BENCH_ADMIN_URL: a superuser's URL of a server without tenants, instead of an embedded one.
`;

/** Runs the benchmark of docs/benchmarks/tenant-query.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tenants: { type: "string" },
      lanes: { type: "string", default: "8" },
      prepared: { type: "string", default: "3000" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string", default: "cases,hot,creation" },
      compare: { type: "boolean", default: false },
      ways: { type: "string", default: "" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const isQuick = values.quick;
  const timing = {
    rounds: Number(values.rounds ?? (isQuick ? 1 : 5)),
    seconds: Number(values.seconds ?? (isQuick ? 0.3 : 1.5)),
  };
  const parts = new Set(values.only.split(","));

  const counts = countLanes();
  const server = await seedServer(Number(values.tenants ?? (isQuick ? 100 : 1_000)), log);
  try {
    console.log(`Machine: ${await describeMachine(server.adminUrl)}.`);
    const options = {
      url: server.url,
      lanes: Number(values.lanes),
      preparedMax: Number(values.prepared),
    };
    console.log(
      `${whole(server.count)} tenants, ${options.lanes} lanes, ${whole(options.preparedMax)} prepared a lane, ` +
        `${CONCURRENCY} requests at once, ${timing.rounds} rounds of ${timing.seconds} s.`,
    );
    const tenants = shuffled(server.count);
    const misses: string[] = [];
    let mixPerSecond = 8_000;
    if (parts.has("cases") || parts.has("creation")) {
      const subject = await openOurs(options);
      try {
        log("warming up");
        await warmUp(subject, tenants);
        if (parts.has("cases")) {
          log("cases");
          const measured = await printCases(subject, server, tenants, options.lanes, {
            ...timing,
            counts,
          });
          misses.push(...measured.misses);
          mixPerSecond = measured.mixPerSecond;
        }
        if (parts.has("creation")) {
          log("creation");
          const creation = { rounds: Math.min(3, timing.rounds), seconds: timing.seconds * 2 };
          await printBulkCreation(subject, server, tenants, creation);
        }
      } finally {
        await subject.close();
      }
    }
    if (parts.has("hot")) {
      log("hot tenant");
      printLaneShares(tenants, [2, 4, 8, 16], isQuick ? 10_000 : 1_000_000);
      // Half of what it can take when one tenant offers ten times its lane's others.
      const othersPerSecond = (mixPerSecond / 2) * (options.lanes / (options.lanes + 10));
      const hot = { othersPerSecond, seconds: timing.seconds * 3 };
      await printHotTenant(options, tenants, hot);
    }
    if (values.compare) {
      log("what was tried");
      const bare = openBare(server.url, options.lanes);
      try {
        await printComparison(options, bare, tenants, {
          rounds: Math.min(3, timing.rounds),
          seconds: timing.seconds,
          ways: values.ways,
          counts,
        });
      } finally {
        await bare.close();
      }
    }
    console.log(misses.length === 0 ? "\nEvery target checked was met." : "\nMissed:");
    for (const miss of misses) console.log(`- ${miss}`);
    return isQuick || misses.length === 0;
  } finally {
    log("cleaning up");
    await server.remove();
  }
}

async function printCases(
  subject: Subject,
  server: SeededServer,
  tenants: readonly number[],
  lanes: number,
  { counts, ...timing }: { rounds: number; seconds: number; counts: () => LaneCounts },
): Promise<{ misses: string[]; mixPerSecond: number }> {
  const boundCounts = [...new Set([lanes, ...BOUND_CONNECTIONS])].toSorted((a, b) => a - b);
  const bounds = new Map(boundCounts.map((count) => [count, openBare(server.url, count)]));
  const kept = openBare(server.url, lanes);
  try {
    await keepBusy(() => anyOfTwelve(kept.run), {
      seconds: KEPT_SECONDS,
      concurrency: CONCURRENCY,
    });
    const results = await measureCases(subject, bounds, kept, tenants, timing);
    for (const [name, perRound] of results) log(`${name}: ${perRound.map(whole).join(" ")}`);
    const figures = (name: string) => results.get(name) ?? [];
    const { rows, misses } = judge(figures, boundCounts, tenants.length, lanes);
    printTable(
      "Requests a second",
      [
        "case",
        "ours/s",
        "bound/s, kept",
        "ratio (least–greatest round)",
        "bound/s, new",
        "ratio to it",
        "ratio to the best bound",
        "target",
        "",
      ],
      rows,
    );
    printTable(
      "The bound by its number of connections",
      ["connections", "one statement/s", "mix of twelve/s"],
      boundCounts.map((count) => [
        String(count),
        whole(spread(figures(`bound one ${count}`)).median),
        whole(spread(figures(`bound mix ${count}`)).median),
      ]),
    );
    printTable(
      "Memory of the backends afterwards, MB",
      ["process", "prepared", "own (RssAnon)", "resident (VmRSS, shared_buffers included)"],
      backendRows(subject),
    );
    const { deallocated, opened } = counts();
    console.log(
      `\nStatements deallocated: ${whole(deallocated)}. Connections opened: ${whole(opened)}, of which ` +
        `${lanes + 1} at the start. This process: ${whole(process.memoryUsage().rss / 2 ** 20)} MB resident.`,
    );
    const memory = ownMemoryMax(subject);
    if (memory !== undefined && memory > TARGETS.megabytesPerBackend) {
      misses.push(`${whole(memory)} MB a backend, target ${TARGETS.megabytesPerBackend}`);
    }
    return { misses, mixPerSecond: spread(figures("mix uniform")).median };
  } finally {
    await Promise.all([kept, ...bounds.values()].map((bare) => bare.close()));
  }
}

/** The names here are those {@link judge} looks up. */
async function measureCases(
  subject: Subject,
  bounds: ReadonlyMap<number, Bare>,
  kept: Bare,
  tenants: readonly number[],
  timing: { rounds: number; seconds: number },
): Promise<Map<string, number[]>> {
  const all = tenants.length;
  const cases: Record<string, Case> = {
    "one 1": { request: oneStatement(subject, tenants, uniform(1)) },
    "one 100": { request: oneStatement(subject, tenants, uniform(Math.min(100, all))) },
    "one uniform": { request: oneStatement(subject, tenants, uniform(all)) },
    "one zipf": { request: oneStatement(subject, tenants, zipf(all)) },
    "mix uniform": { request: mixOfTwelve(subject, tenants, uniform(all)) },
    "mix zipf": { request: mixOfTwelve(subject, tenants, zipf(all)) },
  };
  cases["kept one"] = { request: () => readPermissions(kept.run, anyUser()) };
  cases["kept mix"] = { request: () => anyOfTwelve(kept.run) };
  for (const [count, bare] of bounds) {
    const prepare = () => bare.renew();
    cases[`bound one ${count}`] = {
      request: () => readPermissions(bare.run, anyUser()),
      prepare,
    };
    cases[`bound mix ${count}`] = { request: () => anyOfTwelve(bare.run), prepare };
  }
  return measureInTurn(cases, { ...timing, concurrency: CONCURRENCY });
}

function judge(
  figures: (name: string) => number[],
  boundCounts: readonly number[],
  tenants: number,
  lanes: number,
): { rows: string[][]; misses: string[] } {
  const judged: readonly (readonly [string, string, string, number | undefined])[] = [
    ["one statement, 1 tenant", "one 1", "one", undefined],
    ["one statement, 100 tenants", "one 100", "one", TARGETS.one],
    [`one statement, ${whole(tenants)} tenants`, "one uniform", "one", TARGETS.one],
    [`one statement, ${whole(tenants)} tenants, Zipf`, "one zipf", "one", undefined],
    [`mix of twelve, ${whole(tenants)} tenants`, "mix uniform", "mix", TARGETS.mixUniform],
    [`mix of twelve, ${whole(tenants)} tenants, Zipf`, "mix zipf", "mix", TARGETS.mixZipf],
  ];
  const misses: string[] = [];
  const rows = judged.map(([label, name, kind, target]) => {
    const ours = figures(name);
    const bound = figures(`kept ${kind}`);
    const fresh = figures(`bound ${kind} ${lanes}`);
    const best = boundCounts
      .map((count) => figures(`bound ${kind} ${count}`))
      .reduce((a, b) => (spread(b).median > spread(a).median ? b : a));
    const share: Spread = ratio(ours, bound);
    const isMet = target === undefined || share.median >= target;
    if (!isMet) misses.push(`${label}: ${share.median.toFixed(2)}, target ${target}`);
    return [
      label,
      whole(spread(ours).median),
      whole(spread(bound).median),
      ratioText(share),
      whole(spread(fresh).median),
      ratioText(ratio(ours, fresh)),
      ratioText(ratio(ours, best)),
      target === undefined ? "–" : `≥ ${target.toFixed(2)}`,
      target === undefined ? "–" : isMet ? "met" : "missed",
    ];
  });
  return { rows, misses };
}

/** What is going on, apart from the tables that go into the page. */
function log(line: string): void {
  console.error(`# ${line}`);
}
