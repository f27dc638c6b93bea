import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import {
  codeIn,
  newEmail,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";

let api: TestApp;
/** A second process, which has to be told. */
let replica: TestApp;
let tenant: TestTenant;
let admin: string;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  replica = await api.startReplica({ config: { rateLimits: NO_LIMITS } });
  tenant = await api.createTenant();
  admin = (await api.logIn(tenant, tenant.owner.email)).access;
});
afterAll(() => api.close());

const profileAt = (app: TestApp, token: string) =>
  app.client(tenant).get("/api/account/profile/", { token });
const listAt = (app: TestApp, token: string) =>
  app.client(tenant).get("/api/account/users/", { token });
const changeUser = (id: number, body: object, token = admin) =>
  api.client(tenant).patch(`/api/account/users/${id}/`, body, { token });
const resetFactor = (id: number, token = admin) =>
  api.client(tenant).post(`/api/account/users/${id}/reset-2fa/`, undefined, { token });
const endSession = (id: number | string, token: string) =>
  api.client(tenant).delete(`/api/account/sessions/${id}/`, { token });
const liveSessions = ({ user }: SignedUpUser) =>
  tenant.sql<{ id: number }[]>`
    select id from login_sessions where user_id = ${user.id} and ended_at is null order by id`;

/** Both processes have answered the token, so both remember who it is. */
async function known(token: string): Promise<void> {
  for (const app of [api, replica]) expect((await profileAt(app, token)).status).toBe(200);
}

async function expectDead(token: string, code: string): Promise<void> {
  for (const app of [api, replica]) {
    await expect
      .poll(() => profileAt(app, token), { timeout: 1_000, interval: 10 })
      .toMatchObject({ body: { code } });
  }
}

/** A user with codes by SMS as the second factor, and a verified address. */
async function userWithSms(): Promise<SignedUpUser & { email: string }> {
  const email = newEmail();
  const user = await api.signUp(tenant, email);
  await api.verifyEmail(tenant, email);
  const call = (path: string, body: object) =>
    api.client(tenant).post(`/api/auth/${path}/`, body, { token: user.access });
  await call("settings_enable-2fa", { method: "sms", password: PASSWORD });
  const code = codeIn(await api.nextSms(user.user.primary_mobile));
  expect((await call("settings_confirm-2fa", { code })).status).toBe(200);
  await api.nextEmail(email);
  return { ...user, email };
}

describe("within a second, on every process", () => {
  test("a login that its user ended is dead, the access token and the refresh token", async () => {
    const user = await api.signUp(tenant);
    const other = await api.logIn(tenant, user.user.username);
    await known(user.access);
    await known(other.access);
    const [, second] = await liveSessions(user);

    expect((await endSession(second?.id ?? 0, user.access)).status).toBe(204);

    await expectDead(other.access, "token_revoked");
    const refreshed = await api
      .client(tenant)
      .post("/api/auth/token/refresh/", { refresh: other.refresh });
    expect(refreshed).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    await known(user.access);
  });

  test("an ended login cannot be ended again, one that ran out neither", async () => {
    const user = await api.signUp(tenant);
    await api.logIn(tenant, user.user.username);
    await api.logIn(tenant, user.user.username);
    const [, ended, expired] = await liveSessions(user);
    await endSession(ended?.id ?? 0, user.access);
    await tenant.sql`
      update login_sessions set expires_at = now() - interval '1 second'
       where id = ${expired?.id ?? 0}`;
    const rows = () =>
      tenant.sql`select * from login_sessions where user_id = ${user.user.id} order by id`;
    const before = await rows();

    for (const id of [ended?.id ?? 0, expired?.id ?? 0]) {
      expect(await endSession(id, user.access)).toMatchObject({
        status: 404,
        body: { code: "not_found" },
      });
    }

    expect(await rows()).toEqual(before);
  });

  test("a disabled user's logins are dead; enabling does not bring them back", async () => {
    const user = await api.signUp(tenant);
    await known(user.access);

    expect((await changeUser(user.user.id, { is_active: false })).status).toBe(200);

    await expectDead(user.access, "token_revoked");
    expect((await changeUser(user.user.id, { is_active: true })).status).toBe(200);
    await expectDead(user.access, "token_revoked");
    await known((await api.logIn(tenant, user.user.username)).access);
  });

  test("an admin that was appointed is one, and one that was removed is none; their login goes on", async () => {
    const user = await api.signUp(tenant);
    const statuses = async () => [
      (await listAt(api, user.access)).status,
      (await listAt(replica, user.access)).status,
    ];
    expect(await statuses()).toEqual([403, 403]);

    await changeUser(user.user.id, { is_tenant_admin: true });
    await expect.poll(statuses, { timeout: 1_000, interval: 10 }).toEqual([200, 200]);
    expect(await api.nextSms(user.user.primary_mobile)).toContain("was made an administrator");

    await changeUser(user.user.id, { is_tenant_admin: false });
    await expect.poll(statuses, { timeout: 1_000, interval: 10 }).toEqual([403, 403]);
    expect(await api.nextSms(user.user.primary_mobile)).toContain("took this role");
    await known(user.access);
  });

  test("a user whose second factor was reset is logged out, and told", async () => {
    const user = await userWithSms();
    await known(user.access);

    expect((await resetFactor(user.user.id)).status).toBe(200);

    await expectDead(user.access, "token_revoked");
    expect(await api.nextEmail(user.email)).toContain("An administrator turned off");
    expect((await resetFactor(user.user.id)).status).toBe(409);
    await known((await api.logIn(tenant, user.email)).access);
  });
});

describe("POST /api/account/users/{id}/reset-2fa/", () => {
  test("whoever entered wrong codes before can turn the second factor on again at once", async () => {
    const user = await userWithSms();
    const call = (path: string, body: object, token?: string) =>
      api.client(tenant).post(`/api/auth/${path}/`, body, token === undefined ? {} : { token });
    const begun = await call("login", { identifier: user.email, password: PASSWORD });
    const { session_id } = z.object({ session_id: z.string() }).parse(begun.body);
    const right = codeIn(await api.nextSms(user.user.primary_mobile));
    for (let index = 0; index < 5; index += 1) {
      await call("login-2fa-verify-code", { session_id, code: wrongCode(right) });
    }
    expect((await call("login-2fa-verify-code", { session_id, code: right })).status).toBe(400);

    await resetFactor(user.user.id);

    const { access } = await api.logIn(tenant, user.email);
    await call("settings_enable-2fa", { method: "sms", password: PASSWORD }, access);
    const code = codeIn(await api.nextSms(user.user.primary_mobile));
    expect((await call("settings_confirm-2fa", { code }, access)).status).toBe(200);
  });

  test("of an unknown user it is 404, and an admin demoted meanwhile is refused", async () => {
    const own = await api.createTenant();
    const { access } = await api.logIn(own, own.owner.email);
    const user = await api.signUp(own);
    await own.sql`update users set two_fa_type = 'sms' where id = ${user.user.id}`;
    const reset = (id: number) =>
      api.client(own).post(`/api/account/users/${id}/reset-2fa/`, undefined, { token: access });

    expect((await reset(user.user.id + 1_000)).status).toBe(404);
    // Without a NOTIFY: what the process remembers is out of date.
    await own.sql`update users set is_tenant_admin = false`;
    expect((await reset(user.user.id)).status).toBe(403);
    const rows = await own.sql`select two_fa_type from users where id = ${user.user.id}`;
    expect(rows).toEqual([{ two_fa_type: "sms" }]);
  });
});

describe("another tenant's ids", () => {
  test("a user and a login of another tenant are not found, and stay as they are", async () => {
    const other = await api.createTenant();
    await other.sql`alter table users alter column id restart with 900000`;
    await other.sql`alter table login_sessions alter column id restart with 900000`;
    const theirs = await api.signUp(other);
    expect(theirs.user.id).toBe(900_000);
    const state = () => other.sql`
      select u.is_active, u.updated_at, s.id, s.ended_at
        from users u join login_sessions s on s.user_id = u.id where u.id = 900000`;
    const before = await state();

    for (const { status } of [
      await changeUser(900_000, { is_active: false }),
      await resetFactor(900_000),
      await api.client(tenant).get("/api/account/users/900000/", { token: admin }),
      await endSession(900_000, admin),
    ]) {
      expect(status).toBe(404);
    }

    expect(before).toHaveLength(1);
    expect(await state()).toEqual(before);
  });

  test.each(["0", "-1", "9007199254740992", "abc", "1.5", "%00", "1e400"])(
    "%s is no id of a user or a login",
    async (id) => {
      const responses = [
        await endSession(id, admin),
        await api.client(tenant).get(`/api/account/users/${id}/`, { token: admin }),
        await api
          .client(tenant)
          .patch(`/api/account/users/${id}/`, { is_active: false }, { token: admin }),
      ];

      for (const response of responses) {
        expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
      }
    },
  );
});

describe("admins at the same time", () => {
  test("of two who disable each other one stays, in every round", async () => {
    for (let round = 0; round < 10; round += 1) {
      const own = await api.createTenant();
      const first = await api.logIn(own, own.owner.email);
      const second = await api.signUp(own);
      const [{ id } = { id: 0 }] = await own.sql<{ id: number }[]>`
        select id from users where is_tenant_admin`;
      await own.sql`update users set is_tenant_admin = true`;
      const disable = (app: TestApp, target: number, token: string) =>
        app.client(own).patch(`/api/account/users/${target}/`, { is_active: false }, { token });
      // As after a restart: the row was changed without a NOTIFY.
      for (const { services } of [api, replica]) services.principals.clear();

      const responses = await Promise.all([
        disable(api, second.user.id, first.access),
        disable(replica, id, second.access),
      ]);

      expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(responses.every(({ status }) => status < 500)).toBe(true);
      expect(await own.sql`select 1 from users where is_tenant_admin and is_active`).toHaveLength(
        1,
      );
    }
  });
});
