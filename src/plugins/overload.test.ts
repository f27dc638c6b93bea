import { performance } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

const MAX = 3;

let api: TestApp;
let loud: TestTenant;
let quiet: TestTenant;
/** Lets the requests that wait on the route go on. */
let release: () => void = () => undefined;

beforeAll(async () => {
  api = await startTestApp({ config: { tenantConcurrentRequests: MAX } });
  loud = await api.createTenant();
  quiet = await api.createTenant();
});
afterAll(() => api.close());

const profile = (tenant: TestTenant) => api.client(tenant).get("/api/account/profile/");

describe("requests of one tenant", () => {
  test("past those that may be under way are refused at once, the others' are not", async () => {
    const find = vi.spyOn(api.services.directory, "findBySubdomain");
    const hash = vi.spyOn(api.services.passwords, "verify");
    hash.mockImplementation(
      () =>
        new Promise((resolve) => {
          const before = release;
          release = () => {
            before();
            resolve(false);
          };
        }),
    );
    const logIn = () =>
      api.client(loud).post("/api/auth/login/", { identifier: "a@b.test", password: "wrong one" });
    const underWay = Array.from({ length: MAX }, logIn);
    await vi.waitFor(() => expect(hash).toHaveBeenCalledTimes(MAX), { timeout: 10_000 });

    const refused = await profile(loud);
    const other = await profile(quiet);

    expect(refused).toMatchObject({ status: 503, body: { code: "overloaded" } });
    expect(refused.headers["retry-after"]).toBe("1");
    expect(other.status).toBe(401);
    release();
    for (const answer of await Promise.all(underWay)) expect(answer.status).toBe(401);
    expect((await profile(loud)).status).toBe(401);
    find.mockRestore();
    hash.mockRestore();
    expect(await api.services.metrics.registry.metrics()).toContain(
      'ouvira_shed_requests_total{because="tenant"} 1',
    );
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
