import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasRedisServer, startRedis, type TestRedis } from "../../test/redis.ts";
import { eraseCounters } from "./redis-counters.ts";

describe.skipIf(!hasRedisServer)("eraseCounters", () => {
  let redis: TestRedis;

  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  test("removes the counters of one tenant, whatever else has its number in it", async () => {
    const kept = [
      "ouvira:limit:authenticated:5:user:42",
      "ouvira:limit:anonymous:5:ip:2001:42:3::",
      "ouvira:limit:login:420:ip:10.0.0.1",
      "somebody:else:42:key",
    ];
    const erased = Array.from(
      { length: 2_500 },
      (_, user) => `ouvira:limit:refresh:42:user:${user}`,
    );
    const client = new Redis(redis.url);
    try {
      await client.mset(Object.fromEntries([...kept, ...erased].map((key) => [key, "1"])));

      expect(await eraseCounters(redis.url, 42)).toBe(erased.length);
      expect((await client.keys("*")).sort()).toEqual(kept.toSorted());
    } finally {
      client.disconnect();
    }
  });

  test("fails when Redis does not answer", async () => {
    await expect(eraseCounters("redis://127.0.0.1:1", 42)).rejects.toThrow("Connection is closed");
  });
});
