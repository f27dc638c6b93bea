/** Tenants told of: as many series as a monitor is to keep of them. */
const TOLD_MAX = 20;

/** Tenants counted in one minute; more are not, so that memory has a bound. */
const COUNTED_MAX = 10_000;

const WINDOW_MS = 60_000;

/** Counts requests by tenant, minute by minute. */
export class BusiestTenants {
  #current = new Map<string, number>();
  #last: ReadonlyMap<string, number> = new Map();
  #endsAt = performance.now() + WINDOW_MS;

  count(tenant: string): void {
    this.#turn();
    const counted = this.#current.get(tenant);
    if (counted === undefined && this.#current.size >= COUNTED_MAX) return;
    this.#current.set(tenant, (counted ?? 0) + 1);
  }

  /** Those with the most requests in the last full minute, the most first. */
  read(): { tenant: string; requests: number }[] {
    this.#turn();
    return [...this.#last]
      .map(([tenant, requests]) => ({ tenant, requests }))
      .toSorted((one, other) => other.requests - one.requests)
      .slice(0, TOLD_MAX);
  }

  #turn(): void {
    const late = performance.now() - this.#endsAt;
    if (late < 0) return;
    this.#last = late < WINDOW_MS ? this.#current : new Map();
    this.#current = new Map();
    this.#endsAt = performance.now() + WINDOW_MS;
  }
}
