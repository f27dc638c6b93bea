import bcrypt from "bcrypt";
import { HashThread } from "./hash-thread.ts";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import {
  newEmail,
  newPhone,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { AppError } from "../errors.ts";
import { type PersonalData, refuseGuessable } from "./password-rules.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await api.createTenant();
});
afterAll(() => api.close());
afterEach(() => vi.restoreAllMocks());

const ADA: PersonalData = {
  full_name: "Ada Marjoram",
  email: "ada.byron@difference.io",
  primary_mobile: "+201001234567",
  username: "countess99",
};

/** What a password is refused for, if it is. */
async function complaint(
  password: string,
  person: PersonalData = ADA,
): Promise<string | undefined> {
  try {
    await refuseGuessable("password", password, person);
    return undefined;
  } catch (error) {
    if (error instanceof AppError) return error.errors?.["password"]?.[0];
    throw error;
  }
}

describe("refuseGuessable", () => {
  test.each([
    ["a common password", "iloveyou1"],
    ["in capitals", "ILOVEYOU1"],
    ["in full-width characters", "ｉｌｏｖｅｙｏｕ１"],
    ["in full-width capitals", "ＩＬＯＶＥＹＯＵ１"],
    ["in mathematical letters", "𝐢𝐥𝐨𝐯𝐞𝐲𝐨𝐮𝟏"],
    ["another one", "password123"],
    ["with a sign in it", "p@ssw0rd"],
  ])("refuses what everybody uses: %s", async (_, password) => {
    expect(await complaint(password)).toMatch(/most common/);
  });

  test("a sentence with a common password in it is not one", async () => {
    expect(await complaint("iloveyou1 but not like that")).toBeUndefined();
  });

  test.each([
    ["the name", "Ada Marjoram"],
    ["the name in one word", "adamarjoram"],
    ["a part of it", "marjoram"],
    ["the name the other way round", "MarjoramAda"],
    ["the e-mail address", "ada.byron@difference.io"],
    ["what is before its @", "ada.byron"],
    ["a part of that", "Byron!!!"],
    ["what is behind its @", "difference.io"],
    ["the number", "+201001234567"],
    ["the number without the plus", "201001234567"],
    ["the number as it is dialled at home", "01001234567"],
    ["the number without the zero of home", "1001234567"],
    ["the username", "countess99"],
    ["full-width letters", "ＡｄａＭａｒｊｏｒａｍ"],
  ])("refuses the person's own data: %s", async (_, password) => {
    expect(await complaint(password)).toMatch(/too close to your own/);
    const stranger = {
      full_name: "Grace Murray Hopper",
      email: "hopper@navy.test",
      primary_mobile: "+12025550123",
      username: "user-00000000",
    };
    expect(await complaint(password, stranger)).toBeUndefined();
  });

  test.each([
    ["three characters behind", "marjoramXYZ", "marjoramWXYZ"],
    ["three characters before", "XYZmarjoram", "WXYZmarjoram"],
    ["characters on both sides", "1marjoram23", "12marjoram34"],
    ["dots and dashes between", "m-a.r_j o.r-a.m123", "m-a.r_j o.r-a.m1234"],
    ["signs that are no letters", "marjoram!?#$%&123", "marjoram!?#$%&1234"],
    ["letters of two UTF-16 units", "marjoram𐐀𐐀𐐀", "marjoram𐐀𐐀𐐀𐐀"],
    ["a number with dashes", "0100-123-4567abc", "0100-123-4567abcd"],
    ["an address with more", "ada.byron@difference.io-99", "ada.byron@difference.io-9999"],
    ["a username with more", "my-countess99", "mine-countess99"],
  ])("a variation is refused, one with four other characters is not: %s", async (_, near, far) => {
    expect(await complaint(near)).toMatch(/too close to your own/);
    expect(await complaint(far)).toBeUndefined();
  });

  test("names of other scripts count as well", async () => {
    const person = { ...ADA, full_name: "آدا لوفلايس" };

    expect(await complaint("لوفلايس123", person)).toMatch(/too close to your own/);
    expect(await complaint("لوفلايس1234", person)).toBeUndefined();
  });

  test("names and parts shorter than four letters refuse nothing", async () => {
    const person = {
      full_name: "A Bo",
      email: "a.b@c.io",
      primary_mobile: "+201001234567",
      username: "abc",
    };

    for (const password of [
      "a boat in the sun",
      "abcabcab",
      "bobobobo",
      "aa bb cc dd",
      "c.ioc.io",
    ]) {
      expect(await complaint(password, person)).toBeUndefined();
    }
  });

  test("signs alone are nobody's name, and a name of signs alone refuses nothing", async () => {
    const person = { ...ADA, full_name: "!!!! ????" };

    expect(await complaint("!!!!????")).toBeUndefined();
    expect(await complaint("!?!?!?!?!", person)).toBeUndefined();
  });

  test("a person without an address has none to compare with", async () => {
    const person = { ...ADA, email: null };

    expect(await complaint("ada.byron", person)).toBeUndefined();
    expect(await complaint("marjoram", person)).toMatch(/too close to your own/);
  });
});

const stateOf = (id: number) =>
  tenant.sql`
    select password_hash, updated_at, (select count(*) from password_history where user_id = ${id})
      from users where id = ${id}`;

/** The token of a link to set a password, for a user without a verified address. */
async function resetToken({ user }: SignedUpUser): Promise<string> {
  const identifier = user.primary_mobile;
  await api.client(tenant).post("/api/auth/password/forgot/", { identifier });
  return vi.waitUntil(async () => {
    const sms = await api.nextSms(identifier);
    // Notices come to the number too.
    return sms.includes("token=") && tokenIn(sms);
  });
}

const change = (user: SignedUpUser, from: string, to: string) =>
  api
    .client(tenant)
    .post(
      "/api/auth/password/change/",
      { current_password: from, new_password: to },
      { token: user.access },
    );
const reset = (token: string, password: string) =>
  api.client(tenant).post("/api/auth/password/reset/", { token, password });

describe("the rules for a new password", () => {
  const own = (user: SignedUpUser["user"]) => [
    "ILOVEYOU1",
    "Lovelace.123",
    user.email ?? "",
    user.primary_mobile,
    "short 7",
    "x".repeat(129),
  ];

  test("hold at finalize, and the proof stays good", async () => {
    const phone = newPhone();
    const proof = await api.verifyPhone(tenant, phone);
    const email = newEmail();
    const finish = (password: string) =>
      api.client(tenant).post("/api/auth/finalize-signin/", {
        primary_mobile: phone,
        verification_token: proof,
        email,
        password,
      });

    for (const password of [
      "ILOVEYOU1",
      "Lovelace.123",
      email,
      phone,
      "short 7",
      "x".repeat(129),
    ]) {
      const response = await finish(password);
      expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
      expect(response.body).toHaveProperty(["errors", "password"]);
    }
    expect(await tenant.sql`select id from users where primary_mobile = ${phone}`).toEqual([]);

    expect((await finish("x".repeat(128))).status).toBe(201);
  });

  test("hold at a change, the username among them", async () => {
    const user = await api.signUp(tenant);
    const before = await stateOf(user.user.id);

    for (const password of [...own(user.user), user.user.username]) {
      const response = await change(user, PASSWORD, password);
      expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
      expect(response.body).toHaveProperty(["errors", "new_password"]);
    }
    expect(await stateOf(user.user.id)).toEqual(before);

    expect((await change(user, PASSWORD, "x".repeat(128))).status).toBe(200);
  });

  test("hold at a reset, and the token stays good", async () => {
    const user = await api.signUp(tenant);
    const token = await resetToken(user);
    const before = await stateOf(user.user.id);

    for (const password of [...own(user.user), user.user.username, PASSWORD]) {
      const response = await reset(token, password);
      expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
      expect(response.body).toHaveProperty(["errors", "password"]);
    }
    expect(await stateOf(user.user.id)).toEqual(before);

    expect((await reset(token, "x".repeat(128))).status).toBe(200);
  });

  test("128 characters all count, and what follows a NUL does", async () => {
    const user = await api.signUp(tenant);
    const long = "🙂".repeat(127);
    const logIn = (password: string) =>
      api.client(tenant).post("/api/auth/login/", { identifier: user.user.username, password });

    expect((await change(user, PASSWORD, `${long}a`)).status).toBe(200);
    expect((await logIn(`${long}b`)).status).toBe(401);
    expect((await logIn(`${long}a`)).status).toBe(200);
    // Not the one it was, though only the last of 128 characters differs.
    expect((await change(user, `${long}a`, `${long}b`)).status).toBe(200);
    expect((await change(user, `${long}b`, "before\u0000after")).status).toBe(200);
    expect((await logIn("before\u0000other")).status).toBe(401);
    expect((await logIn("before\u0000after")).status).toBe(200);
  });

  test.each([
    ["a number", 12345678],
    ["a list", ["correct horse battery"]],
    ["null", null],
    ["an object", { length: 20 }],
    ["half a character", "\ud800 is half a character"],
    ["a text of 60,000", "x".repeat(60_000)],
  ])("%s as password is no failure of the server", async (_, password) => {
    const user = await api.signUp(tenant);
    const token = await resetToken(user);
    const client = api.client(tenant);

    const responses = [
      await client.post("/api/auth/password/reset/", { token, password }),
      await client.post(
        "/api/auth/password/change/",
        { current_password: PASSWORD, new_password: password },
        { token: user.access },
      ),
      await client.post(
        "/api/auth/password/change/",
        { current_password: password, new_password: "another one entirely" },
        { token: user.access },
      ),
    ];

    for (const { status } of responses) expect(status).toBeLessThan(500);
    const isMalformed = typeof password !== "string" || password.length > 1_000;
    for (const { body } of isMalformed ? responses : []) {
      expect(body).toMatchObject({ code: "validation_error" });
    }
  });
});

describe("the last five passwords", () => {
  const nth = (index: number) => `a password with number ${index}`;

  test("may not come back, at a change or a reset; the one before them may", async () => {
    const user = await api.signUp(tenant);
    await change(user, PASSWORD, nth(1));
    for (let index = 1; index < 5; index += 1) await change(user, nth(index), nth(index + 1));
    // Now the fifth is in use, the first the fourth before it, and the one of the sign-up before that.
    const token = await resetToken(user);
    const before = await stateOf(user.user.id);

    for (let index = 1; index <= 5; index += 1) {
      const changed = await change(user, nth(5), nth(index));
      expect(changed.body).toMatchObject({
        code: "validation_error",
        errors: { new_password: [expect.stringContaining("last 5")] },
      });
      expect((await reset(token, nth(index))).body).toMatchObject({
        code: "validation_error",
        errors: { password: [expect.stringContaining("last 5")] },
      });
    }
    expect(await stateOf(user.user.id)).toEqual(before);

    expect((await change(user, nth(5), PASSWORD)).status).toBe(200);
    expect((await change(user, PASSWORD, nth(1))).status).toBe(200);
    const kept = await tenant.sql`
      select id from password_history where user_id = ${user.user.id}`;
    expect(kept).toHaveLength(4);
  });

  test("are nobody else's: what one user had, another may take", async () => {
    const first = await api.signUp(tenant);
    const second = await api.signUp(tenant);
    await change(first, PASSWORD, nth(1));

    expect((await change(second, PASSWORD, nth(1))).status).toBe(200);
  });

  test("are known whatever cost they were hashed with, and the cost rises with the next login", async () => {
    const user = await api.signUp(tenant);
    await change(user, PASSWORD, nth(1));
    const dearer = await api.startReplica({ config: { bcryptCost: 5, rateLimits: NO_LIMITS } });
    const client = dearer.client(tenant);
    const identifier = user.user.username;
    const rounds = async () => {
      const [row] = await tenant.sql<{ password_hash: string }[]>`
        select password_hash from users where id = ${user.user.id}`;
      return bcrypt.getRounds(row?.password_hash.slice("p1".length) ?? "");
    };
    expect(await rounds()).toBe(4);
    await client.post("/api/auth/login/", { identifier, password: nth(1) });
    expect(await rounds()).toBe(5);

    for (const old of [PASSWORD, nth(1)]) {
      const body = { current_password: nth(1), new_password: old };
      const refused = await client.post("/api/auth/password/change/", body, { token: user.access });
      expect(refused.body).toMatchObject({ code: "validation_error" });
    }
    const body = { current_password: nth(1), new_password: nth(2) };
    const changed = await client.post("/api/auth/password/change/", body, { token: user.access });
    expect(changed.status).toBe(200);
  });
});

describe("comparing with the last five", () => {
  test("takes its turn: with 20 resets at once two hashes are under way and never more", async () => {
    const users = await Promise.all(Array.from({ length: 4 }, () => api.signUp(tenant)));
    const tokens = await Promise.all(users.map(resetToken));
    let running = 0;
    let most = 0;
    // oxlint-disable-next-line typescript/unbound-method -- called with its thread below
    const { run } = HashThread.prototype;
    vi.spyOn(HashThread.prototype, "run").mockImplementation(async function (
      this: HashThread,
      job,
    ) {
      running += 1;
      most = Math.max(most, running);
      const isSame = await run.call(this, job);
      running -= 1;
      return isSame;
    });

    await Promise.all(
      tokens.flatMap((token) =>
        Array.from({ length: 5 }, () => reset(token, "another one entirely")),
      ),
    );

    expect(most).toBe(2);
  });

  test("with the queue full it says 503 with Retry-After, and the token stays good", async () => {
    const user = await api.signUp(tenant);
    const token = await resetToken(user);
    const before = await stateOf(user.user.id);
    const release: (() => void)[] = [];
    const hash = await api.services.passwords.hash("whatever it is");
    // oxlint-disable-next-line typescript/unbound-method -- called with its thread below
    const { run } = HashThread.prototype;
    const held = vi.spyOn(HashThread.prototype, "run").mockImplementation(async function (
      this: HashThread,
      job,
    ) {
      await new Promise<void>((resolve) => release.push(resolve));
      return run.call(this, job);
    });
    const waiting = Array.from({ length: 102 }, () =>
      api.services.passwords.verify("whatever it is", hash, tenant.id),
    );
    await vi.waitFor(() => expect(api.services.passwords.load).toBe(102));

    const refused = await reset(token, "another one entirely");

    expect(refused).toMatchObject({
      status: 503,
      body: { code: "overloaded" },
      headers: { "retry-after": "3" },
    });
    expect(await stateOf(user.user.id)).toEqual(before);
    held.mockImplementation(run);
    for (const resolve of release) resolve();
    await Promise.all(waiting);
    expect((await reset(token, "another one entirely")).status).toBe(200);
  });
});
