/** How often a timer looks how late it is. */
const TICK_MS = 100;

/** Ticks in a row that the lag is the mean of: one long pause is a hiccup, five late timers are a load. */
const TICKS = 5;

/**
 * How far this process is behind: how late its timers fire, in the mean of the last few. (`@fastify/under-pressure`
 * counts the pause of the start itself, and takes no sample for an endless lag: it refused the first requests.)
 */
export class EventLoopLag {
  readonly #late: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #dueAt = 0;

  /** In milliseconds. */
  get milliseconds(): number {
    return this.#late.reduce((sum, late) => sum + late, 0) / TICKS;
  }

  start(): void {
    this.#dueAt = performance.now() + TICK_MS;
    this.#timer = setTimeout(() => {
      this.#late.push(Math.max(0, performance.now() - this.#dueAt));
      if (this.#late.length > TICKS) this.#late.shift();
      this.start();
    }, TICK_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
