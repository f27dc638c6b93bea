import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { newEmail, PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { URI } from "otpauth";
import { EnableSecondFactorAnswer } from "../auth/schemas.ts";

let api: TestApp;
let tenant: TestTenant;
let admin: string;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  admin = (await api.logIn(tenant, tenant.owner.email)).access;
});
afterAll(() => api.close());

const Page = z.object({
  count: z.number(),
  next: z.string().nullable(),
  previous: z.string().nullable(),
  results: z.array(
    z.object({ id: z.number(), full_name: z.string(), email: z.string().nullable() }),
  ),
});
const list = async (query: string, token = admin) => {
  const response = await api.client(tenant).get(`/api/account/users/${query}`, { token });
  return {
    status: response.status,
    page: response.status === 200 ? Page.parse(response.body) : undefined,
  };
};
const change = (id: number, body: object, token = admin) =>
  api.client(tenant).patch(`/api/account/users/${id}/`, body, { token });
const rowOf = async (id: number) => {
  const [row] = await tenant.sql`
    select is_active, is_tenant_admin, two_fa_type from users where id = ${id}`;
  return row;
};

describe("GET /api/account/users/", () => {
  test("pages through the users by name, with absolute links that keep the search", async () => {
    for (let index = 0; index < 3; index += 1) await api.signUp(tenant, `page${index}.x@corp.test`);

    const { page } = await list("?search=.x@corp&page_size=2");

    expect(page).toMatchObject({ count: 3, previous: null });
    expect(page?.results).toHaveLength(2);
    const next = new URL(page?.next ?? "");
    expect(Object.fromEntries(next.searchParams)).toEqual({
      search: ".x@corp",
      page_size: "2",
      page: "2",
    });
    const second = await list(next.search);
    expect(second.page).toMatchObject({ count: 3, next: null });
    expect(second.page?.results).toHaveLength(1);
    expect((await list("?search=.x@corp&page_size=2&page=3")).status).toBe(404);
  });

  test("finds wildcards as the characters they are", async () => {
    await api.signUp(tenant, "per_cent@corp.test");

    expect((await list("?search=r_c")).page?.results.map(({ email }) => email)).toEqual([
      "per_cent@corp.test",
    ]);
    expect((await list("?search=%25")).page).toMatchObject({ count: 0, results: [] });
  });

  test.each(["?page=0", "?page_size=101", "?page=x", "?unknown=1", "?search="])(
    "%s is refused",
    async (query) => {
      expect((await list(query)).status).toBe(400);
    },
  );

  test("is for the tenant's admins", async () => {
    const user = await api.signUp(tenant);

    expect((await list("", user.access)).status).toBe(403);
    expect((await api.client(tenant).get("/api/account/users/")).status).toBe(401);
    expect((await list("")).status).toBe(200);
  });

  test("never shows another tenant's users", async () => {
    const other = await api.createTenant();
    const theirs = await api.signUp(other);
    const [{ id } = { id: 0 }] = await other.sql`select max(id) + 1000 as id from users`;

    expect((await list(`?search=${theirs.user.email}`)).page).toMatchObject({ count: 0 });
    expect(
      (await api.client(tenant).get(`/api/account/users/${id}/`, { token: admin })).status,
    ).toBe(404);
  });
});

describe("PATCH /api/account/users/{id}/", () => {
  test("disabling ends the user's logins, tells them and leaves an entry; enabling lets them in", async () => {
    const user = await api.signUp(tenant);

    expect(await change(user.user.id, { is_active: false })).toMatchObject({
      status: 200,
      body: { is_active: false },
    });

    const profile = await api.client(tenant).get("/api/account/profile/", { token: user.access });
    expect(profile.status).toBeGreaterThanOrEqual(401);
    const login = { identifier: user.user.username, password: PASSWORD };
    expect(await api.client(tenant).post("/api/auth/login/", login)).toMatchObject({
      status: 403,
      body: { code: "account_disabled" },
    });
    await vi.waitFor(async () => {
      const sent = (await api.services.outbox?.list()) ?? [];
      expect(
        sent.some(({ to, body }) => to === user.user.primary_mobile && body.includes("disabled")),
      ).toBe(true);
    });
    const entries = await tenant.sql`
      select metadata ->> 'by' as by from security_logs
       where user_id = ${user.user.id} and action = 'ACCOUNT_DISABLED'`;
    expect(entries).toHaveLength(1);
    expect((await change(user.user.id, { is_active: true })).status).toBe(200);
    expect((await api.client(tenant).post("/api/auth/login/", login)).status).toBe(200);
  });

  test("the last active admin stays one; with a second the first may go", async () => {
    const own = await api.createTenant();
    const { access } = await api.logIn(own, own.owner.email);
    const second = await api.signUp(own);
    const [{ id } = { id: 0 }] = await own.sql<
      { id: number }[]
    >`select id from users where is_tenant_admin`;
    const patch = (body: object) =>
      api.client(own).patch(`/api/account/users/${id}/`, body, { token: access });

    expect(await patch({ is_tenant_admin: false })).toMatchObject({ status: 409 });
    expect(await patch({ is_active: false })).toMatchObject({ status: 409 });
    expect(await own.sql`select 1 from users where is_tenant_admin and is_active`).toHaveLength(1);

    await api
      .client(own)
      .patch(`/api/account/users/${second.user.id}/`, { is_tenant_admin: true }, { token: access });
    expect(await patch({ is_tenant_admin: false })).toMatchObject({
      status: 200,
      body: { is_tenant_admin: false },
    });
    // What was an admin a moment ago is none.
    expect((await patch({ is_tenant_admin: true })).status).toBe(403);
  });

  test("of two admins who remove each other at the same time one stays", async () => {
    for (let round = 0; round < 5; round += 1) {
      const own = await api.createTenant();
      const first = await api.logIn(own, own.owner.email);
      const second = await api.signUp(own);
      const [{ id } = { id: 0 }] = await own.sql<
        { id: number }[]
      >`select id from users where is_tenant_admin`;
      const patch = (target: number, is_tenant_admin: boolean, token: string) =>
        api.client(own).patch(`/api/account/users/${target}/`, { is_tenant_admin }, { token });
      await patch(second.user.id, true, first.access);

      const answers = await Promise.all([
        patch(second.user.id, false, first.access),
        patch(id, false, second.access),
      ]);

      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(await own.sql`select 1 from users where is_tenant_admin and is_active`).toHaveLength(
        1,
      );
    }
  });

  test.each([
    ["a field of another name", { is_superuser: true }],
    ["what is not the admin's to change", { email: "x@y.test" }],
    ["a text for a truth", { is_active: "false" }],
  ])("%s is refused, and nothing changes", async (_, body) => {
    const user = await api.signUp(tenant);
    const before = await rowOf(user.user.id);

    expect((await change(user.user.id, body)).status).toBe(400);
    expect(await rowOf(user.user.id)).toEqual(before);
  });

  test("a user who is no admin changes nobody, not even themselves", async () => {
    const user = await api.signUp(tenant);

    expect((await change(user.user.id, { is_tenant_admin: true }, user.access)).status).toBe(403);
    expect(await rowOf(user.user.id)).toMatchObject({ is_tenant_admin: false });
  });

  test("an admin is asked for in the transaction, too", async () => {
    const own = await api.createTenant();
    const { access } = await api.logIn(own, own.owner.email);
    const user = await api.signUp(own);
    // Without a NOTIFY: what the process remembers is out of date.
    await own.sql`update users set is_tenant_admin = false`;

    const answer = await api
      .client(own)
      .patch(`/api/account/users/${user.user.id}/`, { is_tenant_admin: true }, { token: access });

    expect(answer.status).toBe(403);
    expect(await own.sql`select 1 from users where is_tenant_admin`).toHaveLength(0);
  });
});

describe("POST /api/account/users/{id}/reset-2fa/", () => {
  test("takes a lost second factor, ends the logins; 409 when there is none", async () => {
    const user = await api.signUp(tenant, newEmail());
    const client = api.client(tenant);
    const reset = () =>
      client.post(`/api/account/users/${user.user.id}/reset-2fa/`, {}, { token: admin });
    const resetEmpty = () =>
      client.post(`/api/account/users/${user.user.id}/reset-2fa/`, undefined, { token: admin });
    expect([400, 409]).toContain((await reset()).status);
    expect((await resetEmpty()).status).toBe(409);
    const enabled = EnableSecondFactorAnswer.parse(
      (
        await client.post(
          "/api/auth/settings_enable-2fa/",
          { method: "totp", password: PASSWORD },
          { token: user.access },
        )
      ).body,
    );
    const code = URI.parse(enabled.qr_code ?? "").generate();
    expect(
      (await client.post("/api/auth/settings_confirm-2fa/", { code }, { token: user.access }))
        .status,
    ).toBe(200);
    expect(await rowOf(user.user.id)).toMatchObject({ two_fa_type: "totp" });

    expect((await resetEmpty()).status).toBe(200);

    expect(await rowOf(user.user.id)).toMatchObject({ two_fa_type: null });
    expect(
      await tenant.sql`select 1 from second_factors where user_id = ${user.user.id}`,
    ).toHaveLength(0);
    expect(
      await tenant.sql`select 1 from backup_codes where user_id = ${user.user.id}`,
    ).toHaveLength(0);
    expect((await client.get("/api/account/profile/", { token: user.access })).status).toBe(401);
    expect(
      (
        await client.post("/api/auth/login/", {
          identifier: user.user.username,
          password: PASSWORD,
        })
      ).body,
    ).toHaveProperty("tokens");
  });

  test("is for the tenant's admins", async () => {
    const user = await api.signUp(tenant);

    expect(
      (
        await api
          .client(tenant)
          .post(`/api/account/users/${user.user.id}/reset-2fa/`, undefined, { token: user.access })
      ).status,
    ).toBe(403);
  });
});
