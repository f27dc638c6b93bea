import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import {
  newEmail,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";

const NEW_PASSWORD = "another one entirely";

let api: TestApp;
let replica: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  replica = await api.startReplica({ config: { rateLimits: NO_LIMITS } });
  tenant = await api.createTenant();
});
afterAll(() => api.close());
afterEach(() => vi.restoreAllMocks());

interface Change {
  current?: string;
  password?: string;
  from?: string;
}

const change = (
  access: string,
  { current = PASSWORD, password = NEW_PASSWORD, from = "192.0.2.1" }: Change = {},
) =>
  api
    .client(tenant)
    .post(
      "/api/auth/password/change/",
      { current_password: current, new_password: password },
      { token: access, remoteAddress: from },
    );
const login = (identifier: string, password: string, from = "192.0.2.1") =>
  api.client(tenant).post("/api/auth/login/", { identifier, password }, { remoteAddress: from });
const profile = (token: string, app = api) =>
  app.client(tenant).get("/api/account/profile/", { token });

/** All that a change may change. */
const stateOf = ({ user }: SignedUpUser) =>
  tenant.sql`
    select u.password_hash, u.updated_at,
           (select count(*) from password_history h where h.user_id = u.id) as earlier,
           (select count(*) from login_sessions s
             where s.user_id = u.id and s.ended_at is null) as logins
      from users u where u.id = ${user.id}`;

describe("POST /api/auth/password/change/", () => {
  test("needs the current password", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    const refused = await change(user.access, { current: "a wrong one" });
    expect(refused).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(await stateOf(user)).toEqual(before);

    expect((await change(user.access)).status).toBe(200);
    expect((await login(user.user.username, PASSWORD)).status).toBe(401);
    expect((await login(user.user.username, NEW_PASSWORD)).status).toBe(200);
    const entries = await tenant.sql`
      select action from security_logs
       where user_id = ${user.user.id} and action like 'PASSWORD%' order by id`;
    expect(entries).toEqual([
      { action: "PASSWORD_CONFIRMATION_FAILED" },
      { action: "PASSWORD_CHANGED" },
    ]);
  });

  test("needs a login", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    const response = await api.client(tenant).post("/api/auth/password/change/", {
      current_password: PASSWORD,
      new_password: NEW_PASSWORD,
    });

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(await stateOf(user)).toEqual(before);
  });

  test("ends the other logins on every process within a second; the present one goes on", async () => {
    const user = await api.signUp(tenant);
    const other = await api.logIn(tenant, user.user.username);
    for (const app of [api, replica]) expect((await profile(other.access, app)).status).toBe(200);

    await change(user.access);

    for (const app of [api, replica]) {
      await expect
        .poll(() => profile(other.access, app), { timeout: 1_000, interval: 10 })
        .toMatchObject({ status: 401, body: { code: "token_revoked" } });
      expect((await profile(user.access, app)).status).toBe(200);
    }
    const refresh = (token: string) =>
      api.client(tenant).post("/api/auth/token/refresh/", { refresh: token });
    expect((await refresh(other.refresh)).status).toBe(401);
    expect((await refresh(user.refresh)).status).toBe(200);
  });

  test("five wrong ones lock the account for that network, at the login too", async () => {
    const user = await api.signUp(tenant);
    const from = "198.51.100.1";
    const before = await stateOf(user);
    for (let index = 0; index < 5; index += 1) {
      await change(user.access, { current: "a wrong one", from });
    }

    expect(await change(user.access, { from })).toMatchObject({
      status: 401,
      body: { code: "invalid_credentials" },
    });
    expect((await login(user.user.username, PASSWORD, from)).status).toBe(401);
    expect(await stateOf(user)).toEqual(before);
    expect((await change(user.access, { from: "198.51.100.2" })).status).toBe(200);
  });

  test("wrong passwords of the login count here", async () => {
    const user = await api.signUp(tenant);
    const from = "198.51.100.3";
    for (let index = 0; index < 4; index += 1) {
      await login(user.user.username, "a wrong one", from);
    }
    await change(user.access, { current: "a wrong one", from });

    expect((await change(user.access, { from })).status).toBe(401);
  });

  test("of 20 parallel tries five are tried", async () => {
    const user = await api.signUp(tenant);
    const from = "198.51.100.4";

    await Promise.all(
      Array.from({ length: 20 }, () => change(user.access, { current: "a wrong one", from })),
    );

    const entries = await tenant.sql`
      select action, count(*) from security_logs
       where user_id = ${user.user.id} and action like 'PASSWORD_CONF%' group by 1 order by 1`;
    expect(entries).toEqual([
      { action: "PASSWORD_CONFIRMATION_FAILED", count: 5 },
      { action: "PASSWORD_CONFIRMATION_LOCKED", count: 15 },
    ]);
  });

  test("the right password does not count, however often the new one is refused", async () => {
    const user = await api.signUp(tenant);
    for (let index = 0; index < 4; index += 1) await login(user.user.username, "a wrong one");

    for (let index = 0; index < 6; index += 1) {
      const refused = await change(user.access, { password: "iloveyou1" });
      expect(refused).toMatchObject({ status: 400, body: { code: "validation_error" } });
    }

    expect((await change(user.access)).status).toBe(200);
  });

  test("of two changes at the same time one counts, the other is told so", async () => {
    const user = await api.signUp(tenant);
    const hasher = api.services.passwords;
    const hash = hasher.hash.bind(hasher);
    const waiting: (() => void)[] = [];
    // Both have confirmed the old password before either writes the new one.
    vi.spyOn(hasher, "hash").mockImplementation(async (password, tenantId) => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        if (waiting.length === 2) for (const resume of waiting) resume();
      });
      return hash(password, tenantId);
    });
    const passwords = ["the first of the two", "the second of the two"];

    const responses = await Promise.all(
      passwords.map((password) => change(user.access, { password })),
    );

    expect(responses.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 409]);
    expect(await stateOf(user)).toMatchObject([{ earlier: 1, logins: 1 }]);
    for (const [index, password] of passwords.entries()) {
      const isWinner = responses[index]?.status === 200;
      expect((await login(user.user.username, password)).status).toBe(isWinner ? 200 : 401);
      expect(responses[index]?.status).toBe(isWinner ? 200 : 409);
    }
  });

  test("tells the user: by SMS, and by e-mail too where the address is theirs", async () => {
    const email = newEmail();
    const verified = await api.signUp(tenant, email);
    await api.verifyEmail(tenant, email);
    const unverified = await api.signUp(tenant);

    await change(verified.access);
    await change(unverified.access);

    const notice = "password of your account was changed";
    expect(await api.nextEmail(email)).toContain(notice);
    expect(await api.nextSms(verified.user.primary_mobile)).toContain(notice);
    expect(await api.nextSms(unverified.user.primary_mobile)).toContain(notice);
    await vi.waitFor(async () => {
      expect(await tenant.sql`select id from messages`).toEqual([]);
    });
    const sent = (await api.services.outbox?.list()) ?? [];
    const toUnverified = sent.filter(({ to }) => to === unverified.user.email);
    expect(toUnverified.filter(({ body }) => body.includes(notice))).toEqual([]);
  });

  test("kills links to set a password, and logins that wait for a second factor", async () => {
    const user = await api.signUp(tenant);
    const { primary_mobile: phone } = user.user;
    await api.client(tenant).post("/api/auth/password/forgot/", { identifier: phone });
    const token = tokenIn(await api.nextSms(phone));
    await tenant.sql`update users set two_fa_type = 'sms' where id = ${user.user.id}`;
    await login(phone, PASSWORD);
    const challenges = () =>
      tenant.sql`select id from login_challenges where user_id = ${user.user.id}`;
    expect(await challenges()).toHaveLength(1);

    await change(user.access);

    expect(await challenges()).toEqual([]);
    const late = await api
      .client(tenant)
      .post("/api/auth/password/reset/", { token, password: "a third one instead" });
    expect(late).toMatchObject({ status: 400, body: { code: "invalid_token" } });
  });

  test("the password that is in use already is refused", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    const response = await change(user.access, { password: PASSWORD });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await stateOf(user)).toEqual(before);
  });

  test.each([
    ["no current password", { new_password: NEW_PASSWORD }],
    ["an empty current password", { current_password: "", new_password: NEW_PASSWORD }],
    ["no new password", { current_password: PASSWORD }],
    ["another user besides", { current_password: PASSWORD, new_password: NEW_PASSWORD, user: 1 }],
    ["a list of passwords", { current_password: [PASSWORD], new_password: [NEW_PASSWORD] }],
    ["half of a character", { current_password: PASSWORD, new_password: `${NEW_PASSWORD} \ud800` }],
    ["null", { current_password: null, new_password: null }],
  ])("%s: the request is refused as it is", async (_, body) => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    const response = await api
      .client(tenant)
      .post("/api/auth/password/change/", body, { token: user.access });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await stateOf(user)).toEqual(before);
  });
});
