interface Waiter {
  readonly max: number;
  readonly give: (count: number) => void;
}

/** A number of places that are given out in the order of asking. */
export class Slots {
  #free: number;
  readonly #waiters: Waiter[] = [];
  #isClosed = false;

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits until a place is free; takes what is free then, at most `max`. 0 once closed. */
  take(max: number): Promise<number> {
    return new Promise((resolve) => {
      this.#waiters.push({ max, give: resolve });
      this.#serve();
    });
  }

  giveBack(count: number): void {
    this.#free += count;
    this.#serve();
  }

  /** Gives out nothing more; those who wait get 0. */
  close(): void {
    this.#isClosed = true;
    this.#serve();
  }

  #serve(): void {
    while (this.#waiters.length > 0 && (this.#free > 0 || this.#isClosed)) {
      const waiter = this.#waiters.shift();
      const count = this.#isClosed ? 0 : Math.min(this.#free, waiter?.max ?? 0);
      this.#free -= count;
      waiter?.give(count);
    }
  }
}
