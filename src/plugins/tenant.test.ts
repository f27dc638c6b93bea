import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  newPhone,
  newSubdomain,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations } from "../db/tenant-migrations.ts";
import { migrateFleet } from "../tenants/fleet.ts";
import { createTenant } from "../tenants/provisioning.ts";
import { OLDEST_VERSION } from "./tenant.ts";

let api: TestApp;
let acme: TestTenant;
let beta: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { tenantBaseDomain: "app.test" } });
  acme = await api.createTenant();
  beta = await api.createTenant();
});
afterAll(() => api.close());

const PATH = "/api/account/profile/";

/** The code of a call without a token: `authentication_required` means that a tenant was found. */
async function codeFor(headers: Record<string, string>): Promise<unknown> {
  const response = await api.app.inject({ url: PATH, headers });
  return response.json<{ code: unknown }>().code;
}

const FOUND = "authentication_required";

/** Which tenant a call was for: the one whose token is accepted. */
async function isFor(tenant: TestTenant, headers: Record<string, string>): Promise<boolean> {
  const { access } = await api.signUp(tenant);
  const response = await api.app.inject({
    url: PATH,
    headers: { ...headers, authorization: `Bearer ${access}` },
  });
  return response.statusCode === 200;
}

async function addDomain(tenant: TestTenant, isVerified: boolean): Promise<string> {
  const domain = `${newSubdomain()}.example`;
  await api.registry`
    insert into public.tenant_domains (tenant_id, domain, verified_at)
    values (${tenant.id}, ${domain}, case when ${isVerified} then now() end)`;
  return domain;
}

async function setStatus(tenant: TestTenant, status: string): Promise<void> {
  await api.registry`update public.tenants set status = ${status} where id = ${tenant.id}`;
  await api.registry`select pg_notify('ouvira_tenants', ${String(tenant.id)})`;
}

describe("the tenant of a request", () => {
  test("is the one the header names, in any case", async () => {
    expect(await isFor(acme, { "x-tenant": acme.subdomain })).toBe(true);
    expect(await isFor(acme, { "x-tenant": ` ${acme.subdomain.toUpperCase()} ` })).toBe(true);
    expect(await isFor(acme, { "x-tenant": beta.subdomain })).toBe(false);
  });

  test("is the subdomain of the host, whatever the port and case", async () => {
    expect(await isFor(acme, { host: `${acme.subdomain}.app.test` })).toBe(true);
    expect(await isFor(acme, { host: `${acme.subdomain.toUpperCase()}.App.Test:8443` })).toBe(true);
  });

  test("is the one that has verified the host", async () => {
    expect(await isFor(acme, { host: await addDomain(acme, true) })).toBe(true);
  });

  test("is not one that has claimed the host and not verified it", async () => {
    expect(await codeFor({ host: await addDomain(acme, false) })).toBe("tenant_required");
  });

  test("is the header's where the host names another", async () => {
    const headers = { "x-tenant": acme.subdomain, host: `${beta.subdomain}.app.test` };

    expect(await isFor(acme, headers)).toBe(true);
    expect(await isFor(beta, headers)).toBe(false);
  });

  test("an unknown header is not replaced by a host that is known", async () => {
    expect(await codeFor({ "x-tenant": "nobody", host: `${acme.subdomain}.app.test` })).toBe(
      "tenant_not_found",
    );
  });

  test("has to be named", async () => {
    const response = await api.app.inject({ url: PATH, headers: { host: "app.test" } });

    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({ code: "tenant_required" });
    expect(await codeFor({ host: "elsewhere.test" })).toBe("tenant_required");
    expect(await codeFor({ host: "192.0.2.1:8000" })).toBe("tenant_required");
    expect(await codeFor({ host: "[::1]:8000" })).toBe("tenant_required");
  });

  test("has to exist", async () => {
    const response = await api.app.inject({ url: PATH, headers: { "x-tenant": "nobody" } });

    expect(response.statusCode).toBe(404);
    expect(response.json()).toMatchObject({ code: "tenant_not_found" });
    expect(await codeFor({ host: "nobody.app.test" })).toBe("tenant_not_found");
  });

  test.each([
    ["very long", "a".repeat(8_000)],
    ["NUL", "acme\u0000"],
    ["a quote", "acme' or '1'='1"],
    ["a path", "../public"],
    ["a schema", "t_1"],
    ["Unicode", "acmé"],
    ["a Kelvin sign, which is a k in lower case", "\u212aacme"],
    ["a wildcard", "%"],
    ["two names", "acme, beta"],
    ["nothing", ""],
    ["a member of Object", "__proto__"],
    ["another of its members", "constructor"],
  ])("a hostile name is that of no tenant: %s", async (_, name) => {
    expect(await codeFor({ "x-tenant": name })).toBe("tenant_not_found");
    expect(await codeFor({ host: `${name}.app.test` })).not.toBe(FOUND);
    expect(await codeFor({ host: name })).not.toBe(FOUND);
    expect(api.logLines.filter((line) => line.includes('"level":50'))).toEqual([]);
  });
});

describe("a tenant whose schema is older than the code", () => {
  test("answers 503 until it is migrated, and at once then; others are not kept waiting", async () => {
    const migrations = await loadTenantMigrations();
    const subdomain = newSubdomain();
    const apiRole = new URL(api.config.databaseUrl ?? "").username;
    await withAdmin(api.ownerUrl, (admin) =>
      createTenant(admin, migrations.slice(0, 1), apiRole, {
        name: "Behind",
        subdomain,
        owner: { fullName: "Ada", email: "ada@behind.test", phone: newPhone() },
      }),
    );

    const behind = await api.app.inject({ url: PATH, headers: { "x-tenant": subdomain } });
    const other = await codeFor({ "x-tenant": acme.subdomain });
    await migrateFleet(api.ownerUrl, migrations, { parallel: 1 });

    expect(behind.statusCode).toBe(503);
    expect(behind.json()).toMatchObject({ code: "not_ready" });
    expect(behind.headers["retry-after"]).toBe("5");
    expect(other).toBe(FOUND);
    await vi.waitFor(async () => {
      expect(await codeFor({ "x-tenant": subdomain })).toBe(FOUND);
    });
  });

  test("is one before the version that the code names, which there is", async () => {
    const names = (await loadTenantMigrations()).map(({ name }) => name);

    expect(names.some((name) => name.startsWith(`${OLDEST_VERSION}_`))).toBe(true);
  });
});

describe("a tenant that changes", () => {
  test("one created after its name was asked for is found at once", async () => {
    const subdomain = newSubdomain();
    expect(await codeFor({ "x-tenant": subdomain })).toBe("tenant_not_found");

    await api.createTenant(subdomain);

    await vi.waitFor(async () => expect(await codeFor({ "x-tenant": subdomain })).toBe(FOUND), {
      timeout: 1_000,
      interval: 5,
    });
  });

  test("a name that nobody has is remembered, and forgotten when the registry changes", async () => {
    const subdomain = newSubdomain();
    expect(await codeFor({ "x-tenant": subdomain })).toBe("tenant_not_found");

    // As no operator's command does it: without telling anybody.
    await api.registry`
      with tenant as (
        insert into public.tenants (name, subdomain) values ('Quiet', ${subdomain}) returning id
      )
      insert into public.tenant_migrations (tenant_id) select id from tenant`;
    expect(await codeFor({ "x-tenant": subdomain })).toBe("tenant_not_found");

    await api.registry`select pg_notify('ouvira_tenants', '0')`;
    // Found, and without a schema.
    await expect.poll(() => codeFor({ "x-tenant": subdomain })).toBe("not_ready");
  });

  test("a suspended one is 403 for reads and writes, and comes back", async () => {
    const tenant = await api.createTenant();
    const { access } = await api.signUp(tenant);
    await setStatus(tenant, "suspended");
    const call = () => api.client(tenant).get(PATH, { token: access });

    await expect.poll(call).toMatchObject({ status: 403, body: { code: "tenant_suspended" } });
    expect(
      await api.client(tenant).post("/api/auth/login/", { identifier: "a", password: "b" }),
    ).toMatchObject({ status: 403, body: { code: "tenant_suspended" } });

    await setStatus(tenant, "active");
    await expect.poll(call).toMatchObject({ status: 200 });
  });

  test("a read-only one answers GET and refuses POST, and nothing is written", async () => {
    const tenant = await api.createTenant();
    const { access, refresh } = await api.signUp(tenant);
    const before = await tenant.sql`select * from login_sessions`;
    await setStatus(tenant, "read_only");

    await expect
      .poll(() => api.client(tenant).post("/api/auth/token/refresh/", { refresh: "not a token" }))
      .toMatchObject({ status: 403, body: { code: "tenant_read_only" } });
    expect((await api.client(tenant).get(PATH, { token: access })).status).toBe(200);
    expect((await api.client(tenant).post("/api/auth/token/refresh/", { refresh })).status).toBe(
      403,
    );
    expect(await tenant.sql`select * from login_sessions`).toEqual(before);
  });
});
