import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { refusalIn } from "../../test/second-factor.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const HERE = "198.51.100.1";
const ELSEWHERE = "203.0.113.1";
const WRONG = "a wrong one";

const login = ({ user }: SignedUpUser, password = PASSWORD, from = HERE) =>
  api
    .client(tenant)
    .post("/api/auth/login/", { identifier: user.username, password }, { remoteAddress: from });

/** Whatever asks somebody who is logged in for the password again. */
const CONFIRMATIONS: Readonly<Record<string, (password: string) => [path: string, body: object]>> =
  {
    "turning the second factor on": (password) => [
      "/api/auth/settings_enable-2fa/",
      { method: "totp", password },
    ],
    "turning it off": (password) => [
      "/api/auth/settings_disable-2fa/",
      { code: "482913", password },
    ],
    "new backup codes": (password) => ["/api/auth/settings_backup-codes/", { password }],
    "another password": (password) => [
      "/api/auth/password/change/",
      { current_password: password, new_password: "another correct horse" },
    ],
  };

const confirm = (
  { access }: SignedUpUser,
  what: string,
  password: string,
): Promise<TestResponse> => {
  const [path, body] = CONFIRMATIONS[what]?.(password) ?? ["", {}];
  return api.client(tenant).post(path, body, { token: access, remoteAddress: HERE });
};

async function fail(user: SignedUpUser, times: number): Promise<void> {
  for (let index = 0; index < times; index += 1) await login(user, WRONG);
}

const stateOf = async ({ user }: SignedUpUser) => ({
  user: await tenant.sql`select password_hash, two_fa_type from users where id = ${user.id}`,
  factors: await tenant.sql`select * from second_factors where user_id = ${user.id}`,
  sessions: await tenant.sql`select id, ended_at from login_sessions where user_id = ${user.id}`,
});

/** As if all failures had been so long ago. */
const age = (minutes: number) => tenant.sql`
  update failures set
    updated_at   = updated_at - make_interval(mins => ${minutes}::int),
    locked_until = locked_until - make_interval(mins => ${minutes}::int)`;

describe("an account that is locked", () => {
  test("refuses the right password in the words of the wrong one, from that network alone", async () => {
    const user = await api.signUp(tenant);
    await fail(user, 4);
    const wrong = await login(user, WRONG);
    const before = await stateOf(user);

    const right = await login(user);

    expect(refusalIn(right)).toEqual(refusalIn(wrong));
    expect(right).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(await stateOf(user)).toEqual(before);
    expect((await login(user, PASSWORD, ELSEWHERE)).status).toBe(200);
  });

  test("is locked for 30 minutes: not for 31, not for 29", async () => {
    const user = await api.signUp(tenant);
    await fail(user, 5);

    await age(29);
    expect((await login(user)).status).toBe(401);
    await age(1);
    expect((await login(user)).status).toBe(200);
  });

  test("wrong passwords are forgotten after half an hour without one", async () => {
    const user = await api.signUp(tenant);
    await fail(user, 4);
    await age(29);
    await fail(user, 1);
    expect((await login(user)).status).toBe(401);

    const other = await api.signUp(tenant);
    await fail(other, 4);
    await age(30);
    await fail(other, 1);
    expect((await login(other)).status).toBe(200);
  });

  test("is not what 24 right logins at once leave behind: all of them are let in", async () => {
    const user = await api.signUp(tenant);

    const responses = await Promise.all(Array.from({ length: 24 }, () => login(user)));

    expect(responses.map(({ status }) => status)).toEqual(responses.map(() => 200));
    expect((await login(user)).status).toBe(200);
    expect(
      await tenant.sql`select action from security_logs
                        where user_id = ${user.user.id} and action = 'LOGIN_LOCKED'`,
    ).toEqual([]);
  });

  test("of 20 parallel tries with the right one among them no more than five are compared", async () => {
    const user = await api.signUp(tenant);
    await fail(user, 4);
    // One try is left: it is the right one, or one of nineteen wrong ones.
    const responses = await Promise.all(
      Array.from({ length: 20 }, (_, index) => login(user, index === 19 ? PASSWORD : WRONG)),
    );

    const entries = await tenant.sql`
      select id from security_logs where user_id = ${user.user.id} and action = 'LOGIN_FAILED'`;
    const isIn = responses[19]?.status === 200;
    // After the right one the count begins anew.
    expect(entries.length).toBeLessThanOrEqual(isIn ? 4 + 5 : 5);
    for (const { status } of responses.slice(0, 19)) expect(status).toBe(401);
  });
});

describe.each(Object.keys(CONFIRMATIONS))("the password asked for: %s", (what) => {
  test("five wrong ones lock the login of that network too, and nothing was changed", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    for (let index = 0; index < 5; index += 1) {
      expect(await confirm(user, what, WRONG)).toMatchObject({
        status: 401,
        body: { code: "invalid_credentials" },
      });
    }

    expect((await login(user)).status).toBe(401);
    expect(await stateOf(user)).toEqual(before);
    expect((await login(user, PASSWORD, ELSEWHERE)).status).toBe(200);
  });

  test("after five wrong ones at the login the right one is refused in the same words", async () => {
    const user = await api.signUp(tenant);
    await fail(user, 4);
    const wrong = await confirm(user, what, WRONG);
    const before = await stateOf(user);

    const right = await confirm(user, what, PASSWORD);

    expect(refusalIn(right)).toEqual(refusalIn(wrong));
    expect(await stateOf(user)).toEqual(before);
  });

  test("four wrong ones leave the right one good, and it sets the count back", async () => {
    const user = await api.signUp(tenant);
    for (let index = 0; index < 4; index += 1) await confirm(user, what, WRONG);

    expect((await confirm(user, what, PASSWORD)).status).not.toBe(401);

    const left = await tenant.sql`
      select 1 from security_logs
       where user_id = ${user.user.id} and action = 'PASSWORD_CONFIRMATION_LOCKED'`;
    expect(left).toEqual([]);
    await fail(user, 4);
    const password = what === "another password" ? "another correct horse" : PASSWORD;
    expect((await login(user, password)).status).toBe(200);
  });
});
