import { AppError } from "../errors.ts";

interface Line {
  underWay: number;
  /** Oldest first. */
  readonly waiting: (() => void)[];
}

/** Work of which a few pieces at a time are under way for each key; the others wait, in order. */
export class Turns {
  readonly #lines = new Map<string, Line>();
  readonly #underWayMax: number;
  readonly #waitingMax: number;

  /** @param limits of one key */
  constructor({ underWayMax, waitingMax }: { underWayMax: number; waitingMax: number }) {
    this.#underWayMax = underWayMax;
    this.#waitingMax = waitingMax;
  }

  /** @throws AppError `overloaded` when too many wait; what `work` throws */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(key) ?? { underWay: 0, waiting: [] };
    this.#lines.set(key, line);
    if (line.underWay < this.#underWayMax) line.underWay += 1;
    else if (line.waiting.length < this.#waitingMax) {
      // Whoever ends hands its place over.
      await new Promise<void>((resolve) => line.waiting.push(resolve));
    } else {
      throw new AppError("overloaded", "Too many requests for this are waiting.", {
        retryAfterSeconds: 1,
      });
    }
    try {
      return await work();
    } finally {
      const next = line.waiting.shift();
      if (next) next();
      else {
        line.underWay -= 1;
        if (line.underWay === 0) this.#lines.delete(key);
      }
    }
  }

  /** Keys that have something under way. */
  get size(): number {
    return this.#lines.size;
  }
}
