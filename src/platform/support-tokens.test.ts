import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { newEmail, PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { loggedInOperator, operatorCalls, type TestOperator } from "../../test/operators.ts";
import { seal, verify } from "../../test/logs.ts";
import { World } from "../../test/world.ts";
import { SupportToken } from "./schemas.ts";

let app: TestApp;
let tenant: TestTenant;
let other: TestTenant;
let world: World;
let operator: TestOperator;
let calls: ReturnType<typeof operatorCalls>;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
  other = await app.createTenant();
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
  operator = await loggedInOperator(app);
  calls = operatorCalls(app);
});
afterAll(() => app.close());
afterEach(() => vi.restoreAllMocks());

async function supportToken(body: object, as = operator): Promise<string> {
  const answer = await calls.post(`tenants/${tenant.id}/support-token/`, body, as.tokens.access);
  expect(answer.status).toBe(201);
  const { access, expires_in: seconds } = SupportToken.parse(answer.body);
  expect(seconds).toBe(900);
  return access;
}

const readOnly = () => supportToken({ reason: "Ticket 4711" });
const writing = () => supportToken({ reason: "Ticket 4712", write: true });

/** Changes with every row of a tenant that is written. */
async function fingerprint(): Promise<unknown> {
  const tables = ["users", "companies", "roles", "user_companies", "invitations", "permissions"];
  return tenant.sql.unsafe(
    tables
      .map((name) => `select '${name}' as name, count(*), sum(xmin::text::bigint) from ${name}`)
      .join(" union all "),
  );
}

describe("POST /api/platform/tenants/{id}/support-token/", () => {
  test("is written to the tenant's security log, with the reason and who it is", async () => {
    await readOnly();

    const [entry] = await tenant.sql`
      select user_id, user_display, action, metadata, ip_address is not null as has_address
        from security_logs order by id desc limit 1`;
    expect(entry).toMatchObject({
      user_id: null,
      user_display: `operator ${operator.email}`,
      action: "SUPPORT_ACCESS_GRANTED",
      metadata: { reason: "Ticket 4711", can_write: false },
      has_address: true,
    });
    // Sealed as soon as what the tenant itself does.
    await seal(app, tenant);
    expect((await verify(app, tenant, "security")).unsealed_entries).toBe(0);
    const logged = await app.registry`
      select metadata from platform.logs
       where action = 'SUPPORT_TOKEN_ISSUED' and tenant_id = ${tenant.id} order by id desc limit 1`;
    expect(logged[0]?.["metadata"]).toMatchObject({ reason: "Ticket 4711", can_write: false });
  });

  test.each([
    {},
    { reason: "" },
    { reason: "   " },
    { reason: "x".repeat(501) },
    { reason: "a", hours: 5 },
  ])("%j is refused and leaves no entry", async (body) => {
    const count = () => tenant.sql`select count(*)::int as count from security_logs`;
    const before = await count();

    const refused = await calls.post(
      `tenants/${tenant.id}/support-token/`,
      body,
      operator.tokens.access,
    );

    expect(refused).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await count()).toEqual(before);
  });
});

describe("a support token", () => {
  test("sees what an admin of the tenant sees", async () => {
    const token = await readOnly();
    const paths = [
      "account/users/",
      "company/",
      `company/${world.company}/`,
      `company/${world.company}/settings/`,
      "access-control/roles/",
      "access-control/permissions/",
      "access-control/user-companies/",
      "access-control/invitations/",
      "access-control/role-permissions/",
      "access-control/user-company-roles/",
      `access-control/my-permissions/?company=${world.company}`,
      "audit/activity-logs/",
      "audit/security-logs/",
      "audit/verify/",
    ];

    const answers: [string, number][] = [];
    for (const path of paths) {
      const { status } = await app.client(tenant).get(`/api/${path}`, { token });
      answers.push([path, status]);
    }

    expect(answers).toEqual(paths.map((path) => [path, 200]));
    const companies = await app.client(tenant).get("/api/company/", { token });
    expect((companies.body as { count: number }).count).toBeGreaterThanOrEqual(2);
    const entries = await app.client(tenant).get("/api/audit/security-logs/", { token });
    expect((entries.body as { results: object[] }).results.length).toBeGreaterThan(1);
  });

  test("changes nothing unless it may write", async () => {
    const token = await readOnly();
    const before = await fingerprint();
    const client = app.client(tenant);

    const refusals = [
      await client.patch(`/api/company/${world.company}/`, { name: "Changed" }, { token }),
      await client.delete(`/api/company/${world.company}/`, { token }),
      await client.post(
        "/api/access-control/permissions/",
        { code: "a.b", module: "m" },
        { token },
      ),
    ];

    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ status: 403, body: { code: "permission_denied" } });
    }
    expect(await fingerprint()).toEqual(before);
  });

  test("that may write changes what an admin may, under the operator's name", async () => {
    const token = await writing();

    const changed = await app
      .client(tenant)
      .patch(`/api/company/${world.otherCompany}/`, { description: "Mended" }, { token });

    expect(changed).toMatchObject({ status: 200, body: { description: "Mended" } });
    const [entry] = await tenant.sql`
      select user_id, user_display, action, new_values from activity_logs order by id desc limit 1`;
    expect(entry).toEqual({
      user_id: null,
      user_display: `operator ${operator.email}`,
      action: "UPDATE",
      new_values: { description: "Mended" },
    });
  });

  test("does nothing in a user's name: no company, no invitation, no acceptance", async () => {
    const token = await writing();
    const before = await fingerprint();
    const client = app.client(tenant);
    const role = await world.systemRole("Member");

    const refusals = [
      await client.post("/api/company/", { name: "Ours" }, { token }),
      await client.post(
        "/api/access-control/invitations/",
        { email: newEmail(), company: world.company, role },
        { token },
      ),
      await client.post("/api/access-control/invitations/accept/", { token: "x" }, { token }),
    ];

    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ status: 403, body: { code: "permission_denied" } });
    }
    expect(await fingerprint()).toEqual(before);
  });

  test("has no account: profile, sessions, passwords, second factor, notifications", async () => {
    const token = await writing();
    const client = app.client(tenant);

    const refusals = [
      await client.get("/api/account/profile/", { token }),
      await client.get("/api/account/sessions/", { token }),
      await client.get("/api/audit/notifications/", { token }),
      await client.post("/api/auth/logout/", { refresh: "x" }, { token }),
      await client.post(
        "/api/auth/password/change/",
        { current_password: PASSWORD, new_password: PASSWORD },
        { token },
      ),
      await client.post(
        "/api/auth/settings_enable-2fa/",
        { method: "totp", password: "x" },
        { token },
      ),
    ];

    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ status: 403, body: { code: "permission_denied" } });
    }
  });

  test("manages users as an admin does, and the log says who it was", async () => {
    const token = await writing();
    const user = await world.user();

    const changed = await app
      .client(tenant)
      .patch(`/api/account/users/${user}/`, { is_active: false }, { token });

    expect(changed).toMatchObject({ status: 200, body: { is_active: false } });
    const [entry] = await tenant.sql`
      select user_id, metadata from security_logs where action = 'ACCOUNT_DISABLED'
       order by id desc limit 1`;
    expect(entry).toMatchObject({ user_id: user, metadata: { by: `operator ${operator.email}` } });
  });

  test("is worth nothing in another tenant, nor at the platform", async () => {
    const token = await writing();

    const there = await app.client(other).get("/api/company/", { token });
    const platform = await calls.get("tenants/", token);

    expect(there).toMatchObject({ status: 401, body: { code: "token_tenant_mismatch" } });
    expect(platform).toMatchObject({ status: 401, body: { code: "authentication_required" } });
  });

  test("ends after a quarter of an hour, and in the registry even when the token's clock is off", async () => {
    const token = await readOnly();
    await app.registry`
      update public.support_sessions set expires_at = now() where tenant_id = ${tenant.id}`;
    const ended = await app.client(tenant).get("/api/company/", { token });
    const fresh = await readOnly();
    vi.spyOn(Date, "now").mockReturnValue(Date.now() + 901_000);
    const late = await app.client(tenant).get("/api/company/", { token: fresh });

    expect(ended).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(late).toMatchObject({ status: 401, body: { code: "token_expired" } });
  });

  test("ends at once when the operator leaves, that operator's in that tenant alone, and both logs say so", async () => {
    const colleague = await loggedInOperator(app);
    const [first, second] = [await readOnly(), await writing()];
    const colleagues = await supportToken({ reason: "another look" }, colleague);
    const elsewhere = await calls.post(
      `tenants/${other.id}/support-token/`,
      { reason: "a look" },
      operator.tokens.access,
    );
    const path = `tenants/${tenant.id}/support-token/`;

    const left = await calls.delete(path, operator.tokens.access);
    const again = await calls.delete(path, operator.tokens.access);

    expect([left.status, again.status]).toEqual([204, 204]);
    for (const token of [first, second]) {
      expect(await app.client(tenant).get("/api/company/", { token })).toMatchObject({
        status: 401,
        body: { code: "token_revoked" },
      });
    }
    const stillGood = [
      await app.client(tenant).get("/api/company/", { token: colleagues }),
      await app
        .client(other)
        .get("/api/company/", { token: SupportToken.parse(elsewhere.body).access }),
    ];
    expect(stillGood.map(({ status }) => status)).toEqual([200, 200]);
    const entries = await tenant.sql`
      select user_id, user_display from security_logs where action = 'SUPPORT_ACCESS_ENDED'`;
    expect(entries).toEqual([{ user_id: null, user_display: `operator ${operator.email}` }]);
    const logged = await app.registry`
      select operator_display from platform.logs
       where action = 'SUPPORT_ENDED' and tenant_id = ${tenant.id}`;
    expect(logged).toEqual([{ operator_display: operator.email }]);
  });

  test("of a tenant that is not there cannot be ended", async () => {
    const answer = await calls.delete("tenants/999999999/support-token/", operator.tokens.access);

    expect(answer).toMatchObject({ status: 404, body: { code: "not_found" } });
  });

  test("ends at once with the operator's logout", async () => {
    const leaving = await loggedInOperator(app);
    const token = await supportToken({ reason: "a look" }, leaving);
    expect((await app.client(tenant).get("/api/company/", { token })).status).toBe(200);

    await calls.post("logout/", undefined, leaving.tokens.access);

    expect(await app.client(tenant).get("/api/company/", { token })).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });
  });

  test("is refused by a suspended tenant, and reads of a read-only one", async () => {
    const token = await writing();
    await calls.post(`tenants/${tenant.id}/read-only/`, undefined, operator.tokens.access);
    await vi.waitFor(async () => {
      const refused = await app
        .client(tenant)
        .patch(`/api/company/${world.company}/`, { name: "No" }, { token });
      expect(refused).toMatchObject({ status: 403, body: { code: "tenant_read_only" } });
    });
    expect((await app.client(tenant).get("/api/company/", { token })).status).toBe(200);

    await calls.post(`tenants/${tenant.id}/activate/`, undefined, operator.tokens.access);
  });
});
