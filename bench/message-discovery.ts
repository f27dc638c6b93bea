import { parseArgs } from "node:util";
import postgres from "postgres";
import { TenantDatabase } from "../src/db/tenant-database.ts";
import { describeMachine } from "./machine.ts";
import { MESSAGE_FIXTURE } from "./message-fixture.ts";
import { printLooks } from "./message-looks.ts";
import { printWrites } from "./message-writes.ts";
import { whole } from "./report.ts";
import { seedServer } from "./tenants.ts";

/** Targets: a look costs at most this many round trips, and a skipped mark at most this share of a write. */
const TARGETS = { lookRatioMax: 10, skippedMarkRatioMin: 0.8 } as const;

const LANES = 8;

const HELP = `npm run bench -- message-discovery [options]

  --tenants LIST  sizes to measure, each on a server of its own (1000,5000)
  --rounds N      rounds of every case (5)
  --seconds N     seconds of every case of writing in a round (2)
  --quick         100 tenants and short rounds, to try it: the figures mean nothing

BENCH_ADMIN_URL: a superuser's URL of a server without tenants, instead of an embedded one.
`;

/** Runs the benchmark of docs/benchmarks/message-discovery.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tenants: { type: "string" },
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
  const isQuick = values.quick;
  const timing = {
    rounds: Number(values.rounds ?? (isQuick ? 1 : 5)),
    seconds: Number(values.seconds ?? (isQuick ? 0.3 : 2)),
  };
  const sizes = (values.tenants ?? (isQuick ? "100" : "1000,5000")).split(",").map(Number);
  const misses: string[] = [];
  for (const size of sizes) misses.push(...(await measure(size, timing)));
  console.log(misses.length === 0 ? "\nEvery target was met." : "\nMissed:");
  for (const miss of misses) console.log(`- ${miss}`);
  return isQuick || misses.length === 0;
}

async function measure(
  tenants: number,
  timing: { rounds: number; seconds: number },
): Promise<string[]> {
  const server = await seedServer(tenants, log, MESSAGE_FIXTURE);
  const admin = postgres(server.adminUrl, {
    max: 1,
    fetch_types: false,
    onnotice: () => undefined,
  });
  const connect = (transactionConnections: number) =>
    new TenantDatabase({
      url: server.url,
      lanes: LANES,
      transactionConnections,
      preparedPerLaneMax: 3_000,
    });
  try {
    console.log(`\n## ${whole(tenants)} tenants\n`);
    console.log(`Machine: ${await describeMachine(server.adminUrl)}.`);
    console.log(`${LANES} lanes, ${timing.rounds} rounds.`);
    log("looks");
    const lookRatio = await printLooks({ admin, connect, tenants, rounds: timing.rounds });
    log("writes");
    const skippedRatio = await printWrites({ admin, connect, tenants, ...timing });
    return [
      ...(lookRatio <= TARGETS.lookRatioMax
        ? []
        : [`a look is ${lookRatio.toFixed(1)} round trips, target ${TARGETS.lookRatioMax}`]),
      ...(skippedRatio >= TARGETS.skippedMarkRatioMin
        ? []
        : [
            `a skipped mark leaves ${skippedRatio.toFixed(2)}, target ${TARGETS.skippedMarkRatioMin}`,
          ]),
    ].map((miss) => `${whole(tenants)} tenants: ${miss}`);
  } finally {
    await admin.end();
    log("cleaning up");
    await server.remove();
  }
}

/** What is going on, apart from the tables that go into the page. */
function log(line: string): void {
  console.error(`# ${line}`);
}
