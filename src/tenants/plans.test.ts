import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { loggedInOperator, operatorCalls } from "../../test/operators.ts";
import { runScript } from "../../test/process.ts";
import { withAdmin } from "../db/admin.ts";
import { type PlanChange, setTenantPlan } from "./plans.ts";

const DAY_MS = 86_400_000;

let app: TestApp;
/** Another process, which hears of changes. */
let replica: TestApp;

beforeAll(async () => {
  app = await startTestApp({
    config: { rateLimits: { ...NO_LIMITS, authenticated: { count: 5, windowMs: DAY_MS } } },
  });
  replica = await app.startReplica({
    config: { rateLimits: { ...NO_LIMITS, authenticated: { count: 5, windowMs: DAY_MS } } },
  });
});
afterAll(() => app.close());

const setPlan = ({ subdomain }: Pick<TestTenant, "subdomain">, change: PlanChange) =>
  withAdmin(app.ownerUrl, (admin) => setTenantPlan(admin.query, subdomain, change));

async function member(): Promise<{ tenant: TestTenant; token: string }> {
  const tenant = await app.createTenant();
  const { access: token } = await app.logIn(tenant, tenant.owner.email);
  return { tenant, token };
}

/** What a process answers, and the limit it tells. */
async function ask(process: TestApp, tenant: TestTenant, token: string) {
  const { status, headers } = await process.client(tenant).get("/api/account/profile/", { token });
  return { status, limit: headers["ratelimit-limit"] };
}

/** Until a process tells a limit. */
async function untilLimit(process: TestApp, tenant: TestTenant, token: string, limit?: string) {
  await vi.waitFor(
    async () => {
      const answer = await ask(process, tenant, token);
      if (answer.limit !== limit) throw new Error(`The limit is ${String(answer.limit)}`);
    },
    { timeout: 1_000, interval: 20 },
  );
}

async function statuses(process: TestApp, tenant: TestTenant, token: string, count: number) {
  const found: number[] = [];
  for (let asked = 0; asked < count; asked += 1) {
    found.push((await ask(process, tenant, token)).status);
  }
  return found;
}

describe("a tenant's own rate limits", () => {
  test("hold for that tenant alone, in every process within a second, and are told", async () => {
    const [own, other] = [await member(), await member()];
    await ask(replica, own.tenant, own.token);

    await setPlan(own.tenant, { rate_limits: { authenticated: "2/hour" } });
    await untilLimit(app, own.tenant, own.token, "2");
    await untilLimit(replica, own.tenant, own.token, "2");

    // One of the two was used to find out.
    expect(await statuses(replica, own.tenant, own.token, 2)).toEqual([200, 429]);
    expect(await statuses(app, other.tenant, other.token, 6)).toEqual([
      200, 200, 200, 200, 200, 429,
    ]);
  });

  test("raised while a user is at the old one, they let the user go on; taken away, the old one holds", async () => {
    const { tenant, token } = await member();
    expect(await statuses(app, tenant, token, 6)).toEqual([200, 200, 200, 200, 200, 429]);

    await setPlan(tenant, { rate_limits: { authenticated: "8/day" } });
    await untilLimit(app, tenant, token, "8");
    expect((await ask(app, tenant, token)).status).toBe(200);

    await setPlan(tenant, { rate_limits: { authenticated: null } });
    await untilLimit(app, tenant, token, "5");
    expect((await ask(app, tenant, token)).status).toBe(429);
  });

  test("0 counts nothing", async () => {
    const { tenant, token } = await member();

    await setPlan(tenant, { rate_limits: { authenticated: "0" } });
    await untilLimit(app, tenant, token);

    expect(new Set(await statuses(app, tenant, token, 12))).toEqual(new Set([200]));
  });

  test("count where the installation counts nothing", async () => {
    const { tenant } = await member();
    const forgot = () =>
      app.client(tenant).post("/api/auth/password/forgot/", { identifier: "nobody@x.test" });

    expect((await forgot()).headers["ratelimit-limit"]).toBeUndefined();
    await setPlan(tenant, { rate_limits: { anonymous: "3/hour" } });
    await vi.waitFor(async () => expect((await forgot()).headers["ratelimit-limit"]).toBe("3"), {
      timeout: 1_000,
      interval: 20,
    });

    const answers = [await forgot(), await forgot(), await forgot()].map(({ status }) => status);
    expect(answers.at(-1)).toBe(429);
  });

  test("that cannot be read are the installation's", async () => {
    const { tenant, token } = await member();
    await app.registry`
      update public.tenants set rate_limits = '{"authenticated": "many", "unheard": "1/day"}'
       where id = ${tenant.id}`;
    await setPlan(tenant, {});

    await untilLimit(app, tenant, token, "5");
    expect((await ask(app, tenant, token)).status).toBe(200);
  });
});

describe("setTenantPlan", () => {
  test("changes what is given and leaves the rest", async () => {
    const { tenant } = await member();
    const until = new Date("2027-01-01T00:00:00Z");

    const first = await setPlan(tenant, {
      paid_until: until,
      on_trial: true,
      rate_limits: { login: "9/min", refresh: "9/min" },
    });
    const second = await setPlan(tenant, { rate_limits: { login: null } });
    const third = await setPlan(tenant, { paid_until: null, on_trial: false });

    expect(first).toMatchObject({
      paid_until: until,
      on_trial: true,
      rate_limits: { login: "9/min", refresh: "9/min" },
    });
    expect(second).toMatchObject({
      paid_until: until,
      on_trial: true,
      rate_limits: { refresh: "9/min" },
    });
    expect(third).toMatchObject({ paid_until: null, on_trial: false });
  });

  test("that the day has passed changes nothing by itself", async () => {
    const { tenant, token } = await member();

    await setPlan(tenant, { paid_until: new Date(Date.now() - DAY_MS) });

    expect((await ask(app, tenant, token)).status).toBe(200);
  });

  test.each([
    ["a scope that there is not", { everything: "5/min" }],
    ["a limit that is none", { login: "often" }],
    ["a limit of nothing", { login: "0/min" }],
    ["a scope of objects' own", { __proto__: null, constructor: "5/min" }],
  ])("refuses %s and changes nothing", async (_, limits) => {
    const { tenant } = await member();
    const plan = () => app.registry`
      select paid_until, on_trial, rate_limits from public.tenants where id = ${tenant.id}`;
    const before = await plan();

    await expect(setPlan(tenant, { on_trial: true, rate_limits: limits })).rejects.toMatchObject({
      code: "validation_error",
    });
    expect(await plan()).toEqual(before);
  });

  test("of no tenant: says so", async () => {
    await expect(setPlan({ subdomain: "nobody-here" }, { on_trial: true })).rejects.toMatchObject({
      code: "tenant_not_found",
    });
  });
});

describe("PATCH /api/platform/tenants/{id}/", () => {
  test("sets the plan; what is wrong is refused field by field", async () => {
    const { tenant } = await member();
    const operator = await loggedInOperator(app);
    const patch = (body: object) =>
      operatorCalls(app).patch(`tenants/${tenant.id}/`, body, operator.tokens.access);

    const changed = await patch({
      paid_until: "2027-01-01T02:00:00+02:00",
      on_trial: true,
      rate_limits: { authenticated: "7/day" },
    });
    const refused = await patch({ on_trial: false, rate_limits: { authenticated: "lots" } });

    expect(changed).toMatchObject({
      status: 200,
      body: {
        paid_until: "2027-01-01T00:00:00.000Z",
        on_trial: true,
        rate_limits: { authenticated: "7/day" },
      },
    });
    expect(refused).toMatchObject({
      status: 400,
      body: { errors: { "rate_limits.authenticated": [expect.stringContaining("5000/day")] } },
    });
    const [row] = await app.registry`select on_trial from public.tenants where id = ${tenant.id}`;
    expect(row).toEqual({ on_trial: true });
  });
});

describe("npm run tenant -- plan", () => {
  const run = (...args: string[]) =>
    runScript("tenant.ts", ["plan", ...args], {
      APP_ENV: "local",
      DATA_DIR: app.config.dataDir,
      DATABASE_URL: app.config.databaseUrl ?? "",
      DATABASE_MIGRATION_URL: app.ownerUrl,
    });

  test("shows and changes a plan", async () => {
    const { tenant } = await member();

    const before = await run(tenant.subdomain);
    const changed = await run(
      tenant.subdomain,
      "--paid-until=2020-01-01",
      "--trial",
      "--limit=login=9/min",
      "--limit=anonymous=0",
    );
    const json = await run(
      tenant.subdomain,
      "--limit",
      "anonymous=default",
      "--no-trial",
      "--json",
    );

    expect(before.stdout).toMatch(/^paid until +not said$/m);
    expect(changed.stdout).toMatch(/^paid until +2020-01-01T00:00:00.000Z \(passed\)$/m);
    expect(changed.stdout).toMatch(/^own limits +login=9\/min, anonymous=0$/m);
    expect(JSON.parse(json.stdout)).toMatchObject({
      on_trial: false,
      rate_limits: { login: "9/min" },
    });
  });

  test.each([
    ["a day that there is not", ["--paid-until=2027-02-31"], 2],
    ["no day", ["--paid-until=soon"], 2],
    ["a limit without a name", ["--limit=5/min"], 2],
    ["both", ["--trial", "--no-trial"], 2],
    ["a limit that is none", ["--limit=login=often"], 1],
  ])("refuses %s", async (_, args, exitCode) => {
    const { tenant } = await member();

    const refused = await run(tenant.subdomain, ...args);

    expect(refused).toMatchObject({ exitCode, stdout: "" });
    const [row] = await app.registry`
      select paid_until, on_trial, rate_limits from public.tenants where id = ${tenant.id}`;
    expect(row).toEqual({ paid_until: null, on_trial: false, rate_limits: {} });
  });
});
