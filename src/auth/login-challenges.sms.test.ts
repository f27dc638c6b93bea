import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  codeIn,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";
import {
  type SecondFactorCalls,
  secondFactorCalls,
  sessionIdIn,
} from "../../test/second-factor.ts";
import { EnableSecondFactorAnswer } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;
let calls: SecondFactorCalls;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  calls = secondFactorCalls(api, tenant);
});
afterAll(() => api.close());

const WRONG_CODE = { status: 400, body: { code: "invalid_2fa_code" } };

const sessionsOf = ({ user }: SignedUpUser) =>
  tenant.sql`select id from login_sessions where user_id = ${user.id} order by id`;
const nextCode = async ({ user }: SignedUpUser) => codeIn(await api.nextSms(user.primary_mobile));

/** The second step of a login, with the code that was sent for it. */
async function begin(user: SignedUpUser): Promise<{ session: string; code: string }> {
  return { session: await calls.challenge(user), code: await nextCode(user) };
}

describe("turning codes by SMS on", () => {
  test("sends a code and gives no secret; the code confirms", async () => {
    const user = await api.signUp(tenant);

    const answer = EnableSecondFactorAnswer.parse((await calls.enable(user, "sms")).body);

    expect(answer).toMatchObject({ method: "sms", secret: null, qr_code: null, confirmed: false });
    expect(answer.backup_codes).toHaveLength(10);
    const code = await nextCode(user);
    expect(JSON.stringify(answer)).not.toContain(code);
    expect(await calls.confirm(user, wrongCode(code))).toMatchObject(WRONG_CODE);
    expect(await calls.logIn(user)).toHaveProperty(["body", "tokens"]);
    expect((await calls.confirm(user, code)).status).toBe(200);
    expect(await calls.logIn(user)).toMatchObject({
      body: { requires_2fa: true, method: "sms" },
    });
  });

  test("the code can be sent again; the older one does not confirm any more", async () => {
    const user = await api.signUp(tenant);
    await calls.enable(user, "sms");
    const first = await nextCode(user);

    expect((await calls.sendCode(user)).status).toBe(200);

    const second = await nextCode(user);
    expect(await calls.confirm(user, first)).toMatchObject(WRONG_CODE);
    expect((await calls.confirm(user, second)).status).toBe(200);
  });

  test("a code older than 10 minutes does not confirm", async () => {
    const user = await api.signUp(tenant);
    await calls.enable(user, "sms");
    const code = await nextCode(user);
    const [row] = await tenant.sql`
      update second_factors set code_expires_at = code_expires_at - interval '10 minutes'
       where user_id = ${user.user.id}
      returning round(extract(epoch from code_expires_at + interval '10 minutes' - now()) / 60)::int as minutes`;
    expect(row).toEqual({ minutes: 10 });

    expect(await calls.confirm(user, code)).toMatchObject(WRONG_CODE);

    const [after] = await tenant.sql`select two_fa_type from users where id = ${user.user.id}`;
    expect(after).toEqual({ two_fa_type: null });
  });
});

describe("a login with a code by SMS", () => {
  test("the code of the SMS finishes it; the answer before had none", async () => {
    const user = await calls.smsUser();

    const response = await calls.logIn(user);

    expect(response.body).toEqual({
      requires_2fa: true,
      session_id: expect.any(String),
      method: "sms",
    });
    const code = await nextCode(user);
    expect(JSON.stringify([response.body, response.headers])).not.toContain(code);
    expect((await calls.verify(sessionIdIn(response), code)).status).toBe(200);
  });

  test("a backup code finishes it too", async () => {
    const user = await calls.smsUser();
    const { session } = await begin(user);

    expect((await calls.backup(session, user.backupCodes[0] ?? "")).status).toBe(200);
  });

  test("the code is kept hashed", async () => {
    const user = await calls.smsUser();
    const { code } = await begin(user);

    const [row] = await tenant.sql<{ text: string; bytes: number }[]>`
      select encode(code_hash, 'escape') || encode(code_hash, 'hex') as text,
             length(code_hash) as bytes
        from login_challenges where user_id = ${user.user.id}`;

    expect(row?.bytes).toBe(32);
    expect(row?.text).not.toContain(code);
    expect(row?.text).not.toContain(Buffer.from(code).toString("hex"));
  });

  test("a code is good for its own login only", async () => {
    const user = await calls.smsUser();
    const [first, second] = [await begin(user), await begin(user)];
    const before = await sessionsOf(user);

    expect(await calls.verify(first.session, second.code)).toMatchObject(WRONG_CODE);
    expect(await sessionsOf(user)).toEqual(before);
    expect((await calls.verify(first.session, first.code)).status).toBe(200);
  });

  test("is not finished with a code that was sent for the settings", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    await calls.sendCode(user);
    const settings = await nextCode(user);

    expect(await calls.verify(session, settings)).toMatchObject(WRONG_CODE);
    expect((await calls.verify(session, code)).status).toBe(200);
  });

  test("of 20 parallel submits one is accepted", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    const before = await sessionsOf(user);

    const responses = await Promise.all(
      Array.from({ length: 20 }, () => calls.verify(session, code)),
    );

    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const { status } of responses) expect([200, 400]).toContain(status);
    expect(await sessionsOf(user)).toHaveLength(before.length + 1);
  });

  test("a code is good for 10 minutes, also when the login would still wait", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    const [row] = await tenant.sql`
      select round(extract(epoch from code_expires_at - now()) / 60)::int as minutes
        from login_challenges where user_id = ${user.user.id}`;
    expect(row).toEqual({ minutes: 10 });
    const before = await sessionsOf(user);
    await tenant.sql`
      update login_challenges set code_expires_at = now() - interval '1 second'
       where user_id = ${user.user.id}`;

    expect(await calls.verify(session, code)).toMatchObject(WRONG_CODE);

    expect(await sessionsOf(user)).toEqual(before);
  });

  test("five wrong codes lock: the right one and a resent one are refused, nothing is used up", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    for (let index = 0; index < 5; index += 1) {
      expect(await calls.verify(session, wrongCode(code))).toMatchObject(WRONG_CODE);
    }
    const before = await sessionsOf(user);

    expect(await calls.verify(session, code)).toMatchObject(WRONG_CODE);
    expect(await calls.backup(session, user.backupCodes[0] ?? "")).toMatchObject(WRONG_CODE);
    const next = await calls.challenge(user);

    // What told the owner of the wrong codes, then the code of the next login.
    expect(await api.nextSms(user.user.primary_mobile)).toMatch(/wrong security codes/);
    expect(await calls.verify(next, await nextCode(user))).toMatchObject(WRONG_CODE);
    expect(await sessionsOf(user)).toEqual(before);
    const used = await tenant.sql`
      select id from backup_codes where user_id = ${user.user.id} and used_at is not null`;
    expect(used).toEqual([]);

    await tenant.sql`
      update failures set
        updated_at = updated_at - interval '30 minutes',
        locked_until = locked_until - interval '30 minutes'`;
    expect((await calls.verify(session, code)).status).toBe(200);
  });
});

describe("POST /api/auth/login-2fa-resend/", () => {
  test("sends another code; the older one is dead", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);

    expect(await calls.resend(session)).toMatchObject({ status: 200 });

    const next = await nextCode(user);
    const before = await sessionsOf(user);
    expect(await calls.verify(session, code)).toMatchObject(WRONG_CODE);
    expect(await sessionsOf(user)).toEqual(before);
    expect((await calls.verify(session, next)).status).toBe(200);
  });

  test("wrong codes stay counted", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    for (let index = 0; index < 4; index += 1) await calls.verify(session, wrongCode(code));
    await calls.resend(session);
    const next = await nextCode(user);
    await calls.verify(session, wrongCode(next));
    const before = await sessionsOf(user);

    expect(await calls.verify(session, next)).toMatchObject(WRONG_CODE);

    expect(await sessionsOf(user)).toEqual(before);
  });

  test("does not make the second step longer", async () => {
    const user = await calls.smsUser();
    const { session } = await begin(user);
    const expiry = () =>
      tenant.sql`select expires_at from login_challenges where user_id = ${user.user.id}`;
    const before = await expiry();

    await calls.resend(session);

    expect(await expiry()).toEqual(before);
  });

  test("of an unknown or finished login sends nothing: invalid_token", async () => {
    const user = await calls.smsUser();
    const { session, code } = await begin(user);
    await calls.verify(session, code);
    const sent = async () =>
      (await tenant.sql`select id from security_logs where action = 'SECOND_FACTOR_SENT'`).length;
    const before = await sent();

    for (const id of [session, "A".repeat(43)]) {
      expect(await calls.resend(id)).toMatchObject({
        status: 400,
        body: { code: "invalid_token" },
      });
    }

    expect(await sent()).toBe(before);
  });
});
