import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { addLimitedRoutes, caller, NO_LIMITS, times } from "../../test/limits.ts";
import { hasRedisServer, startRedis, type TestRedis } from "../../test/redis.ts";
import type { Config } from "../config.ts";

const HOUR_MS = 3_600_000;
const LIMIT = 10;
const SOON = { timeout: 10_000, interval: 20 };

/** Without limits: makes the tenant. */
let base: TestApp;
let tenant: TestTenant;
/** A counter of its own for each test. */
let ip: string;
let tests = 0;

beforeAll(async () => {
  base = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await base.createTenant();
});
afterAll(() => base.close());
beforeEach(() => {
  tests += 1;
  ip = `10.0.0.${tests}`;
});

function startProcess(redisUrl: string, limits: Partial<Config["rateLimits"]> = {}) {
  return base.startReplica({
    config: {
      redisUrl,
      rateLimits: { ...NO_LIMITS, refresh: { count: LIMIT, windowMs: HOUR_MS }, ...limits },
    },
    prepare: (app) => addLimitedRoutes(app, base.services),
  });
}

const refresh = () => ({ path: "/test/refresh/", ip });
const passed = (answers: readonly number[]) => answers.filter((status) => status === 200).length;
const readiness = async ({ app }: TestApp) => {
  const response = await app.inject("/readyz");
  const { status } = response.json<{ status: string }>();
  return { httpStatus: response.statusCode, status };
};
/** Waits until processes count in Redis. */
const untilOk = async (...apps: readonly TestApp[]) => {
  for (const app of apps) {
    await vi.waitFor(async () => {
      const { status } = await readiness(app);
      if (status !== "ok") throw new Error(`The process is ${status}`);
    }, SOON);
  }
};
const fallbacks = async ({ services }: TestApp) =>
  (await services.metrics.rateLimitFallbacks.get()).values[0]?.value ?? 0;
const warnings = ({ logLines }: TestApp) =>
  logLines.filter((line) => line.includes("Redis does not answer"));
const errors = ({ logLines }: TestApp) => logLines.filter((line) => line.includes('"level":50'));

describe.skipIf(!hasRedisServer)("limits in Redis", () => {
  let redis: TestRedis;
  let one: TestApp;
  let other: TestApp;

  beforeAll(async () => {
    redis = await startRedis();
    const limits = {
      login: { count: 3, windowMs: HOUR_MS },
      finalize: { count: 3, windowMs: 500 },
    };
    one = await startProcess(redis.url, limits);
    other = await startProcess(redis.url, limits);
  });
  afterEach(async () => {
    // Whatever a test did to it, the next one finds it answering.
    await untilOk(one, other);
  });
  afterAll(() => redis.close());

  /** How many of 40 calls pass that two processes get at once. */
  async function passedTogether(): Promise<number> {
    const answers = await Promise.all(
      [one, other].map((app) => caller(app, tenant).burst(times(20, refresh))),
    );
    expect(answers.flat().filter((status) => ![200, 429].includes(status))).toEqual([]);
    return passed(answers.flat());
  }

  test("are counted for two processes together: a burst passes exactly the limit", async () => {
    expect(await passedTogether()).toBe(LIMIT);
    expect((await caller(one, tenant).send(refresh())).headers).toMatchObject({
      "ratelimit-limit": String(LIMIT),
      "ratelimit-remaining": "0",
    });
    expect(await fallbacks(one)).toBe(0);
    ip = `${ip}0`;
    expect((await caller(other, tenant).send(refresh())).status).toBe(200);
  });

  test("begin anew when the window is over", async () => {
    const call = { path: "/test/finalize/", ip };
    expect(await caller(one, tenant).burst(times(4, () => call))).toContain(429);

    await vi.waitFor(async () => {
      expect((await caller(other, tenant).send(call)).status).toBe(200);
    }, SOON);
  });

  test("hold nobody's e-mail address or number in clear, and nothing for ever", async () => {
    for (const identifier of ["ada@corp.io", "+201001234567"]) {
      await caller(one, tenant).send({ path: "/test/login/", ip, body: { identifier } });
    }

    const client = new Redis(redis.url);
    const keys = await client.keys("*");
    const lifetimes = await Promise.all(keys.map((key) => client.pttl(key)));
    client.disconnect();
    expect(keys.filter((key) => key.includes("identifier"))).toHaveLength(2);
    expect(keys.join(" ")).not.toMatch(/ada|corp|1001234567/);
    expect(lifetimes.every((lifetime) => lifetime > 0 && lifetime <= HOUR_MS)).toBe(true);
  });

  test("go on in each process while Redis is away, and together when it is back", async () => {
    const warned = warnings(one).length;
    const fellBack = await fallbacks(one);
    expect(await readiness(one)).toEqual({ httpStatus: 200, status: "ok" });

    await redis.kill();
    const answers = await caller(one, tenant).statuses(times(LIMIT + 5, refresh));

    expect(answers).toEqual([...times(LIMIT, () => 200), ...times(5, () => 429)]);
    expect(await readiness(one)).toEqual({ httpStatus: 200, status: "degraded" });
    expect((await fallbacks(one)) - fellBack).toBe(LIMIT + 5);
    expect(warnings(one).length - warned).toBe(1);
    expect(errors(one)).toEqual([]);

    await redis.start();
    await untilOk(one, other);
    ip = `${ip}0`;
    expect(await passedTogether()).toBe(LIMIT);
  });

  test("fail no request that is under way when Redis goes", async () => {
    const clients = [one, other].map((app) => caller(app, tenant));
    const answers: number[] = [];
    const over = new AbortController();
    const load = clients.map(async ({ send }) => {
      while (!over.signal.aborted) answers.push((await send(refresh())).status);
    });
    await vi.waitFor(() => expect(answers.length).toBeGreaterThan(50), SOON);

    await redis.kill();
    const before = answers.length;
    await vi.waitFor(() => expect(answers.length).toBeGreaterThan(before + 50), SOON);
    await redis.start();
    await untilOk(one);
    over.abort();
    await Promise.all(load);

    expect(new Set(answers)).toEqual(new Set([200, 429]));
    // Redis' counter, then each process's own; the one that came back empty.
    expect(passed(answers)).toBeLessThanOrEqual(4 * LIMIT);
  });

  test("cost nobody time when Redis hangs: one short wait, then none", async () => {
    redis.hang();
    try {
      const startedAt = performance.now();
      const first = await caller(one, tenant).burst(times(20, refresh));
      const firstMs = performance.now() - startedAt;
      const next = await caller(one, tenant).statuses(times(20, refresh));
      const nextMs = performance.now() - startedAt - firstMs;

      expect(passed([...first, ...next])).toBe(LIMIT);
      expect(firstMs).toBeLessThan(400);
      // Of twenty one after the other: not one of them has waited for an answer.
      expect(nextMs).toBeLessThan(200);
      expect(await readiness(one)).toEqual({ httpStatus: 200, status: "degraded" });
    } finally {
      redis.goOn();
    }
    await untilOk(one);
  });

  test("go on in each process while Redis answers but cannot be written to", async () => {
    const client = new Redis(redis.url);
    await client.config("SET", "maxmemory", "1");
    try {
      const answers = await caller(one, tenant).statuses(times(LIMIT + 1, refresh));

      expect(answers).toEqual([...times(LIMIT, () => 200), 429]);
      expect(await readiness(one)).toEqual({ httpStatus: 200, status: "degraded" });
    } finally {
      await client.config("SET", "maxmemory", "0");
      client.disconnect();
    }
  });

  test("let a process stop while Redis hangs", async () => {
    const process = await startProcess(redis.url);
    redis.hang();
    try {
      const startedAt = performance.now();
      await process.close();
      expect(performance.now() - startedAt).toBeLessThan(2_000);
    } finally {
      redis.goOn();
    }
  });
});

describe("a process that starts without its Redis", () => {
  test("serves, with limits of its own, and says that it is degraded", async () => {
    const process = await startProcess("redis://127.0.0.1:1");

    const answers = await caller(process, tenant).statuses(times(LIMIT + 1, refresh));

    expect(answers).toEqual([...times(LIMIT, () => 200), 429]);
    expect(await readiness(process)).toEqual({ httpStatus: 200, status: "degraded" });
    expect(warnings(process)).toHaveLength(1);
    expect(warnings(process)[0]).toContain("ECONNREFUSED");
  });

  test("with a name that leads nowhere serves all the same", async () => {
    const process = await startProcess("redis://no-such-host.invalid:6379");

    expect((await caller(process, tenant).send(refresh())).status).toBe(200);
    expect(await readiness(process)).toEqual({ httpStatus: 200, status: "degraded" });
  });

  test.skipIf(!hasRedisServer)("counts there as soon as it comes", async () => {
    const redis = await startRedis({ isStarted: false });
    try {
      const [one, other] = await Promise.all([startProcess(redis.url), startProcess(redis.url)]);
      expect(await readiness(one)).toEqual({ httpStatus: 200, status: "degraded" });

      await redis.start();
      await untilOk(one, other);

      const answers = [
        ...(await caller(one, tenant).statuses(times(LIMIT, refresh))),
        ...(await caller(other, tenant).statuses(times(LIMIT, refresh))),
      ];
      expect(passed(answers)).toBe(LIMIT);
    } finally {
      await redis.close();
    }
  });
});
