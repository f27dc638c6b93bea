import type { FastifyRateLimitStoreCtor } from "@fastify/rate-limit";
import { type Counted, MemoryCounters } from "./memory-counters.ts";
import type { RedisCounters } from "./redis-counters.ts";

/**
 * Where @fastify/rate-limit counts: in Redis while it answers, else in this process. There is always
 * an answer, so that no request passes uncounted. One store for all limits: keys begin with their scope.
 */
export function rateLimitStore(
  redis: RedisCounters | undefined,
  onFallback: () => void,
): FastifyRateLimitStoreCtor {
  const memory = new MemoryCounters();

  return class {
    incr(
      key: string,
      callback: (error: Error | null, result?: { current: number; ttl: number }) => void,
      windowMs: number,
      max: number,
    ): void {
      const answer = ({ count, ttlMs }: Counted) => callback(null, { current: count, ttl: ttlMs });
      if (!redis) {
        answer(memory.count(key, windowMs, max));
        return;
      }
      void redis.count(key, windowMs).then((counted) => {
        if (!counted) onFallback();
        answer(counted ?? memory.count(key, windowMs, max));
      });
    }

    child(): this {
      return this;
    }
  };
}
