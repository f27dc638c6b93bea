import { Lane, type LaneOptions } from "../src/db/lane.ts";
import { sql } from "../src/db/sql.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { MIX, type Run } from "./fixture.ts";
import { keepBusy, latencyOf, runAll, sendAtRate, zipf } from "./load.ts";
import { latencyText, printTable, whole } from "./report.ts";
import { anyOfTwelve, anyUser, CONCURRENCY, type SubjectOptions } from "./subject.ts";

/** Which lane a tenant's transaction takes: its own always, or another when that one is behind. */
type Policy = "own lane" | "spills over" | "own lane, 8 at once";

/** Work of a lane past which a hot tenant spills over: what the product puts on its way at once. */
const SPILL_LOAD = 16;

/** Transactions of one tenant under way at once, where that is limited. */
const TENANT_MAX = 8;

/** The same as the product's (tenant-database.ts); long enough not to end a slow read here. */
const LANE_LIMITS = {
  applicationName: "bench hot tenant",
  statementTimeoutMs: 2_000,
  lockTimeoutMs: 200,
  idleInTransactionTimeoutMs: 5_000,
  pipelineMax: 16,
  queueMax: 100_000,
} satisfies Partial<LaneOptions>;

/** About 5 ms of a core on the machine of docs/benchmarks/tenant-query.md. */
const SLOW_READ_ROWS = 50_000;

/** The tenant that is hot. It is on a lane with others, and others are on other lanes. */
const HOT = 1;

interface HotLoad {
  readonly name: string;
  /** Requests a second as a multiple of what the others of its lane offer together. */
  readonly rateFactor?: number;
  /** Or: as many as it gets answered with so many under way. */
  readonly concurrency?: number;
  readonly isSlow?: boolean;
}

const LOADS: readonly HotLoad[] = [
  { name: "none", rateFactor: 0 },
  { name: "10 times its lane's others", rateFactor: 10 },
  { name: "640 at once", concurrency: 640 },
  { name: "64 slow reads at once", concurrency: 64, isSlow: true },
];

/** Share of the lanes' load under Zipf's law, drawn `draws` times over tenants in random order. */
export function printLaneShares(
  tenants: readonly number[],
  lanesTried: readonly number[],
  draws: number,
): void {
  const draw = zipf(tenants.length);
  const rows = lanesTried.map((lanes) => {
    const hits = Array.from({ length: lanes }, () => 0);
    for (let drawn = 0; drawn < draws; drawn += 1) {
      const lane = (tenants[draw()] ?? 0) % lanes;
      hits[lane] = (hits[lane] ?? 0) + 1;
    }
    return [
      String(lanes),
      percent(1 / lanes),
      percent(Math.max(...hits) / draws),
      percent(Math.min(...hits) / draws),
    ];
  });
  let first = 0;
  for (let rank = 1; rank <= tenants.length; rank += 1) first += 1 / rank;
  printTable(
    `Zipf's law over ${tenants.length} tenants: shares of the load`,
    ["lanes", "even share", "fullest lane", "emptiest lane"],
    rows,
  );
  console.log(`\nThe first tenant alone: ${(100 / first).toFixed(0)} % of all requests.`);
}

/**
 * What one hot tenant does to the others: those on its lane and those elsewhere, who are offered
 * `othersPerSecond` together, spread evenly. Latency is counted from the call on.
 */
export async function printHotTenant(
  { url, lanes: laneCount, preparedMax }: SubjectOptions,
  tenants: readonly number[],
  { othersPerSecond, seconds }: { othersPerSecond: number; seconds: number },
): Promise<void> {
  const lanes = Array.from(
    { length: laneCount },
    // The product's turns and caps are off: the policies below are what is compared.
    () =>
      new Lane({
        ...LANE_LIMITS,
        pipelinePerTenantMax: LANE_LIMITS.pipelineMax,
        queuePerTenantMax: LANE_LIMITS.queueMax,
        url,
        preparedMax,
      }),
  );
  await Promise.all(lanes.map((lane) => lane.open()));
  const others = tenants.filter((tenant) => tenant !== HOT);
  const perLane = othersPerSecond / laneCount;
  const rows: string[][] = [];
  try {
    await runAll(
      tenants.flatMap((tenant) =>
        [...MIX, ...MIX].map(
          (statement) => () => statement(runOn(lanes, tenant, "own lane"), anyUser()),
        ),
      ),
      CONCURRENCY,
    );
    // The hot tenant's statements on every lane, so that spilling over is not planning.
    for (const lane of lanes) {
      for (const statement of [...MIX, ...MIX]) await statement(runOn([lane], HOT, "own lane"), 1);
    }
    for (const load of LOADS) {
      const policies: Policy[] =
        load.rateFactor === 0 ? ["own lane"] : ["own lane", "spills over", "own lane, 8 at once"];
      for (const policy of policies) {
        const sameLane: number[] = [];
        const elsewhere: number[] = [];
        const background = sendAtRate({ perSecond: othersPerSecond, seconds }, () => {
          const tenant = others[Math.floor(Math.random() * others.length)] ?? HOT;
          const isNeighbour = tenant % laneCount === HOT % laneCount;
          return {
            request: anyOfTwelve(runOn(lanes, tenant, "own lane")),
            record: (ms) => (isNeighbour ? sameLane : elsewhere).push(ms),
          };
        });
        const hotRun = runOn(lanes, HOT, policy);
        const request = () =>
          load.isSlow
            ? hotRun`select count(*) as n from generate_series(1, ${SLOW_READ_ROWS}::bigint)`
            : anyOfTwelve(hotRun);
        const answered = await offer(load, request, { seconds, perLane });
        await background;
        rows.push([
          load.name,
          policy,
          whole(answered.perSecond),
          latencyText(answered.latency),
          latencyText(latencyOf(sameLane)),
          latencyText(latencyOf(elsewhere)),
        ]);
      }
    }
  } finally {
    await Promise.all(lanes.map((lane) => lane.close()));
  }
  printTable(
    `One hot tenant; the others offer ${whole(othersPerSecond)}/s of the mix, ${whole(perLane)}/s a lane`,
    [
      "the hot tenant offers",
      "it",
      "answered a second",
      "its p50 / p99 ms",
      "others on its lane, p50 / p99 ms",
      "others elsewhere, p50 / p99 ms",
    ],
    rows,
  );
}

async function offer(
  { rateFactor, concurrency }: HotLoad,
  request: () => Promise<unknown>,
  { seconds, perLane }: { seconds: number; perLane: number },
) {
  if (concurrency !== undefined) return keepBusy(request, { seconds, concurrency });
  const took: number[] = [];
  await sendAtRate({ perSecond: perLane * (rateFactor ?? 0), seconds }, () => ({
    request: request(),
    record: (ms) => took.push(ms),
  }));
  return { perSecond: took.length / seconds, latency: latencyOf(took) };
}

/** A tenant's way to its tables under a policy; the limit on how many at once is this run's. */
function runOn(lanes: readonly Lane[], tenant: number, policy: Policy): Run {
  const schema = tenantSchema(tenant);
  const scope = { role: schema, schema };
  const own = lanes[tenant % lanes.length] ?? lanes[0];
  if (!own) throw new RangeError("No lane");
  let underWay = 0;
  const waiting: (() => void)[] = [];
  return async (strings, ...values) => {
    let lane = own;
    if (policy === "spills over" && own.load >= SPILL_LOAD) {
      for (const other of lanes) if (other.load < lane.load) lane = other;
    }
    const isLimited = policy === "own lane, 8 at once";
    if (isLimited && underWay >= TENANT_MAX) {
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      underWay += 1;
    }
    try {
      const [rows] = await lane.run(scope, [sql(strings, ...values)]);
      return rows ?? [];
    } finally {
      // Whoever waited takes the place over.
      const next = isLimited ? waiting.shift() : undefined;
      if (next) next();
      else underWay -= 1;
    }
  };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}
