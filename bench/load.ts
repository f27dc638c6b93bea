/** One request of a load; what it gives back does not matter, only when it is answered. */
export type Request = () => Promise<unknown>;

/** How long requests took, in milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/**
 * Keeps `concurrency` requests under way for `seconds`.
 *
 * @returns requests answered in a second, and their latency
 */
export async function keepBusy(
  request: Request,
  { seconds, concurrency }: { seconds: number; concurrency: number },
): Promise<{ perSecond: number; latency: Latency }> {
  const took: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let sentAt = performance.now(); sentAt < end; sentAt = performance.now()) {
        await request();
        took.push(performance.now() - sentAt);
      }
    }),
  );
  const perSecond = (took.length / (performance.now() - start)) * 1000;
  return { perSecond, latency: latencyOf(took) };
}

/**
 * Sends requests at a fixed rate, however slowly they are answered, and tells `record` how long each
 * took from the call on. Resolves when all are answered.
 */
export async function sendAtRate(
  { perSecond, seconds }: { perSecond: number; seconds: number },
  send: () => { request: Promise<unknown>; record: (ms: number) => void },
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  const start = performance.now();
  const total = Math.round(perSecond * seconds);
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, ((performance.now() - start) / 1000) * perSecond);
    for (; sent < due; sent += 1) {
      const sentAt = performance.now();
      const { request, record } = send();
      const done: Promise<void> = request.then(() => {
        record(performance.now() - sentAt);
        underWay.delete(done);
      });
      underWay.add(done);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(underWay);
}

/** Runs each request of a list once, `concurrency` at a time. */
export async function runAll(requests: Iterable<Request>, concurrency: number): Promise<void> {
  const iterator = requests[Symbol.iterator]();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let next = iterator.next(); !next.done; next = iterator.next()) await next.value();
    }),
  );
}

/** A request, and what has to be done before each of its rounds. */
export interface Case {
  readonly request: Request;
  readonly prepare?: () => Promise<void>;
}

/**
 * Measures cases in turn, round by round, so that what disturbs the machine for a while disturbs all
 * of them.
 *
 * @returns for each case its requests per second, one figure a round
 */
export async function measureInTurn(
  cases: Readonly<Record<string, Case>>,
  { rounds, seconds, concurrency }: { rounds: number; seconds: number; concurrency: number },
): Promise<Map<string, number[]>> {
  const results = new Map(Object.keys(cases).map((name) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, { request, prepare }] of Object.entries(cases)) {
      await prepare?.();
      const { perSecond } = await keepBusy(request, { seconds, concurrency });
      results.get(name)?.push(perSecond);
    }
  }
  return results;
}

/** Median, least and greatest of some figures. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(figures: readonly number[]): Spread {
  const sorted = figures.toSorted((a, b) => a - b);
  return { median: at(sorted, 0.5), min: at(sorted, 0), max: at(sorted, 1) };
}

/** Ratios of figures measured in the same rounds. */
export function ratio(ours: readonly number[], bound: readonly number[]): Spread {
  return spread(ours.map((figure, round) => figure / (bound[round] ?? Number.NaN)));
}

export function latencyOf(took: readonly number[]): Latency {
  const sorted = took.toSorted((a, b) => a - b);
  return { p50: at(sorted, 0.5), p99: at(sorted, 0.99) };
}

/** The figure that this share of all are at most. */
export function quantile(figures: readonly number[], share: number): number {
  return at(
    figures.toSorted((a, b) => a - b),
    share,
  );
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
}

/** Draws whole numbers below a limit. */
export type Draw = () => number;

export function uniform(limit: number): Draw {
  return () => Math.floor(Math.random() * limit);
}

/** Zipf's law with exponent 1: the n-th is drawn 1/n as often as the first. */
export function zipf(limit: number): Draw {
  let sum = 0;
  const sums = Float64Array.from({ length: limit }, (_, index) => (sum += 1 / (index + 1)));
  return () => {
    const drawn = Math.random() * sum;
    let low = 0;
    let high = limit - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? sum) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** The numbers 1 to `count` in random order: the ranks of Zipf's law fall on lanes by chance. */
export function shuffled(count: number): number[] {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  for (let index = count - 1; index > 0; index -= 1) {
    const other = Math.floor(Math.random() * (index + 1));
    [numbers[index], numbers[other]] = [numbers[other] ?? 0, numbers[index] ?? 0];
  }
  return numbers;
}
