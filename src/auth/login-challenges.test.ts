import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant, tokenIn } from "../../test/app.ts";
import {
  nextStep,
  type ProtectedUser,
  type SecondFactorCalls,
  secondFactorCalls,
  sessionIdIn,
  stopClock,
  tokensIn,
  totpCode,
  wrongTotpCode,
} from "../../test/second-factor.ts";

let api: TestApp;
let tenant: TestTenant;
let calls: SecondFactorCalls;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  calls = secondFactorCalls(api, tenant);
});
afterAll(() => api.close());
beforeEach(stopClock);
afterEach(() => vi.restoreAllMocks());

const ENDED = { status: 400, body: { code: "invalid_token" } };

const sessionsOf = ({ user }: ProtectedUser) =>
  tenant.sql`select id from login_sessions where user_id = ${user.id} order by id`;
const challengesOf = ({ user }: ProtectedUser) =>
  tenant.sql`select id from login_challenges where user_id = ${user.id}`;
const enter = (user: ProtectedUser, sessionId: string) =>
  calls.verify(sessionId, totpCode(user.secret));

/** The second step is refused as one that never was, and nobody was logged in. */
async function expectEnded(user: ProtectedUser, sessionId: string): Promise<void> {
  const before = await sessionsOf(user);
  const [code = ""] = user.backupCodes;
  expect(await enter(user, sessionId)).toMatchObject(ENDED);
  expect(await calls.backup(sessionId, code)).toMatchObject(ENDED);
  expect(await calls.resend(sessionId)).toMatchObject(ENDED);
  expect(await sessionsOf(user)).toEqual(before);
}

describe("POST /api/auth/login/ with a second factor", () => {
  test("answers with the session's id and the method, without tokens, user or code", async () => {
    const user = await calls.totpUser();
    const before = await sessionsOf(user);

    const response = await calls.logIn(user);

    expect(response).toMatchObject({ status: 200 });
    expect(response.body).toEqual({
      requires_2fa: true,
      session_id: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      method: "totp",
    });
    expect(JSON.stringify([response.body, response.headers])).not.toContain(totpCode(user.secret));
    expect(await sessionsOf(user)).toEqual(before);
    const [row] = await tenant.sql`select last_login from users where id = ${user.user.id}`;
    expect(row).toEqual({ last_login: null });
  });

  test("with a wrong password there is no second step, and no telling that there is one", async () => {
    const user = await calls.totpUser();
    const bare = await api.signUp(tenant);

    const [mine, theirs] = [
      await calls.logIn({ ...user, password: "a wrong one" }),
      await calls.logIn({ ...bare, password: "a wrong one" }),
    ];

    expect(mine).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(Object.keys(Object(mine.body))).toEqual(Object.keys(Object(theirs.body)));
    expect(await challengesOf(user)).toEqual([]);
  });

  test("the id is kept hashed", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);

    const [row] = await tenant.sql<{ text: string }[]>`
      select c::text as text from login_challenges c where user_id = ${user.user.id}`;

    expect(row?.text).not.toContain(sessionId);
    expect(row?.text).not.toContain(Buffer.from(sessionId).toString("hex"));
    expect(row?.text).not.toContain(Buffer.from(sessionId, "base64url").toString("hex"));
    expect(api.logLines.join("")).not.toContain(sessionId);
  });
});

describe("POST /api/auth/login-2fa-verify-code/", () => {
  test("the right code logs in, with tokens that work and the user", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);

    const response = await enter(user, sessionId);

    expect(response).toMatchObject({ status: 200, body: { user: user.user } });
    const { access, refresh } = tokensIn(response);
    expect((await api.client(tenant).get("/api/account/profile/", { token: access })).status).toBe(
      200,
    );
    expect((await api.client(tenant).post("/api/auth/token/refresh/", { refresh })).status).toBe(
      200,
    );
    expect(await challengesOf(user)).toEqual([]);
  });

  test("a wrong code leaves the second step open for the right one", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const before = await sessionsOf(user);

    expect(await calls.verify(sessionId, wrongTotpCode(user.secret))).toMatchObject({
      status: 400,
      body: { code: "invalid_2fa_code" },
    });

    expect(await sessionsOf(user)).toEqual(before);
    expect((await enter(user, sessionId)).status).toBe(200);
  });

  test("logs in once, even with the next code", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    expect((await enter(user, sessionId)).status).toBe(200);
    nextStep();

    await expectEnded(user, sessionId);
  });

  test("of parallel submits with different right codes one logs in", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const before = await sessionsOf(user);

    const responses = await Promise.all([
      ...user.backupCodes.map((code) => calls.backup(sessionId, code)),
      enter(user, sessionId),
    ]);

    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(await sessionsOf(user)).toHaveLength(before.length + 1);
    const used = await tenant.sql`
      select id from backup_codes where user_id = ${user.user.id} and used_at is not null`;
    expect(used.length).toBeLessThanOrEqual(1);
  });

  test.each([
    [undefined, 7],
    [false, 7],
    [true, 30],
  ])("remember_me %s of the first step: a login of %d days", async (remember, days) => {
    const user = await calls.totpUser();
    const options = remember === undefined ? {} : { remember };
    const sessionId = sessionIdIn(await calls.logIn(user, options));

    await enter(user, sessionId);

    const [row] = await tenant.sql`
      select round(extract(epoch from expires_at - created_at) / 86400)::int as days
        from login_sessions where user_id = ${user.user.id} order by id desc limit 1`;
    expect(row).toEqual({ days });
  });

  test("the network and the device of the second step are those of the login", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user, "192.0.2.1");

    await api
      .client(tenant)
      .post(
        "/api/auth/login-2fa-verify-code/",
        { session_id: sessionId, code: totpCode(user.secret) },
        { remoteAddress: "198.51.100.9", headers: { "user-agent": "A phone" } },
      );

    const [row] = await tenant.sql`
      select host(ip_address) as ip, user_agent from login_sessions
       where user_id = ${user.user.id} order by id desc limit 1`;
    expect(row).toEqual({ ip: "198.51.100.9", user_agent: "A phone" });
  });
});

describe("a session_id", () => {
  test("is good for 10 minutes, then for nothing", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const [row] = await tenant.sql`
      select round(extract(epoch from expires_at - now()) / 60)::int as minutes
        from login_challenges where user_id = ${user.user.id}`;
    expect(row).toEqual({ minutes: 10 });

    await tenant.sql`
      update login_challenges set expires_at = now() - interval '1 second'
       where user_id = ${user.user.id}`;

    await expectEnded(user, sessionId);
  });

  test("of one tenant is nobody's in another", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const other = await api.createTenant();
    const elsewhere = secondFactorCalls(api, other);

    expect(await elsewhere.verify(sessionId, totpCode(user.secret))).toMatchObject(ENDED);
    expect(await elsewhere.backup(sessionId, user.backupCodes[0] ?? "")).toMatchObject(ENDED);

    expect(await other.sql`select id from login_sessions`).toEqual([]);
    expect((await enter(user, sessionId)).status).toBe(200);
  });

  test("of one user does not take another's code", async () => {
    const [mine, theirs] = [await calls.totpUser(), await calls.totpUser()];
    const sessionId = await calls.challenge(theirs);
    const before = await sessionsOf(theirs);

    expect(await enter(mine, sessionId)).toMatchObject({ body: { code: "invalid_2fa_code" } });

    expect(await sessionsOf(theirs)).toEqual(before);
    expect((await enter(theirs, sessionId)).status).toBe(200);
  });

  test("opens nothing else: no access, refresh, reset or e-mail token", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const client = api.client(tenant);

    expect(await client.get("/api/account/profile/", { token: sessionId })).toMatchObject({
      status: 401,
    });
    expect(await client.post("/api/auth/token/refresh/", { refresh: sessionId })).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });
    expect(
      await client.post("/api/auth/password/reset/", {
        token: sessionId,
        password: "another correct horse",
      }),
    ).toMatchObject(ENDED);
    expect(await client.post("/api/account/email/verify/", { token: sessionId })).toMatchObject(
      ENDED,
    );

    expect((await enter(user, sessionId)).status).toBe(200);
  });

  test("is no other token's: neither access, refresh nor reset token opens a second step", async () => {
    const user = await calls.totpUser();
    await calls.challenge(user);
    await api.client(tenant).post("/api/auth/password/forgot/", { identifier: user.user.username });
    const reset = tokenIn(await api.nextSms(user.user.primary_mobile));
    const before = await sessionsOf(user);

    expect(await enter(user, user.access)).toMatchObject({ status: 400 });
    for (const token of [user.refresh, reset]) {
      expect(await enter(user, token)).toMatchObject(ENDED);
    }

    expect(await sessionsOf(user)).toEqual(before);
  });

  test("is dead after a password change", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);

    const changed = await api
      .client(tenant)
      .post(
        "/api/auth/password/change/",
        { current_password: PASSWORD, new_password: "another correct horse" },
        { token: user.access },
      );

    expect(changed.status).toBe(200);
    await expectEnded(user, sessionId);
  });

  test("is dead after a password reset, and the next login still asks for the code", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const post = (path: string, body: object) =>
      api.client(tenant).post(`/api/auth/password/${path}/`, body);
    await post("forgot", { identifier: user.user.username });
    const token = tokenIn(await api.nextSms(user.user.primary_mobile));

    const reset = await post("reset", { token, password: "another correct horse" });

    expect(reset.status).toBe(200);
    await expectEnded(user, sessionId);
    const again = await calls.logIn({ ...user, password: "another correct horse" });
    expect(again).toMatchObject({ status: 200, body: { requires_2fa: true } });
  });

  test("is dead after an admin's reset of the second factor", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const owner = await api.logIn(tenant, tenant.owner.email);

    const reset = await api
      .client(tenant)
      .post(`/api/account/users/${user.user.id}/reset-2fa/`, undefined, { token: owner.access });

    expect(reset.status).toBe(200);
    await expectEnded(user, sessionId);
    expect(await calls.logIn(user)).toHaveProperty(["body", "tokens"]);
  });

  test("is dead after the second factor was turned off", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);

    expect((await calls.disable(user, user.backupCodes[0] ?? "")).status).toBe(200);

    await expectEnded(user, sessionId);
  });

  test("of a user who was disabled meanwhile: 403, also with the right code", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);
    const before = await sessionsOf(user);
    await tenant.sql`update users set is_active = false where id = ${user.user.id}`;

    expect(await enter(user, sessionId)).toMatchObject({
      status: 403,
      body: { code: "account_disabled" },
    });
    expect(await calls.resend(sessionId)).toMatchObject(ENDED);

    expect(await sessionsOf(user)).toEqual(before);
    await tenant.sql`update users set is_active = true where id = ${user.user.id}`;
    expect((await enter(user, sessionId)).status).toBe(200);
  });

  test("with an authenticator app there is nothing to send again: 409", async () => {
    const user = await calls.totpUser();
    const sessionId = await calls.challenge(user);

    expect(await calls.resend(sessionId)).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
  });

  test.each([
    ["a fragment of SQL", "' or '1'='1", "invalid_token"],
    ["a wildcard", "%", "invalid_token"],
    ["a NUL", "\u0000", "invalid_token"],
    ["a huge text", "a".repeat(10_000), "validation_error"],
    ["a number", 1, "validation_error"],
    ["an object", { $ne: "" }, "validation_error"],
  ])("%s is none", async (_, sessionId, code) => {
    const response = await api
      .client(tenant)
      .post("/api/auth/login-2fa-verify-code/", { session_id: sessionId, code: "482913" });

    expect(response).toMatchObject({ status: 400, body: { code } });
  });
});
