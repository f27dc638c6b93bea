import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { COUNTERS_MAX, MemoryCounters } from "../src/plugins/memory-counters.ts";
import { NO_LIMITS } from "../test/limits.ts";
import { hasRedisServer, startRedis } from "../test/redis.ts";
import { COUNTING, type LimitedService, prepareGround, REFUSING } from "./limited-service.ts";
import { keepBusy, ratio, type Request, spread } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { latencyText, printTable, ratioText, whole } from "./report.ts";

/** Least share of the requests without limits that the same CPU is enough for with them. */
const TARGETS = {
  open: { memory: 0.75, redis: 0.45 },
  own: { memory: 0.75, redis: 0.45 },
  login: { memory: 0.5, redis: 0.3 },
} as const;

const CONCURRENCY = 64;
/** Addresses that the requests come from, in turn. */
const CALLERS = 50_000;

const HELP = `npm run bench -- rate-limits [options]

  --rounds N    rounds of every case (15)
  --seconds N   seconds of every case in a round (0.5)
  --quick       short rounds, to try it: the figures mean nothing

Needs the program redis-server for what Redis costs; without it that part is left out.
`;

const ROUTES = {
  open: "one limit (address)",
  own: "one limit (user), with a token",
  login: "three limits (address twice, identifier)",
} as const satisfies Record<keyof LimitedService, string>;
const ROUTE_NAMES = ["open", "own", "login"] as const satisfies (keyof LimitedService)[];

/** Runs the benchmark of docs/benchmarks/rate-limits.md. @returns whether every target was met */
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
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 15));
  const seconds = Number(values.seconds ?? (values.quick ? 0.2 : 0.5));
  const ground = await prepareGround(CALLERS);
  const redis = hasRedisServer ? await startRedis() : undefined;
  try {
    console.log(`Machine: ${await describeMachine(ground.adminUrl)}.`);
    console.log(
      `${CONCURRENCY} requests at once from ${whole(CALLERS)} addresses, ${rounds} rounds of ${seconds} s.`,
    );
    const services = {
      none: await ground.start(NO_LIMITS),
      memory: await ground.start(COUNTING),
      refusing: await ground.start(REFUSING),
      ...(redis ? { redis: await ground.start(COUNTING, redis.url) } : {}),
    };
    const isMet = await printCosts(services, { rounds, seconds });
    await printLatencies(services, seconds);
    printMemory();
    if (redis) await printRedisMemory(redis.url);
    return isMet;
  } finally {
    await ground.remove();
    await redis?.close();
  }
}

interface Compared {
  readonly none: LimitedService;
  readonly memory: LimitedService;
  readonly refusing: LimitedService;
  readonly redis?: LimitedService;
}

async function printCosts(
  { none, memory, refusing, redis }: Compared,
  timing: { rounds: number; seconds: number },
): Promise<boolean> {
  const cases: Record<string, Request> = {};
  for (const route of ROUTE_NAMES) {
    cases[`none ${route}`] = none[route];
    cases[`memory ${route}`] = memory[route];
    if (redis) cases[`redis ${route}`] = redis[route];
  }
  cases["refusing open"] = refusing.open;
  // Code is compiled and tokens are remembered before anything is measured.
  await measureCpu(cases, { ...timing, rounds: 2 });
  const measured = await measureCpu(cases, timing);
  const figures = (name: string) => measured.get(name) ?? [];

  let isMet = true;
  const rows: string[][] = [];
  const add = (label: string, name: string, route: string, target?: number) => {
    const without = figures(`none ${route}`);
    const withLimits = figures(name);
    // As throughput compares: the share of the requests that the same time is enough for.
    const share = ratio(without, withLimits);
    const isHit = target === undefined || share.median >= target;
    isMet &&= isHit;
    rows.push([
      label,
      whole(spread(without).median),
      whole(spread(withLimits).median),
      whole(spread(withLimits.map((figure, round) => figure - (without[round] ?? 0))).median),
      ratioText(share),
      target === undefined ? "–" : `≥ ${target.toFixed(2)}`,
      target === undefined ? "–" : isHit ? "met" : "missed",
    ]);
  };
  for (const route of ROUTE_NAMES) {
    add(`${ROUTES[route]}, in memory`, `memory ${route}`, route, TARGETS[route].memory);
    if (redis) add(`${ROUTES[route]}, in Redis`, `redis ${route}`, route, TARGETS[route].redis);
  }
  add("refused (429), in memory", "refusing open", "open");
  printTable(
    "What limits cost a request, in µs of this process's CPU",
    ["route", "without", "with", "more", "ratio (least–greatest round)", "target", ""],
    rows,
  );
  return isMet;
}

/**
 * Measures requests in turn, round by round.
 *
 * @returns for each the microseconds of CPU that one took, one figure a round: what others do on the
 * machine lengthens requests more than it makes them work
 */
async function measureCpu(
  cases: Readonly<Record<string, Request>>,
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<Map<string, number[]>> {
  const results = new Map(Object.keys(cases).map((name) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, request] of Object.entries(cases)) {
      let answered = 0;
      const counted = () => request().finally(() => (answered += 1));
      const before = process.cpuUsage();
      await keepBusy(counted, { seconds, concurrency: CONCURRENCY });
      const { user, system } = process.cpuUsage(before);
      results.get(name)?.push((user + system) / answered);
    }
  }
  return results;
}

/** One request at a time: what a caller waits. */
async function printLatencies({ none, memory, redis }: Compared, seconds: number): Promise<void> {
  const rows: string[][] = [];
  for (const route of ROUTE_NAMES) {
    const cells: string[] = [];
    for (const service of [none, memory, redis]) {
      if (!service) continue;
      const { latency } = await keepBusy(service[route], { seconds, concurrency: 1 });
      cells.push(latencyText(latency));
    }
    rows.push([ROUTES[route], ...cells]);
  }
  printTable(
    "One request at a time, p50 / p99 in ms",
    ["route", "without", "in memory", ...(redis ? ["in Redis"] : [])],
    rows,
  );
}

/** What a full memory holds, and what counting costs there while new keys keep coming. */
function printMemory(): void {
  setFlagsFromString("--expose-gc");
  // A function that the flag adds to every new context.
  const collectGarbage = runInNewContext("gc") as () => void;
  const keys = {
    "an address": (index: number) => `anonymous:1234:ip:10.${index % 65_536}.${index}/32`,
    "an identifier": (index: number) =>
      `login:1234:identifier:${String(index).padStart(22, "A")}:192.0.2.0/24`,
  };
  const rows = Object.entries(keys).map(([name, keyOf]) => {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const counters = new MemoryCounters();
    for (let key = 0; key < COUNTERS_MAX; key += 1) counters.count(keyOf(key), 3_600_000, 200);
    collectGarbage();
    const bytes = process.memoryUsage().heapUsed - before;
    const known = measure(() => counters.count(keyOf(0), 3_600_000, 200));
    let next = COUNTERS_MAX;
    const added = measure(() => counters.count(keyOf((next += 1)), 3_600_000, 200));
    return [
      name,
      whole(bytes / COUNTERS_MAX),
      whole(bytes / 1e6),
      known.toFixed(2),
      added.toFixed(2),
      whole(counters.size),
    ];
  });
  printTable(
    `Counters in memory, full (${whole(COUNTERS_MAX)})`,
    ["key of", "bytes each", "MB", "µs, known key", "µs, new key", "kept after"],
    rows,
  );
}

function measure(work: () => unknown): number {
  const times = 300_000;
  const startedAt = performance.now();
  for (let index = 0; index < times; index += 1) work();
  return ((performance.now() - startedAt) * 1_000) / times;
}

async function printRedisMemory(url: string): Promise<void> {
  const client = new Redis(url);
  try {
    const keys = await client.dbsize();
    const used = Number(/used_memory:(\d+)/.exec(await client.info("memory"))?.[1]);
    await client.flushall();
    const empty = Number(/used_memory:(\d+)/.exec(await client.info("memory"))?.[1]);
    printTable(
      "Counters in Redis",
      ["keys", "bytes each", "MB"],
      [[whole(keys), whole((used - empty) / keys), whole((used - empty) / 1e6)]],
    );
  } finally {
    client.disconnect();
  }
}
