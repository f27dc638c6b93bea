import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  codeIn,
  newEmail,
  newPhone,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";
import { VerifyOtpAnswer } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const post = (path: string, body: object) => api.client(tenant).post(`/api/auth/${path}/`, body);
const signup = (phone: string, name = "Ada Lovelace") =>
  post("signup", { full_name: name, primary_mobile: phone });
const verify = (phone: string, otp: string) => post("verify-otp", { primary_mobile: phone, otp });

/** A number that has been sent a code. */
async function begin(): Promise<{ phone: string; code: string }> {
  const phone = newPhone();
  await signup(phone);
  return { phone, code: codeIn(await api.nextSms(phone)) };
}

const usersOf = (phone: string) => tenant.sql`select id from users where primary_mobile = ${phone}`;
const signupOf = (phone: string) =>
  tenant.sql`select * from signups where primary_mobile = ${phone}`;

describe("POST /api/auth/signup/", () => {
  test("sends a code and answers 201 with the number in E.164", async () => {
    const phone = newPhone();
    const spaced = `${phone.slice(0, 3)} ${phone.slice(3, 6)} ${phone.slice(6)}`;

    const response = await signup(spaced);

    expect(response).toMatchObject({ status: 201, body: { primary_mobile: phone } });
    expect(await api.nextSms(phone)).toMatch(/^\d{6} is your sign-up code/);
    expect(await usersOf(phone)).toEqual([]);
  });

  test("a number with an account gets the same answer, an SMS that says so, and no code works", async () => {
    const { user } = await api.signUp(tenant);
    const unknown = newPhone();

    const known = await signup(user.primary_mobile);
    const other = await signup(unknown);

    expect(known.status).toBe(other.status);
    expect(JSON.stringify(known.body).replace(user.primary_mobile, unknown)).toBe(
      JSON.stringify(other.body),
    );
    const sms = await api.nextSms(user.primary_mobile);
    expect(sms).toMatch(/has an account/);
    expect(sms).not.toMatch(/\d{6}/);
    const code = codeIn(await api.nextSms(unknown));
    expect(await verify(user.primary_mobile, code)).toMatchObject({
      status: 400,
      body: { code: "invalid_otp" },
    });
    expect(await signupOf(user.primary_mobile)).toMatchObject([
      { otp_hash: null, verification_token_hash: null },
    ]);
  });

  test.each([
    ["a national number", "0100 123 4567"],
    ["a number that no plan has", "+1555"],
    ["letters", "+20100abc4567"],
    ["nothing", ""],
  ])("refuses %s, and nothing is written or sent", async (_, phone) => {
    const before = await tenant.sql`select count(*) from signups`;

    const response = await signup(phone);

    expect(response).toMatchObject({
      status: 400,
      body: {
        code: "validation_error",
        errors: { primary_mobile: ["Enter a phone number in international format."] },
      },
    });
    expect(await tenant.sql`select count(*) from signups`).toEqual(before);
  });

  test.each([
    ["empty", " ", false],
    ["of a control character", "Ada\u0007", false],
    ["of half a character", "Ada \ud83d", false],
    ["of 201 characters", "a".repeat(201), false],
    ["of 200 characters", "a".repeat(200), true],
    ["of another script", "عائشة 🙂", true],
  ])("a name that is %s", async (_, name, isAccepted) => {
    const phone = newPhone();

    const response = await signup(phone, name);

    expect(response.status).toBe(isAccepted ? 201 : 400);
    expect(await signupOf(phone)).toHaveLength(isAccepted ? 1 : 0);
  });

  test("the code is kept hashed, and its message encrypted until it is sent", async () => {
    const stopped = await startTestApp();
    try {
      const own = await stopped.createTenant();
      await stopped.services.messages?.stop();
      const phone = newPhone();

      await stopped
        .client(own)
        .post("/api/auth/signup/", { full_name: "Ada", primary_mobile: phone });

      const rows = await own.sql<{ text: string; sealed: Uint8Array; channel: string }[]>`
        select channel, sealed, encode(sealed, 'escape') as text from messages`;
      expect(rows).toMatchObject([{ channel: "sms" }]);
      expect(rows[0]?.text).not.toContain(phone);
      expect(rows[0]?.text).not.toContain("sign-up code");
      const message = stopped.services.keys.open(
        rows[0]?.sealed ?? Buffer.of(),
        `message of tenant ${own.id}`,
      );
      const code = codeIn(message);
      const [row] = await own.sql`select signups::text as text from signups`;
      expect(row?.["text"]).not.toContain(code);
      expect(row?.["text"]).not.toContain(Buffer.from(code).toString("hex"));
    } finally {
      await stopped.close();
    }
  });

  test("the message is deleted once it is sent", async () => {
    await begin();

    await expect.poll(() => tenant.sql`select id from messages`).toEqual([]);
  });
});

describe("POST /api/auth/verify-otp/", () => {
  test("the right code is answered with a proof for 15 minutes, once", async () => {
    const { phone, code } = await begin();

    const response = await verify(phone, code);

    expect(response).toMatchObject({ status: 200, body: { primary_mobile: phone } });
    const [row] = await tenant.sql`
      select extract(epoch from verification_expires_at - now())::float / 60 as minutes
        from signups where primary_mobile = ${phone}`;
    expect(row?.["minutes"]).toBeCloseTo(15, 0);
    expect(await verify(phone, code)).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
  });

  test("of 20 parallel tries with the right code exactly one succeeds", async () => {
    const { phone, code } = await begin();

    const responses = await Promise.all(Array.from({ length: 20 }, () => verify(phone, code)));

    const refused = responses.filter(({ status }) => status !== 200);
    expect(refused).toHaveLength(19);
    for (const { body } of refused)
      expect(body).toMatchObject({ status: 400, code: "invalid_otp" });
  });

  test("two wrong codes leave the right one good", async () => {
    const { phone, code } = await begin();
    for (let index = 0; index < 2; index += 1) await verify(phone, wrongCode(code));

    expect(await verify(phone, code)).toMatchObject({ status: 200 });
  });

  test("three wrong codes block the number for their network, for 15 minutes", async () => {
    const { phone, code } = await begin();
    for (let index = 0; index < 3; index += 1) {
      expect(await verify(phone, wrongCode(code))).toMatchObject({ body: { code: "invalid_otp" } });
    }

    expect(await verify(phone, code)).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
    expect(await signupOf(phone)).toMatchObject([{ verification_token_hash: null }]);
    const locks = await tenant.sql`
      select round(extract(epoch from locked_until - now()) / 60)::int as minutes
        from failures where network = '127.0.0.1/32' and locked_until > now()
       order by updated_at desc limit 1`;
    expect(locks).toEqual([{ minutes: 15 }]);

    // Asking again changes nothing while it is blocked: the answer is the same, no code goes out.
    const asked = await signup(phone);
    expect(asked.status).toBe(201);
    expect(await signupOf(phone)).toMatchObject([{ otp_hash: null }]);

    await tenant.sql`
      update failures set locked_until = now() - interval '1 second'
       where network = '127.0.0.1/32' and locked_until > now()`;
    expect(await verify(phone, code)).toMatchObject({ status: 400 });
    await signup(phone);
    const next = codeIn(await api.nextSms(phone));
    expect(await verify(phone, next)).toMatchObject({ status: 200 });
  });

  test("of 20 parallel wrong codes three count, and the right one does not work after them", async () => {
    const { phone, code } = await begin();

    await Promise.all(Array.from({ length: 20 }, () => verify(phone, wrongCode(code))));

    const failed = await tenant.sql`
      select id from security_logs
       where action = 'OTP_FAILED' and user_display like ${`%${phone.slice(-2)}`}
         and created_at > now() - interval '1 minute'
         and id > (select max(id) from security_logs where action = 'SIGNUP_REQUESTED')`;
    expect(failed).toHaveLength(3);
    expect(await verify(phone, code)).toMatchObject({ status: 400 });
  });

  test("wrong tries count on over a code that was sent again", async () => {
    const { phone, code } = await begin();
    await verify(phone, wrongCode(code));
    await verify(phone, wrongCode(code));
    await post("resent-otp", { primary_mobile: phone });
    const next = codeIn(await api.nextSms(phone));
    await verify(phone, wrongCode(next));

    expect(await verify(phone, next)).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
  });

  test("a code older than 10 minutes is told to have expired", async () => {
    const { phone, code } = await begin();
    const [row] = await tenant.sql`
      select round(extract(epoch from otp_expires_at - now()) / 60)::int as minutes
        from signups where primary_mobile = ${phone}`;
    expect(row).toEqual({ minutes: 10 });
    await tenant.sql`
      update signups set otp_expires_at = now() - interval '1 second' where primary_mobile = ${phone}`;

    const response = await verify(phone, code);

    expect(response).toMatchObject({ status: 400, body: { code: "otp_expired" } });
    expect(await signupOf(phone)).toMatchObject([{ verification_token_hash: null }]);
  });

  test("somebody else's code does not work, nor one for a number that never signed up", async () => {
    const mine = await begin();
    const theirs = await begin();
    if (mine.code === theirs.code) return;

    expect(await verify(mine.phone, theirs.code)).toMatchObject({ body: { code: "invalid_otp" } });
    expect(await verify(newPhone(), mine.code)).toMatchObject({ body: { code: "invalid_otp" } });
    expect(await signupOf(mine.phone)).toMatchObject([{ verification_token_hash: null }]);
  });

  test("a code of one tenant does not work in another", async () => {
    const { phone, code } = await begin();
    const other = await api.createTenant();

    const response = await api
      .client(other)
      .post("/api/auth/verify-otp/", { primary_mobile: phone, otp: code });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
    expect(await other.sql`select primary_mobile from signups`).toEqual([]);
  });
});

describe("POST /api/auth/resent-otp/", () => {
  test("the newer code works and the older one does not", async () => {
    const { phone, code } = await begin();

    const response = await post("resent-otp", { primary_mobile: phone });

    expect(response).toMatchObject({ status: 200 });
    const next = codeIn(await api.nextSms(phone));
    expect(await verify(phone, code)).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
    expect(await verify(phone, next)).toMatchObject({ status: 200 });
  });

  test("a number that never signed up gets the same answer and nothing is written", async () => {
    const { phone } = await begin();
    const stranger = newPhone();

    const known = await post("resent-otp", { primary_mobile: phone });
    const unknown = await post("resent-otp", { primary_mobile: stranger });

    expect(unknown.body).toEqual(known.body);
    expect(await signupOf(stranger)).toEqual([]);
  });
});

describe("the log of a sign-up", () => {
  test("no line has a code, a token, a password, a number or an address", async () => {
    const { phone, code } = await begin();
    const answer = VerifyOtpAnswer.parse((await verify(phone, code)).body);
    const email = newEmail();
    const finished = await post("finalize-signin", {
      primary_mobile: phone,
      verification_token: answer.verification_token,
      email,
      password: PASSWORD,
    });
    expect(finished.status).toBe(201);

    const log = api.logLines.join("");
    expect(log).toContain("/api/auth/finalize-signin/");
    for (const secret of [answer.verification_token, PASSWORD, phone, email]) {
      expect(log).not.toContain(secret);
    }
    expect(log).not.toMatch(new RegExp(`(?<![0-9a-f])${code}(?![0-9a-f])`));
  });
});
