import { createHmac } from "node:crypto";
import bcrypt from "bcrypt";
import { AppError } from "../errors.ts";

export interface PasswordHasherOptions {
  readonly pepper: string;
  /** bcrypt's cost: 2^cost rounds. */
  readonly cost: number;
}

/** Shortest and longest password, in characters (Unicode code points). ASVS 5.0 6.2.1, 6.2.9. */
export const PASSWORD_LENGTH_MIN = 8;
export const PASSWORD_LENGTH_MAX = 128;

/** The version of PASSWORD_PEPPER, written in front of every hash made with it. */
const PEPPER_VERSION = "p1";

/**
 * Hashes at a time. A hash holds a thread of Node's pool for 60 ms or more; with all four taken,
 * file, DNS and crypto work of every other request waits for it (measured: 365 ms against 1.3).
 */
const HASHES_AT_ONCE_MAX = 2;

/** Hashes waiting: at 35 a second on 2 cores, three seconds of patience. */
const HASH_QUEUE_MAX = 100;

/**
 * bcrypt over an HMAC of the password: bcrypt itself reads 72 bytes and stops at a NUL, the HMAC makes
 * all of up to 128 characters of any script count, and a stolen table is no use without the pepper.
 */
export class PasswordHasher {
  readonly #pepper: string;
  readonly #cost: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #decoy: Promise<string> | undefined;

  constructor({ pepper, cost }: PasswordHasherOptions) {
    this.#pepper = pepper;
    this.#cost = cost;
  }

  /** Hashes under way and waiting. */
  get load(): number {
    return this.#running + this.#waiting.length;
  }

  /** @throws AppError `overloaded` when too many hashes are waiting */
  async hash(password: string): Promise<string> {
    const hashed = await this.#inTurn(() => bcrypt.hash(this.#prepare(password), this.#cost));
    return `${PEPPER_VERSION}${hashed}`;
  }

  /**
   * Whether `password` is the one that was hashed. Without a hash the same work is done and the
   * answer is no, so that the time does not tell which accounts exist.
   *
   * @throws AppError `overloaded` when too many hashes are waiting
   */
  async verify(password: string, hash: string | null | undefined): Promise<boolean> {
    const known = hash?.startsWith(`${PEPPER_VERSION}$`) ? hash : undefined;
    const compared = known ?? (await this.#makeDecoy());
    const isSame = await this.#inTurn(() =>
      bcrypt.compare(this.#prepare(password), compared.slice(PEPPER_VERSION.length)),
    );
    return isSame && known !== undefined;
  }

  /** Whether a hash was made with another cost than passwords are hashed with now. */
  isOutdated(hash: string): boolean {
    return bcrypt.getRounds(hash.slice(PEPPER_VERSION.length)) !== this.#cost;
  }

  /** A hash that nothing verifies against, made once, of the cost of every other. */
  #makeDecoy(): Promise<string> {
    this.#decoy ??= this.hash("").catch((error: unknown) => {
      this.#decoy = undefined;
      throw error;
    });
    return this.#decoy;
  }

  /**
   * 64 characters, none of them NUL, whatever the password; NFKC as NIST SP 800-63B (2017) §5.1.1.2
   * recommends.
   */
  #prepare(password: string): string {
    return createHmac("sha384", this.#pepper).update(password.normalize("NFKC")).digest("base64");
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= HASHES_AT_ONCE_MAX) {
      if (this.#waiting.length >= HASH_QUEUE_MAX) {
        throw new AppError("overloaded", "Too many sign-ins are waiting. Try again in a moment.", {
          retryAfterSeconds: 3,
        });
      }
      // Whoever ends hands its place over, so the count stays.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }
}
