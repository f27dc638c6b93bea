/**
 * How long past `statement_timeout` an answer may stay out before the socket is taken for dead. The
 * server cannot tell us when the network is gone.
 */
const SILENCE_GRACE_MS = 2_000;

/** How often it is looked for. */
const SILENCE_TICK_MS = 1_000;

/** Tells when a server that owes an answer has said nothing for too long. */
export class SilenceWatch {
  readonly #timer: NodeJS.Timeout;
  /** How many statements each answer is to, that of the oldest question first. */
  readonly #waiting: number[] = [];
  #silentTicks = 0;

  /** @param allowedMs how long the server may take for one statement, its wait for a lock included */
  constructor(allowedMs: number, onSilence: (reason: Error) => void) {
    this.#timer = setInterval(() => {
      const [statements] = this.#waiting;
      if (statements === undefined) return;
      // Ticks are counted, not the clock read: while this process is busy there are none, and an answer
      // may lie unread, or the question unsent.
      this.#silentTicks += 1;
      const silenceMs = allowedMs * statements + SILENCE_GRACE_MS;
      if (this.#silentTicks > Math.ceil(silenceMs / SILENCE_TICK_MS)) {
        onSilence(new Error("The server has not answered in time"));
      }
    }, SILENCE_TICK_MS);
    this.#timer.unref();
  }

  /** Something was asked; the server may keep the answers to several statements until it has all of them. */
  expectAnswer(statements = 1): void {
    if (this.#waiting.length === 0) this.#silentTicks = 0;
    this.#waiting.push(Math.max(1, statements));
  }

  /** Some of an answer has come. */
  heard(): void {
    this.#silentTicks = 0;
  }

  /** An answer has come whole. */
  answered(): void {
    this.#waiting.shift();
    this.#silentTicks = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
