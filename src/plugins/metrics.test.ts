import type { FastifyInstance } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../test/app.ts";
import type { Config } from "../config.ts";

const PROXY = "10.0.0.1";
const TOKEN = "a-monitor-s-own-token";
const PRODUCTION = {
  appEnv: "production",
  debug: false,
  tenantBaseDomain: "ouvira.test",
  allowedHosts: ["api.corp.test"],
  corsAllowedOrigins: [],
  trustedProxies: [PROXY],
} as const satisfies Partial<Config>;

let local: TestApp;
let localWithToken: TestApp;
let production: TestApp;
let productionWithoutToken: TestApp;

beforeAll(async () => {
  local = await startTestApp();
  localWithToken = await local.startReplica({ config: { metricsToken: TOKEN } });
  production = await local.startReplica({ config: { ...PRODUCTION, metricsToken: TOKEN } });
  productionWithoutToken = await local.startReplica({ config: PRODUCTION });
});
afterAll(() => local.close());

async function read({ app }: { app: FastifyInstance }, authorization?: string, url = "/metrics") {
  const response = await app.inject({
    url,
    remoteAddress: PROXY,
    // As a monitor asks: by the machine's address, over plain HTTP, without a tenant.
    headers: {
      host: "10.1.2.3:8000",
      "x-forwarded-for": "10.0.0.2",
      "x-forwarded-proto": "http",
      ...(authorization === undefined ? {} : { authorization }),
    },
  });
  return {
    status: response.statusCode,
    headers: response.headers,
    body: response.body,
    code: response.statusCode === 200 ? undefined : response.json<{ code: string }>().code,
  };
}

/** The samples of Prometheus' text format, by name and labels. */
function samplesOf(text: string): Record<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(" ")),
      Number(line.slice(line.lastIndexOf(" "))),
    ]),
  );
}

describe("GET /metrics", () => {
  test("answers in Prometheus' text format, not as JSON, and is not kept", async () => {
    local.services.metrics.rateLimitRejections.inc({ scope: "login" }, 3);

    const { status, headers, body } = await read(local);

    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(headers["cache-control"]).toBe("no-store");
    expect(body.split("\n")).toEqual(
      expect.arrayContaining([
        "# TYPE ouvira_rate_limit_rejections_total counter",
        'ouvira_rate_limit_rejections_total{scope="login"} 3',
      ]),
    );
    expect(body.endsWith("\n")).toBe(true);
  });

  test("with a slash at the end answers the same", async () => {
    const names = ({ body }: { body: string }) => body.match(/^# TYPE \S+/gm);

    expect(names(await read(local, undefined, "/metrics/"))).toEqual(names(await read(local)));
  });

  test("is outside every limit of requests", async () => {
    const anonymous = { count: 1, windowMs: 60_000 };
    const limited = await local.startReplica({
      config: { rateLimits: { ...local.config.rateLimits, anonymous } },
    });

    for (let reading = 0; reading < 3; reading += 1) {
      const { status, headers } = await read(limited);
      expect(status).toBe(200);
      expect(headers["ratelimit-limit"]).toBeUndefined();
    }
  });

  test("counts what this process does, not what another does", async () => {
    const name = "ouvira_rate_limit_fallbacks_total";
    localWithToken.services.metrics.rateLimitFallbacks.inc();

    const other = samplesOf((await read(localWithToken, `Bearer ${TOKEN}`)).body);
    const own = samplesOf((await read(local)).body);

    expect([other[name], own[name]]).toEqual([1, 0]);
  });

  test("says how many hashes are waiting, at this moment", async () => {
    const hashing = [1, 2, 3, 4, 5].map((word) =>
      local.services.passwords.hash(`password ${word}`),
    );
    const busy = samplesOf((await read(local)).body);
    await Promise.all(hashing);
    const idle = samplesOf((await read(local)).body);

    expect(busy["ouvira_password_hashes_pending"]).toBeGreaterThan(0);
    expect(idle["ouvira_password_hashes_pending"]).toBe(0);
  });

  test("says how much each shared connection has to do, at this moment", async () => {
    const { id } = await local.createTenant();
    const tenant = local.services.database.tenant(id);
    const sleeping = [1, 2, 3].map(() => tenant.query`select pg_sleep(0.5)::text as slept`);
    const busy = samplesOf((await read(local)).body);
    await Promise.all(sleeping);
    const idle = samplesOf((await read(local)).body);

    const lanes = local.services.database.lanes().map((_, lane) => lane);
    const each = (samples: Record<string, number>, name: string) =>
      lanes.map((lane) => samples[`ouvira_database_lane_${name}{lane="${lane}"}`]);
    // All three wait on the tenant's own.
    const own = each(busy, "transactions_pending").indexOf(3);
    expect(each(busy, "transactions_pending")).toEqual(lanes.map((lane) => (lane === own ? 3 : 0)));
    expect(each(idle, "transactions_pending")).toEqual(lanes.map(() => 0));
    expect(each(idle, "tenants")[own]).toBeGreaterThan(0);
  });
});

describe("the fleet", () => {
  test("/metrics counts tenants by version and state, /readyz says that some are behind", async () => {
    const fleet = await startTestApp();
    try {
      const { id } = await fleet.createTenant();
      await fleet.createTenant();
      const versions =
        await fleet.registry`select max(version) as newest from public.tenant_migrations`;
      const newest = String(versions[0]?.["newest"]);
      const current = samplesOf((await read(fleet)).body);
      const ready = (await fleet.app.inject("/readyz")).json<object>();
      await fleet.registry`
        update public.tenant_migrations set version = 'older', state = 'failed' where tenant_id = ${id}`;
      const behind = samplesOf((await read(fleet)).body);
      const notQuite = await fleet.app.inject("/readyz");

      const name = (version: string, state: string) =>
        `ouvira_tenants{version="${version}",state="${state}"}`;
      expect(current[name(newest, "applied")]).toBe(2);
      expect(ready).toEqual({ status: "ok", fleet: "current" });
      expect(behind).toMatchObject({ [name(newest, "applied")]: 1, [name("older", "failed")]: 1 });
      // Who balances the load sends requests on: one tenant's trouble is not the service's.
      expect(notQuite.statusCode).toBe(200);
      expect(notQuite.json()).toEqual({ status: "ok", fleet: "behind" });
    } finally {
      await fleet.close();
    }
  });

  test("/metrics answers while the registry does not", async () => {
    const fleet = await startTestApp();
    try {
      await fleet.createTenant();
      await fleet.registry`revoke select on public.tenant_migrations from ouvira_registry`;

      const { status, body } = await read(fleet);

      expect(status).toBe(200);
      expect(body).toContain("ouvira_password_hashes_pending 0");
      expect(body).not.toContain("ouvira_tenants{");
      expect((await fleet.app.inject("/readyz")).statusCode).toBe(503);
    } finally {
      await fleet.close();
    }
  });
});

describe("METRICS_TOKEN", () => {
  test("opens in production, under whatever name a monitor knows the host, without TLS", async () => {
    expect((await read(production, `Bearer ${TOKEN}`)).status).toBe(200);
    expect((await read(production, `bearer ${TOKEN}`)).status).toBe(200);
  });

  test.each([
    ["nothing", undefined],
    ["another token", `Bearer ${TOKEN.replace("a-", "b-")}`],
    ["a longer token", `Bearer ${TOKEN}s`],
    ["a shorter token", `Bearer ${TOKEN.slice(0, -1)}`],
    ["an empty token", "Bearer "],
    ["the token alone", TOKEN],
    ["the token as another scheme", `Basic ${TOKEN}`],
  ])("refuses %s, and says how to authenticate", async (_, authorization) => {
    for (const app of [production, localWithToken]) {
      const { status, code, headers, body } = await read(app, authorization);
      expect({ status, code }).toEqual({ status: 401, code: "authentication_required" });
      expect(headers["www-authenticate"]).toBe("Bearer");
      expect(body).not.toContain("ouvira_");
    }
  });

  test("not set: open with APP_ENV=local, not there in production", async () => {
    expect((await read(local)).status).toBe(200);

    for (const authorization of [undefined, "Bearer ", "Bearer undefined", `Bearer ${TOKEN}`]) {
      expect(await read(productionWithoutToken, authorization)).toMatchObject({
        status: 404,
        code: "not_found",
      });
    }
  });

  test("set with APP_ENV=local is asked for there, too", async () => {
    expect((await read(localWithToken, `Bearer ${TOKEN}`)).status).toBe(200);
  });

  test("does not reach the log", async () => {
    await read(production, `Bearer ${TOKEN}`);
    await read(production, `Bearer ${TOKEN}s`);

    expect(production.logLines.join("\n")).toContain('"/metrics"');
    expect(production.logLines.join("\n")).not.toContain(TOKEN);
  });
});
