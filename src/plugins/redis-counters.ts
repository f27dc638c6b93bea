import type { FastifyBaseLogger } from "fastify";
import { Redis, type Result } from "ioredis";
import type { Counted } from "./memory-counters.ts";

declare module "ioredis" {
  interface RedisCommander<Context> {
    /** {@link COUNT_SCRIPT}: the count, and the milliseconds until it begins anew. */
    countRequest(key: string, windowMs: number): Result<[number, number], Context>;
  }
}

/** One step for Redis: of parallel calls from several processes no two see the same count. */
const COUNT_SCRIPT = `
  local count = redis.call('INCR', KEYS[1])
  if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
  return { count, redis.call('PTTL', KEYS[1]) }`;

/** In front of every key, for a Redis that others use too. */
const KEY_PREFIX = "ouvira:limit:";
const PROBE_KEY = `${KEY_PREFIX}probe`;

/** How long a count may take: the most that a Redis that hangs adds to a request, once an outage. */
const ANSWER_MS = 100;
/** How long Redis is left alone after a failure before it is asked again, by no request. */
const PROBE_EVERY_MS = 1_000;
const CONNECT_TIMEOUT_MS = 1_000;
/** A connection that has something to answer and is silent for longer is replaced. */
const SILENCE_MAX_MS = 2_000;
const RECONNECT_EVERY_MS = 500;
/** How long the boot waits for Redis, so that the first requests are counted there already. */
const BOOT_WAIT_MS = 1_500;
/** A Redis that comes and goes is worth no more than a line of the log in this time. */
const WARNING_EVERY_MS = 10_000;

/**
 * Counts in Redis, for all processes together, as long as it answers. The first count without an answer
 * ends that: no request asks again until a probe has been answered.
 */
export class RedisCounters {
  readonly #client: Redis;
  readonly #log: FastifyBaseLogger;
  #isAnswering = false;
  #isClosed = false;
  #isProbing = false;
  #nextProbe: NodeJS.Timeout | undefined;
  #lastError: unknown;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(url: string, log: FastifyBaseLogger) {
    this.#log = log;
    this.#client = new Redis(url, {
      lazyConnect: true,
      // What cannot be sent now is counted here, not later there.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SILENCE_MAX_MS,
      retryStrategy: () => RECONNECT_EVERY_MS,
      // After a failover the connection leads to a replica; a new one leads to the new primary.
      reconnectOnError: (error) => error.message.startsWith("READONLY"),
      scripts: { countRequest: { lua: COUNT_SCRIPT, numberOfKeys: 1 } },
    });
    this.#client.on("error", (error) => (this.#lastError = error));
    this.#client.on("ready", () => void this.#probe());
    this.#client.on("close", () => this.#giveUp(this.#lastError ?? new Error("Connection closed")));
  }

  /** Whether counts go to Redis at the moment. */
  get isAnswering(): boolean {
    return this.#isAnswering;
  }

  /** Connects. Without Redis it gives up waiting after a while, and connects whenever it comes. */
  async open(): Promise<void> {
    this.#client.connect().catch((error: unknown) => (this.#lastError ??= error));
    const deadline = performance.now() + BOOT_WAIT_MS;
    while (!this.#isAnswering && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    if (!this.#isAnswering) this.#warn(this.#lastError);
  }

  /** Counts one more of `key`; undefined when Redis does not answer. */
  async count(key: string, windowMs: number): Promise<Counted | undefined> {
    if (!this.#isAnswering) return undefined;
    try {
      const answer = this.#client.countRequest(KEY_PREFIX + key, windowMs);
      const [count, ttlMs] = await within(ANSWER_MS, answer);
      return { count, ttlMs };
    } catch (error) {
      this.#giveUp(error);
      return undefined;
    }
  }

  /** Ends the connection; nothing is waited for, counters are not worth it. */
  close(): void {
    this.#isClosed = true;
    this.#isAnswering = false;
    clearTimeout(this.#nextProbe);
    this.#client.disconnect();
  }

  #giveUp(error: unknown): void {
    if (this.#isClosed || !this.#isAnswering) return;
    this.#isAnswering = false;
    this.#warn(error);
    this.#probeLater();
  }

  #warn(error: unknown): void {
    if (performance.now() - this.#warnedAt < WARNING_EVERY_MS) return;
    this.#warnedAt = performance.now();
    this.#log.warn({ err: error }, "Redis does not answer: this process counts limits by itself");
  }

  #probeLater(): void {
    clearTimeout(this.#nextProbe);
    this.#nextProbe = setTimeout(() => void this.#probe(), PROBE_EVERY_MS);
    this.#nextProbe.unref();
  }

  /** Asks for what counting needs: one that cannot be written to answers a PING, too. */
  async #probe(): Promise<void> {
    // A lost connection is made anew by the client, and is then asked at once.
    if (this.#isAnswering || this.#isProbing || this.#client.status !== "ready") return;
    this.#isProbing = true;
    try {
      await within(ANSWER_MS, this.#client.countRequest(PROBE_KEY, PROBE_EVERY_MS));
      if (this.#isClosed) return;
      this.#isAnswering = true;
      this.#lastError = undefined;
      this.#log.info("Redis counts the limits");
    } catch (error) {
      this.#lastError = error;
      this.#probeLater();
    } finally {
      this.#isProbing = false;
    }
  }
}

/**
 * An answer, or a failure when it takes longer. What has arrived while this process itself was busy is
 * read before the time is found to be over.
 */
function within<T>(milliseconds: number, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error(`No answer within ${milliseconds} ms`));
    const timer = setTimeout(() => setImmediate(fail), milliseconds);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Keys asked for at a time. */
const SCAN_COUNT = 1_000;

/**
 * Removes the counters of a tenant that is gone; without that they go by themselves within a day.
 *
 * @returns how many there were
 * @throws Error when Redis does not answer
 */
export async function eraseCounters(url: string, tenantId: number): Promise<number> {
  return withRedis(url, async (client) => {
    // Scope, tenant, subject: an address of another tenant may have the same number in it.
    const ofTenant = new RegExp(`^${KEY_PREFIX}[A-Za-z]+:${tenantId}:`);
    let erased = 0;
    let cursor = "0";
    do {
      const [next, keys] = await client.scan(
        cursor,
        "MATCH",
        `${KEY_PREFIX}*:${tenantId}:*`,
        "COUNT",
        SCAN_COUNT,
      );
      cursor = next;
      const found = keys.filter((key) => ofTenant.test(key));
      if (found.length > 0) erased += await client.unlink(...found);
    } while (cursor !== "0");
    return erased;
  });
}

/** Whether Redis answers. @throws Error when it does not, with the reason */
export async function pingRedis(url: string): Promise<void> {
  await withRedis(url, (client) => client.ping());
}

/** A connection for a command: tried once. */
async function withRedis<T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_MAX_MS,
    maxRetriesPerRequest: 1,
    retryStrategy: () => null,
  });
  let reason: unknown;
  client.on("error", (error) => (reason = error));
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    // The call says that the connection is closed; why stands in the event.
    if (error instanceof Error) error.cause ??= reason;
    throw error;
  } finally {
    client.disconnect();
  }
}
