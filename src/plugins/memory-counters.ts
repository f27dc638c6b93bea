/** How often something was counted in a window, and when the window ends. */
export interface Counted {
  readonly count: number;
  readonly ttlMs: number;
}

interface Counter {
  count: number;
  /** How many the limit allows. */
  max: number;
  /** Milliseconds of {@link performance.now}: setting the system's clock moves no window. */
  endsAt: number;
}

/**
 * Counters kept at once, of all limits together. One takes 270 to 290 bytes with its key (measured by
 * `npm run bench -- rate-limits`): under 60 MB when full, which 200,000 callers would have to fill in
 * one window.
 */
export const COUNTERS_MAX = 200_000;

/** Counters looked at for each one that is added: enough that those of past windows never pile up. */
const LOOKED_AT = 8;

/**
 * Counts in this process, in windows that begin with the first count. Memory is bounded: when it is
 * full, the counter that has used the least of its limit gives way, among a few taken in turn. So a
 * flood of new keys, counted once each, drives itself out, and not the counters of those who are near
 * their limit, which is what a flood would be for.
 */
export class MemoryCounters {
  readonly #counters = new Map<string, Counter>();
  readonly #countersMax: number;
  /** Goes round all counters; those added meanwhile come last. */
  #next = this.#counters.entries();

  constructor(countersMax = COUNTERS_MAX) {
    this.#countersMax = countersMax;
  }

  get size(): number {
    return this.#counters.size;
  }

  /** Counts one more of `key`, in one step: parallel calls never see the same count. */
  count(key: string, windowMs: number, max: number): Counted {
    const now = performance.now();
    const counter = this.#counters.get(key);
    if (counter && counter.endsAt > now) {
      counter.count += 1;
      return { count: counter.count, ttlMs: counter.endsAt - now };
    }
    if (!counter) this.#makeRoom(now);
    this.#counters.set(key, { count: 1, max, endsAt: now + windowMs });
    return { count: 1, ttlMs: windowMs };
  }

  #makeRoom(now: number): void {
    let least: { key: string; share: number } | undefined;
    for (let looked = 0; looked < LOOKED_AT; looked += 1) {
      const [key, counter] = this.#take() ?? [];
      if (key === undefined || counter === undefined) break;
      const share = counter.count / counter.max;
      if (counter.endsAt <= now) this.#counters.delete(key);
      else if (!least || share < least.share) least = { key, share };
    }
    if (this.#counters.size >= this.#countersMax && least) this.#counters.delete(least.key);
  }

  #take(): [string, Counter] | undefined {
    const { value, done } = this.#next.next();
    if (!done) return value;
    this.#next = this.#counters.entries();
    return this.#next.next().value;
  }
}
