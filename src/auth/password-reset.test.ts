import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  codeIn,
  newEmail,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { LoginAnswer } from "./schemas.ts";

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

interface Person extends SignedUpUser {
  readonly email: string;
}

/** A user whose address is known to be theirs. */
async function verifiedUser(): Promise<Person> {
  const email = newEmail();
  const user = await api.signUp(tenant, email);
  await api.verifyEmail(tenant, email);
  return { ...user, email };
}

/** The token of a new link. */
async function newToken({ email }: Person): Promise<string> {
  await api.client(tenant).post("/api/auth/password/forgot/", { identifier: email });
  return tokenIn(await api.nextEmail(email));
}

const reset = (token: string, password = NEW_PASSWORD, at = tenant) =>
  api.client(at).post("/api/auth/password/reset/", { token, password });
const login = (identifier: string, password: string, from = "192.0.2.1") =>
  api.client(tenant).post("/api/auth/login/", { identifier, password }, { remoteAddress: from });
const profile = (token: string, app = api) =>
  app.client(tenant).get("/api/account/profile/", { token });

/** All that a reset may change. */
const stateOf = ({ user }: SignedUpUser) =>
  tenant.sql`
    select u.password_hash, u.updated_at,
           (select count(*) from password_history h where h.user_id = u.id) as earlier,
           (select count(*) from login_sessions s
             where s.user_id = u.id and s.ended_at is null) as logins,
           (select count(*) from login_challenges c where c.user_id = u.id) as challenges,
           (select count(*) from password_resets r
             where r.user_id = u.id and r.used_at is null) as links
      from users u where u.id = ${user.id}`;

/** As the bearer of a link that is wrong is told, with nothing changed. */
async function expectRefused(user: Person, token: string, at = tenant): Promise<void> {
  const before = await stateOf(user);
  expect(await reset(token, NEW_PASSWORD, at)).toMatchObject({
    status: 400,
    body: { code: "invalid_token" },
  });
  expect(await stateOf(user)).toEqual(before);
}

describe("POST /api/auth/password/reset/", () => {
  test("sets the password: the new one logs in, the old one does not", async () => {
    const user = await verifiedUser();

    const response = await reset(await newToken(user));

    expect(response.status).toBe(200);
    expect(Object.keys(Object(response.body))).toEqual(["message"]);
    expect((await login(user.email, NEW_PASSWORD)).status).toBe(200);
    expect((await login(user.email, PASSWORD)).status).toBe(401);
    const entries = await tenant.sql`
      select id from security_logs where user_id = ${user.user.id} and action = 'PASSWORD_RESET'`;
    expect(entries).toHaveLength(1);
  });

  test("logs nobody in: there is no login afterwards", async () => {
    const user = await verifiedUser();

    await reset(await newToken(user));

    const logins = await tenant.sql`
      select ended_because from login_sessions where user_id = ${user.user.id}`;
    expect(logins).toEqual([{ ended_because: "password" }]);
  });

  test("ends every login: access tokens on every process within a second, refresh tokens at once", async () => {
    const user = await verifiedUser();
    const second = await api.logIn(tenant, user.email);
    for (const app of [api, replica]) {
      for (const { access } of [user, second])
        expect((await profile(access, app)).status).toBe(200);
    }
    const token = await newToken(user);

    await reset(token);

    for (const app of [api, replica]) {
      for (const { access } of [user, second]) {
        await expect
          .poll(() => profile(access, app), { timeout: 1_000, interval: 10 })
          .toMatchObject({ status: 401, body: { code: "token_revoked" } });
      }
    }
    for (const { refresh } of [user, second]) {
      const response = await api.client(tenant).post("/api/auth/token/refresh/", { refresh });
      expect(response).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    }
  });

  test("a link works once", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);
    await reset(token);

    await expectRefused(user, token);
    expect((await reset(token, "a third one instead")).status).toBe(400);
    expect((await login(user.email, NEW_PASSWORD)).status).toBe(200);
  });

  test("of 20 parallel resets with one link one counts", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);
    const passwords = Array.from({ length: 20 }, (_, index) => `password for round ${index}`);

    const responses = await Promise.all(passwords.map((password) => reset(token, password)));

    const winners = passwords.filter((_, index) => responses[index]?.status === 200);
    expect(winners).toHaveLength(1);
    for (const { body } of responses.filter(({ status }) => status !== 200)) {
      expect(body).toMatchObject({ status: 400, code: "invalid_token" });
    }
    for (const password of winners) {
      expect((await login(user.email, password)).status).toBe(200);
    }
    expect(await stateOf(user)).toMatchObject([{ earlier: 1, links: 0 }]);
  });

  test("of five links used at once one counts", async () => {
    const user = await verifiedUser();
    const tokens: string[] = [];
    for (let index = 0; index < 5; index += 1) tokens.push(await newToken(user));

    const responses = await Promise.all(
      tokens.map((token, index) => reset(token, `password for round ${index}`)),
    );

    const statuses = responses.map(({ status }) => status).sort((a, b) => a - b);
    expect(statuses).toEqual([200, 400, 400, 400, 400]);
    expect(await stateOf(user)).toMatchObject([{ earlier: 1, links: 0 }]);
  });

  test("a link works for 30 minutes", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);
    const other = await newToken(user);
    const age = (minutes: string) => tenant.sql`
      update password_resets
         set created_at = created_at - ${minutes}::interval,
             expires_at = expires_at - ${minutes}::interval
       where user_id = ${user.user.id}`;

    await age("30 minutes 1 second");
    await expectRefused(user, token);
    await age("-2 minutes");
    expect((await reset(other)).status).toBe(200);
  });

  test("a link is worth nothing in another tenant, and stays good in its own", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);
    const other = await api.createTenant();

    await expectRefused(user, token, other);
    expect((await reset(token)).status).toBe(200);
  });

  test.each([
    [
      "changed by one character",
      (token: string) => `${token.startsWith("A") ? "B" : "A"}${token.slice(1)}`,
    ],
    ["in another case", (token: string) => token.toUpperCase()],
    ["with a space", (token: string) => `${token} `],
    ["cut off", (token: string) => token.slice(0, -1)],
    ["that is its hash", () => "0".repeat(64)],
  ])("a token %s is refused", async (_, change) => {
    const user = await verifiedUser();
    const token = await newToken(user);

    await expectRefused(user, change(token));
    expect((await reset(token)).status).toBe(200);
  });

  test("kills the user's other links, and nobody else's", async () => {
    const user = await verifiedUser();
    const other = await verifiedUser();
    const [first, second, theirs] = [
      await newToken(user),
      await newToken(user),
      await newToken(other),
    ];

    await reset(first);

    await expectRefused(user, second);
    expect((await reset(theirs)).status).toBe(200);
  });

  test("does not skip the second factor, and kills the logins that wait for it", async () => {
    const user = await verifiedUser();
    await tenant.sql`update users set two_fa_type = 'sms' where id = ${user.user.id}`;
    const begun = LoginAnswer.parse((await login(user.email, PASSWORD)).body);
    if (!("session_id" in begun)) throw new Error("No code was asked for");
    const code = codeIn(await api.nextSms(user.user.primary_mobile));

    await reset(await newToken(user));

    const late = await api
      .client(tenant)
      .post("/api/auth/login-2fa-verify-code/", { session_id: begun.session_id, code });
    expect(late).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await stateOf(user)).toMatchObject([{ logins: 0, challenges: 0 }]);
    expect((await login(user.email, NEW_PASSWORD)).body).toMatchObject({ requires_2fa: true });
  });

  test("tells the user by e-mail and by SMS", async () => {
    const user = await verifiedUser();

    await reset(await newToken(user));

    expect(await api.nextEmail(user.email)).toContain("password of your account was changed");
    expect(await api.nextSms(user.user.primary_mobile)).toContain(
      "password of your account was changed",
    );
  });

  test("a refused reset tells nobody", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);

    expect((await reset(token, PASSWORD)).status).toBe(400);
    await vi.waitFor(async () => {
      expect(await tenant.sql`select id from messages`).toEqual([]);
    });

    const sent = (await api.services.outbox?.list()) ?? [];
    const notices = sent.filter(
      ({ to, body }) =>
        [user.email, user.user.primary_mobile].includes(to) && body.includes("was changed"),
    );
    expect(notices).toEqual([]);
    expect((await reset(token)).status).toBe(200);
  });

  test("whoever locked the account by wrong passwords logs in with the new one at once", async () => {
    const user = await verifiedUser();
    for (let index = 0; index < 5; index += 1) await login(user.email, "a wrong one");
    expect((await login(user.email, PASSWORD)).status).toBe(401);

    await reset(await newToken(user));

    expect((await login(user.email, NEW_PASSWORD)).status).toBe(200);
    expect((await login(user.email, PASSWORD)).status).toBe(401);
  });

  test("a disabled user's link is refused, and works again once they are enabled", async () => {
    const user = await verifiedUser();
    const token = await newToken(user);
    const setActive = (isActive: boolean) =>
      tenant.sql`update users set is_active = ${isActive} where id = ${user.user.id}`;

    await setActive(false);
    await expectRefused(user, token);
    await setActive(true);

    expect((await reset(token)).status).toBe(200);
  });

  test("gives a user without a password their first", async () => {
    const user = await verifiedUser();
    await tenant.sql`update users set password_hash = null where id = ${user.user.id}`;

    expect((await reset(await newToken(user))).status).toBe(200);

    expect((await login(user.email, NEW_PASSWORD)).status).toBe(200);
    expect(await stateOf(user)).toMatchObject([{ earlier: 0 }]);
  });

  test.each([
    ["no token", { password: NEW_PASSWORD }],
    ["no password", { token: "x".repeat(43) }],
    ["an empty token", { token: "", password: NEW_PASSWORD }],
    ["a list as token", { token: ["x".repeat(43)], password: NEW_PASSWORD }],
    ["null as token", { token: null, password: NEW_PASSWORD }],
    ["a token of 60,000", { token: "x".repeat(60_000), password: NEW_PASSWORD }],
    ["a user besides", { token: "x".repeat(43), password: NEW_PASSWORD, user: 1 }],
  ])("%s: the request is refused as it is", async (_, body) => {
    const response = await api.client(tenant).post("/api/auth/password/reset/", body);

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });

  test.each(["\u0000".repeat(43), "\ud800".repeat(43), "'; drop table users; --"])(
    "the token %j is wrong, not a failure of the server",
    async (token) => {
      expect((await reset(token)).status).toBe(400);
    },
  );
});
