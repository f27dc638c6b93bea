import { createTenant } from "./fixture.ts";
import { keepBusy, type Latency, spread, uniform } from "./load.ts";
import { latencyText, printTable, ratioText, whole } from "./report.ts";
import { CONCURRENCY, oneStatement, type Subject } from "./subject.ts";
import { connectAdmin, type SeededServer } from "./tenants.ts";

/** Tenants that are read meanwhile. */
const TENANTS_READ = 100;

/**
 * What making tenants as fast as one connection can does to reads of 100 others: throughput and p99
 * alone and meanwhile, in turn. Makes tenants past `server.count`.
 */
export async function printBulkCreation(
  subject: Subject,
  server: SeededServer,
  tenants: readonly number[],
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<void> {
  const read = oneStatement(subject, tenants, uniform(Math.min(TENANTS_READ, tenants.length)));
  const admin = connectAdmin(server.adminUrl);
  const busy = { seconds, concurrency: CONCURRENCY };
  const alone: Sample[] = [];
  const meanwhile: Sample[] = [];
  const created: number[] = [];
  let last = server.count;
  try {
    await keepBusy(read, busy);
    for (let round = 0; round < rounds; round += 1) {
      alone.push(await keepBusy(read, busy));
      const over = new AbortController();
      const before = last;
      const startedAt = performance.now();
      const creating = (async () => {
        while (!over.signal.aborted) await createTenant(admin, (last += 1), server.loginRole);
        return ((last - before) / (performance.now() - startedAt)) * 1000;
      })();
      meanwhile.push(await keepBusy(read, busy));
      over.abort();
      created.push(await creating);
    }
  } finally {
    await admin.end();
  }
  printTable(
    `Reads of ${TENANTS_READ} tenants while others are made, ${whole(server.count)} roles at the start`,
    ["", "reads a second", "share", "p50 / p99 ms", "tenants made a second"],
    [
      ["alone", whole(median(alone)), "1", latencyText(medianLatency(alone)), "–"],
      [
        "meanwhile",
        whole(median(meanwhile)),
        ratioText(spread(meanwhile.map((m, i) => m.perSecond / (alone[i]?.perSecond ?? NaN)))),
        latencyText(medianLatency(meanwhile)),
        spread(created).median.toFixed(1),
      ],
    ],
  );
}

interface Sample {
  readonly perSecond: number;
  readonly latency: Latency;
}

function median(samples: readonly Sample[]): number {
  return spread(samples.map(({ perSecond }) => perSecond)).median;
}

function medianLatency(samples: readonly Sample[]): Latency {
  return {
    p50: spread(samples.map(({ latency }) => latency.p50)).median,
    p99: spread(samples.map(({ latency }) => latency.p99)).median,
  };
}
