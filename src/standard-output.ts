import { write, writeSync } from "node:fs";

const STDOUT = 1;

/** Lines that wait for a slow or full output, in bytes; past it lines are lost, not the service. */
const WAITING_BYTES_MAX = 4 * 2 ** 20;

/** How soon to try again after an output that takes nothing. */
const RETRY_MS = 200;

/**
 * Standard output for a log, written to beside the work and not in its way: a disk that is full or a reader that
 * is slow costs lines, neither requests nor the end of the process. What is being written when the process is made
 * to end is written twice rather than not at all. (pino's own destination throws on the first
 * and, at the end, waits for it for ever.)
 */
export class StandardOutput {
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #lost = 0;

  constructor() {
    process.once("exit", () => this.#writeRest());
  }

  /** Lines that were not taken. */
  get lost(): number {
    return this.#lost;
  }

  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#waitingBytes + bytes.length > WAITING_BYTES_MAX) {
      this.#lost += 1;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) this.#writeNext();
  }

  #writeNext(): void {
    if (this.#waiting.length === 0) return;
    this.#isWriting = true;
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [bytes];
    write(STDOUT, bytes, (error, written) => {
      if (error) {
        setTimeout(() => this.#writeNext(), RETRY_MS).unref();
        return;
      }
      this.#taken(bytes, written);
      this.#isWriting = false;
      this.#writeNext();
    });
  }

  /** Lines that came meanwhile stand behind those that were being written. */
  #taken(bytes: Buffer, written: number): void {
    this.#waitingBytes -= written;
    if (written === bytes.length) this.#waiting.shift();
    else this.#waiting[0] = bytes.subarray(written);
  }

  #writeRest(): void {
    let rest = Buffer.concat(this.#waiting);
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(STDOUT, rest));
    } catch {
      // Nobody is left to tell.
    }
  }
}
