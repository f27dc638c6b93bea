import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  newEmail,
  newPhone,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { FinalizeAnswer } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

interface Finish {
  phone: string;
  token: string;
  email?: string;
  password?: string;
}

const finish = ({ phone, token, email = newEmail(), password = PASSWORD }: Finish) =>
  api.client(tenant).post("/api/auth/finalize-signin/", {
    primary_mobile: phone,
    verification_token: token,
    email,
    password,
  });

/** A number with the proof that it was verified. */
async function proven(): Promise<{ phone: string; token: string }> {
  const phone = newPhone();
  return { phone, token: await api.verifyPhone(tenant, phone) };
}

const usersOf = (phone: string) => tenant.sql`select id from users where primary_mobile = ${phone}`;
const claim = (email: string) => tenant.sql`select id from users where email = ${email}`;

describe("POST /api/auth/finalize-signin/", () => {
  test("makes the user of the verified number, logged in, with the name of the sign-up", async () => {
    const { phone, token } = await proven();
    const email = newEmail();

    const response = await finish({ phone, token, email: `  ${email.toUpperCase()} ` });

    expect(response.status).toBe(201);
    const { tokens, user } = FinalizeAnswer.parse(response.body);
    expect(user).toMatchObject({ full_name: "Ada Lovelace", email, primary_mobile: phone });
    expect(tokens.expires_in).toBe(3_600);
    const profile = await api.client(tenant).get("/api/account/profile/", { token: tokens.access });
    expect(profile).toMatchObject({
      status: 200,
      body: { id: user.id, email_verified: false, phone_verified: true, is_2fa_enabled: false },
    });
    expect(await tenant.sql`select action from security_logs where user_id = ${user.id}`).toEqual([
      { action: "SIGNUP_COMPLETED" },
    ]);
    expect(await tenant.sql`select 1 from signups where primary_mobile = ${phone}`).toEqual([]);
  });

  test("sends the link that verifies the address, which does it once", async () => {
    const { phone, token } = await proven();
    const email = newEmail();
    await finish({ phone, token, email });
    const verify = (link: string) =>
      api.client(tenant).post("/api/account/email/verify/", { token: link });
    const link = tokenIn(await api.nextEmail(email));

    expect((await verify(link)).status).toBe(200);
    expect(await verify(link)).toMatchObject({ status: 400, body: { code: "invalid_token" } });

    const [user] = await tenant.sql`
      select email_verified_at is not null as is_verified from users where email = ${email}`;
    expect(user).toEqual({ is_verified: true });
  });

  test("a sign-up that is refused sends no link", async () => {
    const { phone, token } = await proven();
    const links = () => tenant.sql`select id from email_verifications`;
    const before = await links();

    expect((await finish({ phone, token, password: "password1" })).status).toBe(400);
    expect((await finish({ phone, token: "A".repeat(43) })).status).toBe(400);

    expect(await links()).toEqual(before);
    expect((await finish({ phone, token })).status).toBe(201);
  });

  test("the password is kept as a peppered hash alone", async () => {
    const { user } = await api.signUp(tenant);

    const [row] = await tenant.sql`select users::text as text from users where id = ${user.id}`;
    expect(row?.["text"]).toContain("p1$2b$");
    expect(row?.["text"]).not.toContain(PASSWORD);
  });

  test("without a proof nobody finishes: the field is needed", async () => {
    const { phone } = await proven();

    const response = await api.client(tenant).post("/api/auth/finalize-signin/", {
      primary_mobile: phone,
      email: newEmail(),
      password: PASSWORD,
    });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(response.body).toHaveProperty(["errors", "verification_token"]);
    expect(await usersOf(phone)).toEqual([]);
  });

  test("a wrong proof is refused", async () => {
    const { phone, token } = await proven();

    const response = await finish({
      phone,
      token: `${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`,
    });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await usersOf(phone)).toEqual([]);
    expect((await finish({ phone, token })).status).toBe(201);
  });

  test("a used proof is refused", async () => {
    const { phone, token } = await proven();
    await finish({ phone, token });

    const response = await finish({ phone, token });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await usersOf(phone)).toHaveLength(1);
  });

  test("a proof older than 15 minutes is refused", async () => {
    const { phone, token } = await proven();
    await tenant.sql`
      update signups set verification_expires_at = now() - interval '1 second'
       where primary_mobile = ${phone}`;

    const response = await finish({ phone, token });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await usersOf(phone)).toEqual([]);
  });

  test("my proof does not make somebody else's number mine", async () => {
    const mine = await proven();
    const theirs = await proven();

    const response = await finish({ phone: theirs.phone, token: mine.token });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await usersOf(theirs.phone)).toEqual([]);
    expect((await finish(theirs)).status).toBe(201);
  });

  test("a proof of one tenant is worth nothing in another", async () => {
    const { phone, token } = await proven();
    const other = await api.createTenant();

    const response = await api.client(other).post("/api/auth/finalize-signin/", {
      primary_mobile: phone,
      verification_token: token,
      email: newEmail(),
      password: PASSWORD,
    });

    expect(response).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(await other.sql`select id from users where primary_mobile = ${phone}`).toEqual([]);
  });

  test("of 20 parallel calls with one proof one makes the user", async () => {
    const { phone, token } = await proven();

    const responses = await Promise.all(Array.from({ length: 20 }, () => finish({ phone, token })));

    const refused = responses.filter(({ status }) => status !== 201);
    expect(refused).toHaveLength(19);
    for (const { body } of refused)
      expect(body).toMatchObject({ status: 400, code: "invalid_token" });
    const users = await usersOf(phone);
    expect(users).toHaveLength(1);
    expect(
      await tenant.sql`select 1 from login_sessions where user_id = ${users[0]?.["id"]}`,
    ).toHaveLength(1);
  });

  test("a taken address is 409, in any case, and the proof still works with another", async () => {
    const { user } = await api.signUp(tenant);
    const { phone, token } = await proven();

    const refused = await finish({ phone, token, email: user.email?.toUpperCase() ?? "" });

    expect(refused).toMatchObject({ status: 409, body: { code: "conflict" } });
    expect(await usersOf(phone)).toEqual([]);
    expect((await finish({ phone, token })).status).toBe(201);
  });

  test("of two parallel sign-ups with one address one gets it", async () => {
    const email = newEmail();
    const [first, second] = await Promise.all([proven(), proven()]);

    const responses = await Promise.all([
      finish({ ...first, email }),
      finish({ ...second, email }),
    ]);

    expect(responses.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409]);
    expect(await claim(email)).toHaveLength(1);
  });

  test.each([
    ["an unverified claim of 25 hours gives way", "25 hours", false, 201],
    ["an unverified claim of 23 hours does not", "23 hours", false, 409],
    ["a verified claim never does", "1000 hours", true, 409],
  ])("%s", async (_, age, isVerified, status) => {
    const { user } = await api.signUp(tenant);
    const email = user.email ?? "";
    await tenant.sql`
      update users
         set created_at = now() - ${age}::interval,
             email_verified_at = case when ${isVerified} then now() end
       where id = ${user.id}`;
    const { phone, token } = await proven();

    const response = await finish({ phone, token, email });

    expect(response.status).toBe(status);
    const holders = await tenant.sql`select primary_mobile from users where email = ${email}`;
    expect(holders).toEqual([{ primary_mobile: status === 201 ? phone : user.primary_mobile }]);
  });

  test.each([
    ["7 characters", "a🙂b🙂c🙂d", 400],
    ["8 characters", "a🙂b🙂c🙂d🙂", 201],
    ["128 characters of two units each", "🙂".repeat(128), 201],
    ["129 characters", "a".repeat(129), 400],
  ])("a password of %s", async (_, password, status) => {
    const { phone, token } = await proven();

    const response = await finish({ phone, token, password });

    expect(response.status).toBe(status);
    expect(await usersOf(phone)).toHaveLength(status === 201 ? 1 : 0);
    const login = await api
      .client(tenant)
      .post("/api/auth/login/", { identifier: phone, password });
    expect(login.status).toBe(status === 201 ? 200 : 401);
  });

  test.each([
    "ada",
    "ada@",
    "@corp.io",
    "ada@corp",
    "ada lovelace@corp.io",
    `${"a".repeat(250)}@b.io`,
  ])("the address %j is refused", async (email) => {
    const { phone, token } = await proven();

    const response = await finish({ phone, token, email });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(response.body).toHaveProperty(["errors", "email"]);
    expect(await usersOf(phone)).toEqual([]);
  });
});
