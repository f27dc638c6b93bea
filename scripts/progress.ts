/** How far a long command is: a bar on a terminal, a line for each step otherwise. */

/** Characters of the bar itself. */
const BAR_WIDTH = 24;

export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #isQuiet: boolean;
  #isDrawn = false;

  /**
   * Writes to stderr, so that stdout has the result alone.
   *
   * @param isQuiet says nothing but what is warned of: `--json` without a terminal
   */
  constructor({ isQuiet = false, out = process.stderr }: ProgressOptions = {}) {
    this.#isQuiet = isQuiet && !out.isTTY;
    this.#out = out;
  }

  /** One more step is done. `note` is the line for it where there is no terminal. */
  step(done: number, total: number, note: string): void {
    if (!this.#out.isTTY) {
      if (!this.#isQuiet) this.#out.write(`${done}/${total} ${note}\n`);
      return;
    }
    const filled = total === 0 ? BAR_WIDTH : Math.round((done / total) * BAR_WIDTH);
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, ".");
    const line = `[${bar}] ${done}/${total} ${note}`.slice(0, (this.#out.columns || 80) - 1);
    this.#clear();
    this.#out.write(line);
    this.#isDrawn = true;
  }

  /** A line that stays. */
  say(line: string): void {
    if (this.#isQuiet) return;
    this.#clear();
    this.#out.write(`${line}\n`);
  }

  /** Takes the bar away. */
  end(): void {
    this.#clear();
  }

  #clear(): void {
    if (!this.#isDrawn) return;
    // Back to the line's beginning, and what is on it gone (ECMA-48: CR, EL).
    this.#out.write("\r\u001B[K");
    this.#isDrawn = false;
  }
}

export interface ProgressOptions {
  readonly isQuiet?: boolean;
  readonly out?: NodeJS.WriteStream;
}
