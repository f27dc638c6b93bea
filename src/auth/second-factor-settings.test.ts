import { Secret, TOTP, URI } from "otpauth";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  codeIn,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";
import {
  nextStep,
  type SecondFactorCalls,
  secondFactorCalls,
  stopClock,
  tokensIn,
  totpCode,
  wrongTotpCode,
} from "../../test/second-factor.ts";
import { BackupCodesAnswer, EnableSecondFactorAnswer } from "./schemas.ts";

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

const WRONG_CODE = { status: 400, body: { code: "invalid_2fa_code" } };
const WRONG_PASSWORD = { status: 401, body: { code: "invalid_credentials" } };
const CONFLICT = { status: 409, body: { code: "conflict" } };

/** Everything that says how a user's second factor stands. */
const stateOf = async ({ user }: SignedUpUser) => ({
  users: await tenant.sql`select two_fa_type from users where id = ${user.id}`,
  factors: await tenant.sql`select * from second_factors where user_id = ${user.id}`,
  codes: await tenant.sql`select * from backup_codes where user_id = ${user.id} order by id`,
});

async function begin(user: SignedUpUser): Promise<{ secret: string; backupCodes: string[] }> {
  const answer = EnableSecondFactorAnswer.parse((await calls.enable(user, "totp")).body);
  return { secret: answer.secret ?? "", backupCodes: answer.backup_codes };
}

describe("POST /api/auth/settings_enable-2fa/", () => {
  test("gives the secret, the URI that apps read, and ten backup codes", async () => {
    const user = await api.signUp(tenant);

    const response = await calls.enable(user, "totp");

    const { secret, qr_code, backup_codes } = EnableSecondFactorAnswer.parse(response.body);
    expect(response).toMatchObject({ status: 200, body: { method: "totp", confirmed: false } });
    expect(Secret.fromBase32(secret ?? "").bytes).toHaveLength(20);
    const totp = URI.parse(qr_code ?? "");
    expect(totp).toBeInstanceOf(TOTP);
    expect(totp).toMatchObject({
      issuer: tenant.subdomain,
      label: user.user.email,
      algorithm: "SHA1",
      digits: 6,
      period: 30,
    });
    expect(totp.secret.base32).toBe(secret);
    expect(backup_codes).toHaveLength(10);
    expect(new Set(backup_codes).size).toBe(10);
    // 24 characters of base32 are 120 bits.
    for (const code of backup_codes) expect(code).toMatch(/^([A-Z2-7]{4}-){5}[A-Z2-7]{4}$/);
  });

  test("changes nothing about the login until it is confirmed", async () => {
    const user = await api.signUp(tenant);

    await begin(user);

    expect(await calls.logIn(user)).toHaveProperty(["body", "tokens"]);
    const profile = await api.client(tenant).get("/api/account/profile/", { token: user.access });
    expect(profile).toMatchObject({ body: { is_2fa_enabled: false, two_fa_type: null } });
  });

  test("needs the right password", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);

    expect(await calls.enable(user, "totp", "a wrong one")).toMatchObject(WRONG_PASSWORD);
    expect(await stateOf(user)).toEqual(before);

    expect((await calls.enable(user, "totp")).status).toBe(200);
  });

  test("needs a login", async () => {
    const response = await api
      .client(tenant)
      .post("/api/auth/settings_enable-2fa/", { method: "totp", password: "x" });

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
  });

  test("while it is on: 409, and the codes stay", async () => {
    const user = await calls.totpUser();
    const before = await stateOf(user);

    for (const method of ["totp", "sms"] as const) {
      expect(await calls.enable(user, method)).toMatchObject(CONFLICT);
    }

    expect(await stateOf(user)).toEqual(before);
    const session = await calls.challenge(user);
    expect((await calls.verify(session, totpCode(user.secret))).status).toBe(200);
  });

  test("begun again replaces what was begun", async () => {
    const user = await api.signUp(tenant);
    const first = await begin(user);
    const second = await begin(user);

    expect(await calls.confirm(user, totpCode(first.secret))).toMatchObject(WRONG_CODE);
    expect((await calls.confirm(user, totpCode(second.secret))).status).toBe(200);

    const session = await calls.challenge(user);
    expect(await calls.backup(session, first.backupCodes[0] ?? "")).toMatchObject(WRONG_CODE);
    expect((await calls.backup(session, second.backupCodes[0] ?? "")).status).toBe(200);
  });

  test("keeps the secret encrypted and the backup codes hashed", async () => {
    const user = await api.signUp(tenant);
    const { secret, backupCodes } = await begin(user);

    const rows = await tenant.sql<{ text: string }[]>`
      select f::text || encode(sealed_secret, 'escape') as text
        from second_factors f where user_id = ${user.user.id}
      union all
      select c::text from backup_codes c where user_id = ${user.user.id}`;

    const raw = Buffer.from(Secret.fromBase32(secret).bytes);
    const plain = backupCodes.flatMap((code) => [code, code.replaceAll("-", "")]);
    const secrets = [secret, ...plain].flatMap((text) => [text, Buffer.from(text).toString("hex")]);
    expect(rows).toHaveLength(11);
    for (const { text } of rows) {
      for (const hidden of [...secrets, raw.toString("hex")]) expect(text).not.toContain(hidden);
    }
    for (const hidden of secrets) expect(api.logLines.join("")).not.toContain(hidden);
  });

  test.each([
    ["another method", { method: "email" }],
    ["no method", { method: undefined }],
    ["a password of another type", { password: ["x"] }],
    ["a field that is unknown", { secret: "JBSWY3DPEHPK3PXP" }],
  ])("%s: 400, and nothing is written", async (_, change) => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user);
    const body = { method: "totp", password: user.password, ...change };

    const response = await api
      .client(tenant)
      .post("/api/auth/settings_enable-2fa/", body, { token: user.access });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await stateOf(user)).toEqual(before);
  });
});

describe("POST /api/auth/settings_confirm-2fa/", () => {
  test("with the first code of the app turns it on, and the user is told", async () => {
    const user = await api.signUp(tenant);
    const { secret } = await begin(user);

    expect(await calls.confirm(user, totpCode(secret))).toMatchObject({ status: 200 });

    const profile = await api.client(tenant).get("/api/account/profile/", { token: user.access });
    expect(profile).toMatchObject({ body: { is_2fa_enabled: true, two_fa_type: "totp" } });
    expect(await api.nextSms(user.user.primary_mobile)).toMatch(/turned on/);
  });

  test("a wrong code turns nothing on, and the right one still does", async () => {
    const user = await api.signUp(tenant);
    const { secret } = await begin(user);
    const before = await stateOf(user);

    expect(await calls.confirm(user, wrongTotpCode(secret))).toMatchObject(WRONG_CODE);
    expect(await stateOf(user)).toEqual(before);

    expect((await calls.confirm(user, totpCode(secret))).status).toBe(200);
  });

  test("a backup code does not confirm: it does not show that the app works", async () => {
    const user = await api.signUp(tenant);
    const { backupCodes } = await begin(user);
    const before = await stateOf(user);

    expect(await calls.confirm(user, backupCodes[0] ?? "")).toMatchObject({ status: 400 });

    expect(await stateOf(user)).toEqual(before);
  });

  test("nothing begun, or already on: 409", async () => {
    const user = await api.signUp(tenant);
    expect(await calls.confirm(user, "482913")).toMatchObject(CONFLICT);

    const on = await calls.totpUser();
    expect(await calls.confirm(on, totpCode(on.secret))).toMatchObject(CONFLICT);
  });

  test("the code that confirmed does not log in; the next one does", async () => {
    const user = await api.signUp(tenant);
    const { secret } = await begin(user);
    await calls.confirm(user, totpCode(secret));
    const session = await calls.challenge(user);

    expect(await calls.verify(session, totpCode(secret))).toMatchObject(WRONG_CODE);
    nextStep();
    expect((await calls.verify(session, totpCode(secret))).status).toBe(200);
  });

  test("five wrong codes lock, also over enabling again; the right one is refused then", async () => {
    const user = await api.signUp(tenant);
    for (let index = 0; index < 5; index += 1) {
      const { secret } = await begin(user);
      await calls.confirm(user, wrongTotpCode(secret));
    }
    const { secret } = await begin(user);
    const before = await stateOf(user);

    expect(await calls.confirm(user, totpCode(secret))).toMatchObject(WRONG_CODE);

    expect(await stateOf(user)).toEqual(before);
  });
});

describe("POST /api/auth/settings_disable-2fa/", () => {
  test("with password and code turns it off: the next login needs no code, and the user is told", async () => {
    const user = await calls.totpUser();

    expect(await calls.disable(user, totpCode(user.secret))).toMatchObject({ status: 200 });

    expect(await api.nextSms(user.user.primary_mobile)).toMatch(/turned off/);
    expect(await stateOf(user)).toEqual({ users: [{ two_fa_type: null }], factors: [], codes: [] });
    expect(await calls.logIn(user)).toHaveProperty(["body", "tokens"]);
  });

  test("with a backup code instead, in any spelling", async () => {
    const user = await calls.totpUser();
    const [code = ""] = user.backupCodes;

    expect((await calls.disable(user, code.replaceAll("-", "").toLowerCase())).status).toBe(200);
  });

  test("with the spaces that apps show in a code", async () => {
    const user = await calls.totpUser();
    const code = totpCode(user.secret);

    expect((await calls.disable(user, `${code.slice(0, 3)} ${code.slice(3)}`)).status).toBe(200);
  });

  test.each([
    ["a wrong password", "a wrong one", true, WRONG_PASSWORD],
    ["a wrong code", undefined, false, WRONG_CODE],
  ])("with %s it stays on", async (_, password, isCodeRight, refusal) => {
    const user = await calls.totpUser();
    const before = await stateOf(user);
    const code = isCodeRight ? totpCode(user.secret) : wrongTotpCode(user.secret);

    expect(await calls.disable(user, code, password)).toMatchObject(refusal);

    expect(await stateOf(user)).toEqual(before);
    expect((await calls.disable(user, totpCode(user.secret))).status).toBe(200);
  });

  test("not with the code that just logged in", async () => {
    const user = await calls.totpUser();
    const session = await calls.challenge(user);
    const { access } = tokensIn(await calls.verify(session, totpCode(user.secret)));
    const before = await stateOf(user);

    expect(await calls.disable({ ...user, access }, totpCode(user.secret))).toMatchObject(
      WRONG_CODE,
    );

    expect(await stateOf(user)).toEqual(before);
  });

  test.each([
    ["Arabic digits", "٤٨٢٩١٣"],
    ["letters of two bytes", "éééééé"],
    ["signs of two UTF-16 units", "🙂🙂🙂"],
    ["a NUL", "\u0000"],
    ["a fragment of SQL", "' or '1'='1"],
  ])("%s as the code are a wrong code, and counted", async (_, code) => {
    const user = await calls.totpUser();
    const before = await stateOf(user);

    for (let index = 0; index < 5; index += 1) {
      expect(await calls.disable(user, code)).toMatchObject(WRONG_CODE);
    }

    expect(await calls.disable(user, totpCode(user.secret))).toMatchObject(WRONG_CODE);
    expect(await stateOf(user)).toEqual(before);
  });

  test("while it is off, or only begun: 409", async () => {
    const user = await api.signUp(tenant);
    expect(await calls.disable(user, "482913")).toMatchObject(CONFLICT);
    const { secret } = await begin(user);
    expect(await calls.disable(user, totpCode(secret))).toMatchObject(CONFLICT);
  });

  test("of 20 parallel calls with one code one turns it off", async () => {
    const user = await calls.totpUser();
    const code = totpCode(user.secret);

    const responses = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        // One network each: the password is not what this is about.
        calls.disable(user, code, undefined, { remoteAddress: `192.0.2.${index + 1}` }),
      ),
    );

    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const { status } of responses) expect([200, 400, 409]).toContain(status);
  });

  test("beside logins on their way: none waits for what another holds", async () => {
    for (let round = 0; round < 5; round += 1) {
      const user = await calls.totpUser();
      const sessions = await Promise.all([calls.challenge(user), calls.challenge(user)]);

      const responses = await Promise.all([
        calls.verify(sessions[0], wrongTotpCode(user.secret)),
        calls.disable(user, user.backupCodes[0] ?? ""),
        calls.backup(sessions[0], user.backupCodes[1] ?? ""),
        calls.backup(sessions[1], user.backupCodes[2] ?? ""),
      ]);

      for (const { status } of responses) expect([200, 400]).toContain(status);
    }
  });
});

describe("POST /api/auth/settings_backup-codes/", () => {
  test("gives ten new ones; the older ones die, and the user is told", async () => {
    const user = await calls.totpUser();

    const response = await calls.reissue(user);

    const codes = BackupCodesAnswer.parse(response.body).backup_codes;
    expect(codes).toHaveLength(10);
    expect(codes.filter((code) => user.backupCodes.includes(code))).toEqual([]);
    expect(await api.nextSms(user.user.primary_mobile)).toMatch(/New backup codes/);
    const session = await calls.challenge(user);
    expect(await calls.backup(session, user.backupCodes[0] ?? "")).toMatchObject(WRONG_CODE);
    expect((await calls.backup(session, codes[0] ?? "")).status).toBe(200);
  });

  test("with a wrong password the older ones stay", async () => {
    const user = await calls.totpUser();
    const before = await stateOf(user);

    expect(await calls.reissue(user, "a wrong one")).toMatchObject(WRONG_PASSWORD);

    expect(await stateOf(user)).toEqual(before);
  });

  test("while it is off, or only begun: 409", async () => {
    const user = await api.signUp(tenant);
    expect(await calls.reissue(user)).toMatchObject(CONFLICT);
    await begin(user);
    const before = await stateOf(user);

    expect(await calls.reissue(user)).toMatchObject(CONFLICT);
    expect(await stateOf(user)).toEqual(before);
  });
});

describe("POST /api/auth/settings_send-2fa-code/", () => {
  test("sends a code that turns codes by SMS off; the one before it does not", async () => {
    const user = await calls.smsUser();
    const phone = user.user.primary_mobile;
    await calls.sendCode(user);
    const first = codeIn(await api.nextSms(phone));
    await calls.sendCode(user);
    const second = codeIn(await api.nextSms(phone));
    const before = await stateOf(user);

    expect(await calls.disable(user, first)).toMatchObject(WRONG_CODE);
    expect(await stateOf(user)).toEqual(before);
    expect((await calls.disable(user, second)).status).toBe(200);
  });

  test("a wrong code, or one older than 10 minutes, does not", async () => {
    const user = await calls.smsUser();
    await calls.sendCode(user);
    const code = codeIn(await api.nextSms(user.user.primary_mobile));
    expect(await calls.disable(user, wrongCode(code))).toMatchObject(WRONG_CODE);
    await tenant.sql`
      update second_factors set code_expires_at = now() - interval '1 second'
       where user_id = ${user.user.id}`;

    expect(await calls.disable(user, code)).toMatchObject(WRONG_CODE);

    expect(await stateOf(user)).toMatchObject({ users: [{ two_fa_type: "sms" }] });
  });

  test("sends nothing to users of an app, nor while it is off: 409", async () => {
    expect(await calls.sendCode(await calls.totpUser())).toMatchObject(CONFLICT);
    expect(await calls.sendCode(await api.signUp(tenant))).toMatchObject(CONFLICT);
  });
});
