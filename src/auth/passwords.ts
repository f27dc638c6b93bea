import { createHmac } from "node:crypto";
import { FairQueue } from "../db/fair-queue.ts";
import { AppError } from "../errors.ts";
import { type HashJob, HashThread } from "./hash-thread.ts";

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

/** Hashes at a time, each on a thread of its own: as many as the smallest machine has cores. */
const HASHES_AT_ONCE_MAX = 2;

/** Hashes waiting: at 35 a second on 2 cores, three seconds of patience. */
const HASH_QUEUE_MAX = 100;

/** Whom the hashes are for that are no tenant's: the platform's operators, commands. */
const PLATFORM = "platform";

/** A hash that waits for a thread. */
interface Waiting {
  go(thread: HashThread): void;
  refuse(error: AppError): void;
}

/**
 * bcrypt over an HMAC of the password: bcrypt itself reads 72 bytes and stops at a NUL, the HMAC makes
 * all of up to 128 characters of any script count, and a stolen table is no use without the pepper.
 *
 * Tenants take turns. When too many hashes wait, the tenant that has the most waiting is refused, whoever comes: a
 * flood of one tenant's logins drives out its own.
 */
export class PasswordHasher {
  readonly #pepper: string;
  readonly #cost: number;
  readonly #waiting = new FairQueue<Waiting>();
  readonly #threads = Array.from({ length: HASHES_AT_ONCE_MAX }, () => new HashThread());
  /** The one that was used last is taken first: where hashes are rare, there is one thread. */
  readonly #idle = [...this.#threads];
  #isClosed = false;
  #decoy: Promise<string> | undefined;

  constructor({ pepper, cost }: PasswordHasherOptions) {
    this.#pepper = pepper;
    this.#cost = cost;
  }

  /** Hashes under way and waiting. */
  get load(): number {
    return this.#threads.length - this.#idle.length + this.#waiting.length;
  }

  /**
   * @param tenantId for whom; undefined: for the platform itself
   * @throws AppError `overloaded` when too many hashes are waiting
   */
  async hash(password: string, tenantId?: number): Promise<string> {
    const hashed = await this.#inTurn(tenantId, {
      password: this.#prepare(password),
      cost: this.#cost,
    });
    return `${PEPPER_VERSION}${hashed}`;
  }

  /**
   * Whether `password` is the one that was hashed. Without a hash the same work is done and the
   * answer is no, so that the time does not tell which accounts exist.
   *
   * @param tenantId for whom; undefined: for the platform itself
   * @throws AppError `overloaded` when too many hashes are waiting
   */
  async verify(
    password: string,
    hash: string | null | undefined,
    tenantId?: number,
  ): Promise<boolean> {
    const known = hash?.startsWith(`${PEPPER_VERSION}$`) ? hash : undefined;
    const compared = known ?? (await this.#makeDecoy());
    const isSame = await this.#inTurn(tenantId, {
      password: this.#prepare(password),
      hash: compared.slice(PEPPER_VERSION.length),
    });
    return isSame === true && known !== undefined;
  }

  /** Refuses what waits and ends the threads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiting of this.#waiting.takeAll()) waiting.refuse(stopping());
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  /** Whether a hash was made with another cost than passwords are hashed with now. */
  isOutdated(hash: string): boolean {
    // `$2b$10$…`, in the modular crypt format: bcrypt itself is loaded by the threads that hash alone.
    const [, , cost] = hash.slice(PEPPER_VERSION.length).split("$");
    return Number(cost) !== this.#cost;
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

  async #inTurn(tenantId: number | undefined, job: HashJob): Promise<boolean | string> {
    if (this.#isClosed) throw stopping();
    const thread = this.#idle.pop() ?? (await this.#wait(String(tenantId ?? PLATFORM)));
    try {
      return await thread.run(job);
    } finally {
      const next = this.#waiting.take(() => true);
      if (next) next.go(thread);
      else this.#idle.push(thread);
    }
  }

  /** A thread, once it is the turn of `whom`. */
  #wait(whom: string): Promise<HashThread> {
    if (this.#waiting.length >= HASH_QUEUE_MAX) {
      const dropped = this.#waiting.takeLastOfLongest(this.#waiting.lengthOf(whom));
      if (!dropped) return Promise.reject(tooMany());
      dropped.refuse(tooMany());
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(whom, { go: resolve, refuse: reject });
    });
  }
}

function tooMany(): AppError {
  return new AppError("overloaded", "Too many sign-ins are waiting. Try again in a moment.", {
    retryAfterSeconds: 3,
  });
}

function stopping(): AppError {
  return new AppError("not_ready", "The service is stopping.", { retryAfterSeconds: 1 });
}
