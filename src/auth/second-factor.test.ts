import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  newPhone,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import {
  nextStep,
  type ProtectedUser,
  refusalIn,
  type SecondFactorCalls,
  secondFactorCalls,
  stopClock,
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

const REFUSED = { status: 400, body: { code: "invalid_2fa_code" } };

const sessionsOf = ({ user }: ProtectedUser) =>
  tenant.sql`select id from login_sessions where user_id = ${user.id} order by id`;
const factorOf = ({ user }: ProtectedUser) =>
  tenant.sql`select last_step, sealed_secret from second_factors where user_id = ${user.id}`;
const backupCodesOf = ({ user }: ProtectedUser) =>
  tenant.sql`select id, used_at from backup_codes where user_id = ${user.id} order by id`;
const entriesOf = ({ user }: ProtectedUser, action: string) =>
  tenant.sql`select id from security_logs where user_id = ${user.id} and action = ${action}`;

/** Logs in as far as the code, then enters it. */
const enter = async (user: ProtectedUser, code: string, from?: string): Promise<TestResponse> =>
  calls.verify(await calls.challenge(user, from), code, from);

async function fail(user: ProtectedUser, times: number): Promise<void> {
  for (let index = 0; index < times; index += 1) {
    expect(await enter(user, wrongTotpCode(user.secret))).toMatchObject(REFUSED);
  }
}

/** As if the last wrong code had been so long ago. */
const ageFailures = (minutes: number) => tenant.sql`
  update failures set
    updated_at   = updated_at - make_interval(mins => ${minutes}::int),
    locked_until = locked_until - make_interval(mins => ${minutes}::int)
  where network = '::/0'`;

describe("a code of an authenticator app", () => {
  test.each([
    ["of half a minute ago", -1, 200],
    ["of now", 0, 200],
    ["of half a minute ahead", 1, 200],
    ["of a minute ago", -2, 400],
    ["of a minute ahead", 2, 400],
  ])("%s", async (_, steps, status) => {
    const user = await calls.totpUser();
    // Past the step that turned it on.
    nextStep();
    const before = await sessionsOf(user);

    const response = await enter(user, totpCode(user.secret, steps));

    expect(response.status).toBe(status);
    expect(await sessionsOf(user)).toHaveLength(before.length + (status === 200 ? 1 : 0));
  });

  test("works with the spaces that apps show", async () => {
    const user = await calls.totpUser();
    const code = totpCode(user.secret);

    expect((await enter(user, ` ${code.slice(0, 3)} ${code.slice(3)} `)).status).toBe(200);
  });

  test("of another user is refused", async () => {
    const [mine, theirs] = [await calls.totpUser(), await calls.totpUser()];
    const before = await sessionsOf(mine);

    expect(await enter(mine, totpCode(theirs.secret))).toMatchObject(REFUSED);

    expect(await sessionsOf(mine)).toEqual(before);
    expect((await enter(mine, totpCode(mine.secret))).status).toBe(200);
  });

  test("is accepted once: not for a second login, nor the one before it any more", async () => {
    const user = await calls.totpUser();
    const code = totpCode(user.secret);
    expect((await enter(user, code)).status).toBe(200);
    const before = await sessionsOf(user);

    expect(await enter(user, code)).toMatchObject(REFUSED);
    expect(await enter(user, totpCode(user.secret, -1))).toMatchObject(REFUSED);

    expect(await sessionsOf(user)).toEqual(before);
    nextStep();
    expect((await enter(user, totpCode(user.secret))).status).toBe(200);
  });

  test("of 20 parallel submits over four logins one is accepted", async () => {
    const user = await calls.totpUser();
    const before = await sessionsOf(user);
    const challenges: string[] = [];
    for (let index = 0; index < 4; index += 1) challenges.push(await calls.challenge(user));
    const code = totpCode(user.secret);

    const responses = await Promise.all(
      Array.from({ length: 20 }, (_, index) => calls.verify(challenges[index % 4] ?? "", code)),
    );

    expect(responses.map(({ status }) => status).filter((status) => status === 200)).toHaveLength(
      1,
    );
    for (const { status } of responses) expect([200, 400]).toContain(status);
    expect(await sessionsOf(user)).toHaveLength(before.length + 1);
  });

  test.each([
    ["five digits", "12345"],
    ["seven digits", "1234567"],
    ["letters", "abcdef"],
    ["Arabic digits", "٤٨٢٩١٣"],
    ["full-width digits", "４８２９１３"],
    ["a sign", "-12345"],
    ["an exponent", "1e1000"],
    ["a fragment of SQL", "' or 1"],
    ["a huge text", "1".repeat(10_000)],
    ["a number", 482_913],
    ["a list", ["482913"]],
    ["an object", { code: "482913" }],
    ["nothing", null],
  ])("%s are no code: 400, and no try is counted", async (_, code) => {
    const user = await calls.totpUser();
    const session_id = await calls.challenge(user);
    const failures = await tenant.sql`select * from failures where network = '::/0'`;

    const response = await api
      .client(tenant)
      .post("/api/auth/login-2fa-verify-code/", { session_id, code });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await tenant.sql`select * from failures where network = '::/0'`).toEqual(failures);
    expect((await calls.verify(session_id, totpCode(user.secret))).status).toBe(200);
  });
});

describe("a backup code", () => {
  const enterBackup = async (user: ProtectedUser, code: string) =>
    calls.backup(await calls.challenge(user), code);

  test("logs in once, in any case, with or without dashes, and the owner is told", async () => {
    const user = await calls.totpUser();
    const [first = "", second = ""] = user.backupCodes;

    expect((await enterBackup(user, first)).status).toBe(200);
    expect(await api.nextSms(user.user.primary_mobile)).toMatch(/backup code was used/);
    const before = await sessionsOf(user);
    expect(await enterBackup(user, first)).toMatchObject(REFUSED);
    expect(await sessionsOf(user)).toEqual(before);

    const plain = second.toLowerCase().replaceAll("-", " ");
    expect((await enterBackup(user, plain)).status).toBe(200);
    expect((await backupCodesOf(user)).filter((row) => row["used_at"] !== null)).toHaveLength(2);
  });

  test("of 20 parallel submits one is accepted", async () => {
    const user = await calls.totpUser();
    const before = await sessionsOf(user);
    const challenges: string[] = [];
    for (let index = 0; index < 4; index += 1) challenges.push(await calls.challenge(user));
    const [code = ""] = user.backupCodes;

    const responses = await Promise.all(
      Array.from({ length: 20 }, (_, index) => calls.backup(challenges[index % 4] ?? "", code)),
    );

    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const { status } of responses) expect([200, 400]).toContain(status);
    expect(await sessionsOf(user)).toHaveLength(before.length + 1);
  });

  test("of another user is refused, and stays good for that one", async () => {
    const [mine, theirs] = [await calls.totpUser(), await calls.totpUser()];
    const [code = ""] = theirs.backupCodes;

    expect(await enterBackup(mine, code)).toMatchObject(REFUSED);

    expect((await enterBackup(theirs, code)).status).toBe(200);
  });

  test("is not taken where a code of the app is asked for, and the other way round", async () => {
    const user = await calls.totpUser();
    const session = await calls.challenge(user);
    const [code = ""] = user.backupCodes;

    expect(await calls.verify(session, code)).toMatchObject({ status: 400 });
    expect(await calls.backup(session, totpCode(user.secret))).toMatchObject(REFUSED);

    expect((await backupCodesOf(user)).every((row) => row["used_at"] === null)).toBe(true);
    expect((await calls.backup(session, code)).status).toBe(200);
  });

  test.each([
    ["a wildcard", "%%%%-%%%%-%%%%-%%%%"],
    ["a fragment of SQL", "' or '1'='1"],
    ["a NUL", "\u0000"],
    ["a number", 5],
    ["a list", ["a"]],
    ["a huge text", "A".repeat(10_000)],
  ])("%s is none", async (_, backup_code) => {
    const user = await calls.totpUser();
    const session_id = await calls.challenge(user);

    const response = await api
      .client(tenant)
      .post("/api/auth/login-2fa-verify-backup/", { session_id, backup_code });

    expect(response.status).toBe(400);
    expect((await backupCodesOf(user)).every((row) => row["used_at"] === null)).toBe(true);
  });
});

describe("five wrong codes", () => {
  test("four leave the right one good, and it sets the count back", async () => {
    const user = await calls.totpUser();

    for (let round = 0; round < 2; round += 1) {
      await fail(user, 4);
      expect((await enter(user, totpCode(user.secret))).status).toBe(200);
      nextStep();
    }
  });

  test("after five the right code is refused in the same words, and nothing is used up", async () => {
    const user = await calls.totpUser();
    await fail(user, 4);
    const wrong = await enter(user, wrongTotpCode(user.secret));
    const [sessions, factor] = [await sessionsOf(user), await factorOf(user)];
    const [code = ""] = user.backupCodes;

    const session = await calls.challenge(user);
    const right = await calls.verify(session, totpCode(user.secret));
    const backup = await calls.backup(session, code);

    expect(refusalIn(right)).toEqual(refusalIn(wrong));
    expect(refusalIn(backup)).toMatchObject({ status: 400, code: "invalid_2fa_code" });
    expect(await sessionsOf(user)).toEqual(sessions);
    expect(await factorOf(user)).toEqual(factor);
    expect((await backupCodesOf(user)).every((row) => row["used_at"] === null)).toBe(true);
    expect(await entriesOf(user, "SECOND_FACTOR_FAILED")).toHaveLength(5);
    expect(await entriesOf(user, "SECOND_FACTOR_LOCKED")).toHaveLength(2);

    await ageFailures(30);
    expect((await calls.verify(session, totpCode(user.secret))).status).toBe(200);
  });

  test("count whatever they are tried on: the app, backup codes, settings, over logins and networks", async () => {
    const user = await calls.totpUser();
    const wrong = wrongTotpCode(user.secret);
    await enter(user, wrong, "192.0.2.1");
    await enter(user, wrong, "198.51.100.2");
    await calls.backup(await calls.challenge(user, "2001:db8::1"), "AAAA-AAAA-AAAA-AAAA");
    await calls.disable(user, wrong);
    const before = await sessionsOf(user);

    expect(await enter(user, wrong, "203.0.113.3")).toMatchObject(REFUSED);

    expect(await enter(user, totpCode(user.secret), "203.0.113.4")).toMatchObject(REFUSED);
    expect(await sessionsOf(user)).toEqual(before);
    expect(await calls.disable(user, totpCode(user.secret))).toMatchObject(REFUSED);
    expect(await tenant.sql`select two_fa_type from users where id = ${user.user.id}`).toEqual([
      { two_fa_type: "totp" },
    ]);
  });

  test("of 20 parallel wrong codes five are looked at, and the owner is told once", async () => {
    const user = await calls.totpUser();
    const challenges = [await calls.challenge(user), await calls.challenge(user)];
    const wrong = wrongTotpCode(user.secret);

    await Promise.all(
      Array.from({ length: 20 }, (_, index) => calls.verify(challenges[index % 2] ?? "", wrong)),
    );

    expect(await entriesOf(user, "SECOND_FACTOR_FAILED")).toHaveLength(5);
    expect(await entriesOf(user, "SECOND_FACTOR_LOCKED")).toHaveLength(15);
    const phone = user.user.primary_mobile;
    expect(await api.nextSms(phone)).toMatch(/wrong security codes/);
    await expect.poll(() => tenant.sql`select id from messages`).toEqual([]);
    const told = ((await api.services.outbox?.list()) ?? []).filter(
      ({ to, body }) => to === phone && /wrong security codes/.test(body),
    );
    expect(told).toHaveLength(1);
  });

  test("of one user do not lock another, nor the password", async () => {
    const [mine, theirs] = [await calls.totpUser(), await calls.totpUser()];
    await fail(mine, 6);

    expect((await enter(theirs, totpCode(theirs.secret))).status).toBe(200);
    expect(await calls.logIn(mine)).toMatchObject({ status: 200, body: { requires_2fa: true } });
  });

  test("a password reset forgets them", async () => {
    const user = await calls.totpUser();
    await fail(user, 5);
    const post = (path: string, body: object) =>
      api.client(tenant).post(`/api/auth/password/${path}/`, body);
    const phone = user.user.primary_mobile;
    await api.nextSms(phone);
    await post("forgot", { identifier: user.user.username });
    const password = `${PASSWORD} ${newPhone()}`;
    await post("reset", { token: tokenIn(await api.nextSms(phone)), password });

    const again = { ...user, password };
    expect((await enter(again, totpCode(user.secret))).status).toBe(200);
  });
});
