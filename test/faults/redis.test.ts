import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import { hasRedisServer, startRedis, type TestRedis } from "../redis.ts";
import type { ServerProcess } from "../server-process.ts";

const REFRESHES_MAX = 20;
const WAIT = { timeout: 10_000, interval: 20 };

if (!hasRedisServer) console.log("Skipped: there is no redis-server on the path.");

describe.skipIf(!hasRedisServer)("Redis that is stopped under load and started again", () => {
  let redis: TestRedis;
  let ground: FaultGround;
  let server: ServerProcess;
  const tenants: LoadTenant[] = [];

  beforeAll(async () => {
    redis = await startRedis();
    ground = await createFaultGround();
    server = await ground.startService({
      REDIS_URL: redis.url,
      // Counted at each request, and never reached.
      RATE_LIMIT_AUTHENTICATED: "1000000/hour",
      RATE_LIMIT_REFRESH: `${REFRESHES_MAX}/hour`,
    });
    for (let count = 0; count < 3; count += 1) tenants.push(await ground.createTenant(server));
  }, 120_000);
  afterAll(async () => {
    await ground.close();
    await redis.close();
  });

  const untilReadiness = (status: string) =>
    vi.waitFor(async () => {
      const readiness: unknown = await (await fetch(`${server.url}/readyz`)).json();
      expect(readiness).toMatchObject({ status });
    }, WAIT);

  /** How many of many calls pass a limit: they are then refused for their token. */
  const countPassing = async ({ subdomain }: LoadTenant): Promise<number> => {
    const statuses = await Promise.all(
      Array.from({ length: REFRESHES_MAX + 10 }, async () => {
        const response = await fetch(`${server.url}/api/auth/token/refresh/`, {
          method: "POST",
          headers: { "x-tenant": subdomain, "content-type": "application/json" },
          body: JSON.stringify({ refresh: "not a token" }),
        });
        await response.arrayBuffer();
        return response.status;
      }),
    );
    expect(statuses.filter((status) => status !== 401 && status !== 429)).toEqual([]);
    return statuses.filter((status) => status === 401).length;
  };

  test("fails no request, and limits are counted in the process meanwhile", async () => {
    const load = new FaultLoad(() => [server], tenants);
    const [first, second, third] = tenants;
    if (!first || !second || !third) throw new Error("There are no tenants");
    await load.during(async () => {
      await untilReadiness("ok");
      expect(await countPassing(first)).toBe(REFRESHES_MAX);

      await load.untilWritten();
      await load.traffic.strike("killed", () => redis.kill());
      await untilReadiness("degraded");
      expect(await countPassing(second)).toBe(REFRESHES_MAX);
      await load.untilWritten();
      await redis.start();
      await untilReadiness("ok");

      await load.untilWritten();
      await load.traffic.strike("hanging", () => redis.hang());
      await untilReadiness("degraded");
      expect(await countPassing(third)).toBe(REFRESHES_MAX);
      await load.untilWritten();
      redis.goOn();
      await untilReadiness("ok");
      await load.untilAnswering();
    });

    expect(await load.verify(ground.registry)).toBe(0);
    expect(load.traffic.count(503) + load.traffic.count(0)).toBe(0);
    expect(server.isRunning).toBe(true);
  }, 60_000);
});
