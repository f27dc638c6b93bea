import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newEmail, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { loggedInOperator, operatorCalls } from "../../test/operators.ts";

let app: TestApp;
let token: string;

beforeAll(async () => {
  app = await startTestApp();
  token = (await loggedInOperator(app)).tokens.access;
});
afterAll(() => app.close());

const usageOf = ({ id }: Pick<TestTenant, "id">, as: string | undefined = token) =>
  operatorCalls(app).get(`tenants/${id}/usage/`, as);

describe("GET /api/platform/tenants/{id}/usage/", () => {
  test("counts what a tenant has, and not what another has", async () => {
    const [tenant, other] = [await app.createTenant(), await app.createTenant()];
    await app.signUp(other);
    const { user } = await app.signUp(tenant);
    const { access } = await app.logIn(tenant, user.username);
    const client = app.client(tenant);
    const company = await client.post("/api/company/", { name: "Acme" }, { token: access });
    const { id: companyId } = company.body as { id: number };
    const gone = await client.post("/api/company/", { name: "Gone" }, { token: access });
    await client.delete(`/api/company/${(gone.body as { id: number }).id}/`, { token: access });
    const [role] = await tenant.sql<{ id: number }[]>`select id from roles where role = 'Member'`;
    for (const email of [newEmail(), newEmail()]) {
      const body = { email, company: companyId, role: role?.id };
      await client.post("/api/access-control/invitations/", body, { token: access });
    }
    await tenant.sql`
      update invitations
         set created_at = now() - interval '8 days', expires_at = now() - interval '1 day'
       where id = 1`;

    const { status, body } = await usageOf(tenant);

    const [logs] = await tenant.sql`
      select (select count(*)::int from activity_logs) as activity_entries,
             (select count(*)::int from security_logs) as security_entries`;
    expect({ status, body }).toMatchObject({
      status: 200,
      // The provisioned owner has never logged in.
      body: { users: 2, active_users: 1, companies: 1, pending_invitations: 1, ...logs },
    });
    const { bytes, last_login: lastLogin } = body as { bytes: number; last_login: string };
    expect(bytes).toBeGreaterThan(100_000);
    expect(Date.now() - Date.parse(lastLogin)).toBeLessThan(60_000);
  });

  test("counts a user as active by the use of a login, for 30 days", async () => {
    const tenant = await app.createTenant();
    await app.signUp(tenant);
    const used = (days: number) => tenant.sql`
      update login_sessions set last_used_at = now() - make_interval(days => ${days})`;
    await tenant.sql`update users set last_login = now() - interval '31 days'`;

    await used(29);
    const recent = await usageOf(tenant);
    await used(31);
    const long = await usageOf(tenant);

    expect([recent.body, long.body]).toMatchObject([{ active_users: 1 }, { active_users: 0 }]);
  });

  test("is not for those who are not operators, and 404 for no tenant", async () => {
    const tenant = await app.createTenant();
    const { access } = await app.signUp(tenant);

    expect((await usageOf(tenant, access)).status).toBe(401);
    expect((await usageOf({ id: 999_999_999_999 })).body).toMatchObject({ code: "not_found" });
  });

  test("waits no longer than some seconds for a tenant that is busy", async () => {
    const tenant = await app.createTenant();
    const holder = await tenant.sql.begin(async (tx) => {
      await tx`lock table companies in access exclusive mode`;
      return usageOf(tenant);
    });

    expect(holder).toMatchObject({ status: 503, body: { code: "overloaded" } });
    expect((await usageOf(tenant)).status).toBe(200);
  });

  test("says of a schema that is older than the release that it is", async () => {
    const tenant = await app.createTenant();
    await tenant.sql`drop table invitations`;

    expect(await usageOf(tenant)).toMatchObject({ status: 503, body: { code: "not_ready" } });
    // Nothing of it stays on the connection.
    expect((await usageOf(await app.createTenant())).status).toBe(200);
  });
});
