import { type Case, measureInTurn, ratio, spread, uniform, zipf } from "./load.ts";
import { printTable, ratioText, whole } from "./report.ts";
import {
  anyOfTwelve,
  type Bare,
  CONCURRENCY,
  type LaneCounts,
  mixOfTwelve,
  ownMemoryMax,
  type SubjectOptions,
  warmUp,
} from "./subject.ts";
import { variantsOf } from "./variants.ts";

export interface ComparisonOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Only ways whose name contains this. */
  readonly ways: string;
  readonly counts: () => LaneCounts;
}

/**
 * Every way that was tried, one after the other, each in turn with the bound: the mix over all
 * tenants. A variant has its connections for itself, and is closed before the next is opened.
 */
export async function printComparison(
  options: SubjectOptions,
  bare: Bare,
  tenants: readonly number[],
  { rounds, seconds, ways, counts }: ComparisonOptions,
): Promise<void> {
  const rows: string[][] = [];
  for (const variant of variantsOf(options)) {
    if (!variant.name.includes(ways)) continue;
    const subject = await variant.open();
    try {
      const startedAt = performance.now();
      await warmUp(subject, tenants);
      const warmUpSeconds = (performance.now() - startedAt) / 1000;
      const before = counts();
      const cases = {
        bound: { request: () => anyOfTwelve(bare.run), prepare: () => bare.renew() },
        uniform: { request: mixOfTwelve(subject, tenants, uniform(tenants.length)) },
        zipf: { request: mixOfTwelve(subject, tenants, zipf(tenants.length)) },
      } satisfies Record<string, Case>;
      const results = await measureInTurn(cases, { rounds, seconds, concurrency: CONCURRENCY });
      const bound = results.get("bound") ?? [];
      const even = results.get("uniform") ?? [];
      const skewed = results.get("zipf") ?? [];
      rows.push([
        variant.name,
        whole(spread(even).median),
        ratioText(ratio(even, bound)),
        whole(spread(skewed).median),
        ratioText(ratio(skewed, bound)),
        whole(Math.max(...subject.backends().map(({ prepared }) => prepared))),
        whole(ownMemoryMax(subject) ?? Number.NaN),
        whole(counts().deallocated - before.deallocated),
        whole(counts().opened - before.opened),
        warmUpSeconds.toFixed(1),
      ]);
    } finally {
      await subject.close();
    }
  }
  printTable(
    `What was tried: the mix over ${whole(tenants.length)} tenants, bound with ${options.lanes} connections`,
    [
      "way",
      "uniform/s",
      "of the bound",
      "Zipf/s",
      "of the bound",
      "prepared a backend",
      "RssAnon MB",
      "deallocated",
      "reconnected",
      "warm-up s",
    ],
    rows,
  );
}
