import { performance } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

const MAX = 3;

let api: TestApp;
let loud: TestTenant;
let quiet: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { tenantConcurrentRequests: MAX } });
  loud = await api.createTenant();
  quiet = await api.createTenant();
});
afterAll(() => api.close());

const profile = (tenant: TestTenant) => api.client(tenant).get("/api/account/profile/");

/** Keeps logins at the check of the password until it is told to go on. */
function holdLogins(): { reached: () => number; release: () => void } {
  const held: (() => void)[] = [];
  const verify = vi.spyOn(api.services.passwords, "verify");
  verify.mockImplementation(() => new Promise((resolve) => held.push(() => resolve(false))));
  return {
    reached: () => verify.mock.calls.length,
    release: () => {
      verify.mockResolvedValue(false);
      for (const resume of held) resume();
    },
  };
}

afterEach(() => vi.restoreAllMocks());

describe("requests of one tenant", () => {
  const logIn = () =>
    api.client(loud).post("/api/auth/login/", { identifier: "a@b.test", password: "wrong one" });

  test("past those that may be under way wait, past those that may wait they are refused", async () => {
    const logins = holdLogins();
    const underWay = Array.from({ length: MAX }, logIn);
    await vi.waitFor(() => expect(logins.reached()).toBe(MAX), { timeout: 10_000 });
    const startedAt = performance.now();
    const tooMany = Array.from({ length: MAX + 1 }, logIn);

    const refused = await Promise.race(tooMany);

    expect(refused).toMatchObject({ status: 503, body: { code: "overloaded" } });
    expect(refused.headers["retry-after"]).toBe("1");
    // Not before a second has gone by: who tries again at once does so once a second.
    expect(performance.now() - startedAt).toBeGreaterThan(900);
    logins.release();
    for (const answer of await Promise.all(underWay)) expect(answer.status).toBe(401);
    expect((await Promise.all(tooMany)).map(({ status }) => status)).toContain(503);
    expect((await logIn()).status).toBe(401);
    expect(await api.services.metrics.registry.metrics()).toMatch(
      /ouvira_shed_requests_total{because="tenant"} [1-9]/,
    );
  });

  test("that wait are let in as soon as one before them is answered", async () => {
    const logins = holdLogins();
    const underWay = Array.from({ length: MAX }, logIn);
    await vi.waitFor(() => expect(logins.reached()).toBe(MAX), { timeout: 10_000 });
    const waiting = Array.from({ length: MAX }, logIn);

    logins.release();

    for (const answer of await Promise.all([...underWay, ...waiting])) {
      expect(answer.status).toBe(401);
    }
    expect(logins.reached()).toBe(MAX * 2);
  });

  test("that anybody can send take no place of those with a token, nor of another tenant's", async () => {
    const logins = holdLogins();
    const underWay = Array.from({ length: MAX }, logIn);
    await vi.waitFor(() => expect(logins.reached()).toBe(MAX), { timeout: 10_000 });

    expect((await profile(loud)).status).toBe(401);
    expect((await profile(quiet)).status).toBe(401);
    expect(logins.reached()).toBe(MAX);

    logins.release();
    await Promise.all(underWay);
  });

  test("that end in whatever way give their place back", async () => {
    for (let round = 0; round < MAX * 3; round += 1) {
      await api.client(loud).post("/api/auth/login/", { identifier: 1 });
      await api.client(loud).get("/api/nowhere/");
      await profile(loud);
    }

    expect((await profile(loud)).status).toBe(401);
  });
});

describe("a process whose event loop lags", () => {
  test("refuses requests and answers probes, until it has caught up", async () => {
    const { app } = await api.startReplica({ config: { eventLoopLagMs: 200 } });
    const statusOf = async (url: string) => (await app.inject({ url })).statusCode;
    await vi.waitFor(async () => expect(await statusOf("/")).toBe(200), { timeout: 5_000 });
    // Held up again and again, for longer than is looked at once.
    const until = performance.now() + 1_500;
    while (performance.now() < until) {
      const busyUntil = performance.now() + 400;
      while (performance.now() < busyUntil);
      await setImmediate();
    }
    await vi.waitFor(async () => expect(await statusOf("/")).toBe(503), { interval: 1 });

    expect(await statusOf("/healthz")).toBe(200);
    await vi.waitFor(async () => expect(await statusOf("/")).toBe(200), { timeout: 5_000 });
  });
});
