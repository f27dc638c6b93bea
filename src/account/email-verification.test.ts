import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
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
import { sha256 } from "../keys.ts";

const FRONTEND = "https://app.corp.test";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS, frontendUrl: FRONTEND } });
  tenant = await api.createTenant();
});
afterAll(() => api.close());

interface Person extends SignedUpUser {
  readonly email: string;
}

async function newUser(email = newEmail()): Promise<Person> {
  return { ...(await api.signUp(tenant, email)), email };
}

const verify = (token: string, at = tenant) =>
  api.client(at).post("/api/account/email/verify/", { token });
const resend = ({ access }: SignedUpUser) =>
  api.client(tenant).post("/api/account/email/resend/", undefined, { token: access });
const claim = ({ access }: SignedUpUser, email: string) =>
  api
    .client(tenant)
    .patch("/api/account/profile/", { email, current_password: PASSWORD }, { token: access });

const usersOf = (...people: readonly Person[]) =>
  tenant.sql<{ email: string | null; is_verified: boolean }[]>`
    select email, email_verified_at is not null as is_verified
      from users where id = any(${people.map(({ user }) => user.id)}) order by id`;
const linksOf = ({ user }: SignedUpUser) =>
  tenant.sql`select id from email_verifications where user_id = ${user.id}`;
const logOf = ({ user }: SignedUpUser, action: string) =>
  tenant.sql`select id from security_logs where user_id = ${user.id} and action = ${action}`;

async function expectRefused(user: Person, token: string, at = tenant): Promise<void> {
  const before = [await usersOf(user), await linksOf(user)];
  expect(await verify(token, at)).toMatchObject({ status: 400, body: { code: "invalid_token" } });
  expect([await usersOf(user), await linksOf(user)]).toEqual(before);
}

describe("POST /api/account/email/verify/", () => {
  test("the link of the sign-up verifies the address, without a login", async () => {
    const user = await newUser();
    const mail = await api.nextEmail(user.email);
    expect(mail).toContain(`${FRONTEND}/verify-email`);
    expect(mail).toContain("24 hours");

    expect((await verify(tokenIn(mail))).status).toBe(200);

    expect(await usersOf(user)).toEqual([{ email: user.email, is_verified: true }]);
    expect(await logOf(user, "EMAIL_VERIFIED")).toHaveLength(1);
    const profile = await api.client(tenant).get("/api/account/profile/", { token: user.access });
    expect(profile.body).toMatchObject({ email: user.email, email_verified: true });
  });

  test("a link works once", async () => {
    const user = await newUser();
    const token = tokenIn(await api.nextEmail(user.email));
    await verify(token);

    await expectRefused(user, token);
    expect(await logOf(user, "EMAIL_VERIFIED")).toHaveLength(1);
  });

  test("of 20 parallel uses of one link one counts", async () => {
    const user = await newUser();
    const token = tokenIn(await api.nextEmail(user.email));

    const responses = await Promise.all(Array.from({ length: 20 }, () => verify(token)));

    const statuses = responses.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(statuses.filter((status) => status === 400)).toHaveLength(19);
    expect(await logOf(user, "EMAIL_VERIFIED")).toHaveLength(1);
  });

  test("of three links of one user used at once one counts", async () => {
    const user = await newUser();
    const tokens = [tokenIn(await api.nextEmail(user.email))];
    for (let index = 0; index < 2; index += 1) {
      await resend(user);
      tokens.push(tokenIn(await api.nextEmail(user.email)));
    }

    const responses = await Promise.all(tokens.map((token) => verify(token)));

    const statuses = responses.map(({ status }) => status).sort((a, b) => a - b);
    expect(statuses).toEqual([200, 400, 400]);
    expect(await usersOf(user)).toEqual([{ email: user.email, is_verified: true }]);
    expect(await linksOf(user)).toEqual([]);
  });

  test("a link works for 24 hours", async () => {
    const user = await newUser();
    const token = tokenIn(await api.nextEmail(user.email));
    const age = (time: string) => tenant.sql`
      update email_verifications set expires_at = expires_at - ${time}::interval
       where user_id = ${user.user.id}`;

    await age("24 hours 1 second");
    await expectRefused(user, token);
    await age("-2 minutes");
    expect((await verify(token)).status).toBe(200);
  });

  test("a link is worth nothing in another tenant, and stays good in its own", async () => {
    const user = await newUser();
    const token = tokenIn(await api.nextEmail(user.email));
    const other = await api.createTenant();

    await expectRefused(user, token, other);
    expect((await verify(token)).status).toBe(200);
  });

  test("the token is kept as a hash alone", async () => {
    const user = await newUser();
    const token = tokenIn(await api.nextEmail(user.email));

    const rows = await tenant.sql<{ text: string; token_hash: Uint8Array }[]>`
      select email_verifications::text as text, token_hash
        from email_verifications where user_id = ${user.user.id}`;

    expect(rows.map((row) => Buffer.from(row.token_hash))).toEqual([sha256(token)]);
    expect(rows[0]?.text).not.toContain(token);
  });

  test.each([
    ["none", {}],
    ["an empty one", { token: "" }],
    ["a number", { token: 7 }],
    ["a list", { token: ["x".repeat(43)] }],
    ["null", { token: null }],
    ["60,000 characters", { token: "x".repeat(60_000) }],
    ["a user besides", { token: "x".repeat(43), user: 1 }],
  ])("%s as token: the request is refused as it is", async (_, body) => {
    const response = await api.client(tenant).post("/api/account/email/verify/", body);

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });

  test.each(["\u0000".repeat(43), "\ud800".repeat(43), "%", "' or '1'='1"])(
    "the token %j is wrong, not a failure of the server",
    async (token) => {
      expect(await verify(token)).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    },
  );
});

describe("an address that two users say is theirs", () => {
  test("an unverified claim gives way to whoever verifies", async () => {
    const squatter = await newUser();
    const owner = await newUser();
    await api.nextEmail(squatter.email);
    await claim(owner, squatter.email);
    expect(await usersOf(squatter)).toEqual([{ email: squatter.email, is_verified: false }]);

    expect((await verify(tokenIn(await api.nextEmail(squatter.email)))).status).toBe(200);

    expect(await usersOf(squatter, owner)).toEqual([
      { email: null, is_verified: false },
      { email: squatter.email, is_verified: true },
    ]);
    // The squatter still logs in, by number and username.
    await api.logIn(tenant, squatter.user.username);
    const login = await api.logIn(tenant, squatter.email);
    const profile = await api.client(tenant).get("/api/account/profile/", { token: login.access });
    expect(profile.body).toMatchObject({ id: owner.user.id });
  });

  test("of two who verify it one gets it, the other is told that it has an account", async () => {
    const [first, second] = [await newUser(), await newUser()];
    const email = newEmail();
    await claim(first, email);
    await claim(second, email);
    const tokens = [tokenIn(await api.nextEmail(email)), tokenIn(await api.nextEmail(email))];

    expect((await verify(tokens[0] ?? "")).status).toBe(200);
    const late = await verify(tokens[1] ?? "");

    expect(late).toMatchObject({ status: 409, body: { code: "conflict" } });
    expect(await usersOf(first, second)).toEqual([
      { email, is_verified: true },
      { email: second.email, is_verified: false },
    ]);
  });

  test("also when they do it at the same moment, ten times over", async () => {
    for (let round = 0; round < 10; round += 1) {
      const [first, second] = [await newUser(), await newUser()];
      const email = newEmail();
      await claim(first, email);
      await claim(second, email);
      const tokens = [tokenIn(await api.nextEmail(email)), tokenIn(await api.nextEmail(email))];

      const responses = await Promise.all(tokens.map((token) => verify(token)));

      const statuses = responses.map(({ status }) => status).sort((a, b) => a - b);
      expect(statuses).toEqual([200, 409]);
      const holders = await usersOf(first, second);
      expect(holders.filter((holder) => holder.email === email)).toEqual([
        { email, is_verified: true },
      ]);
      expect(holders.filter((holder) => !holder.is_verified)).toHaveLength(1);
    }
  });

  test("also when each claims what is the other's so far", async () => {
    for (let round = 0; round < 5; round += 1) {
      const [first, second] = [await newUser(), await newUser()];
      await api.nextEmail(first.email);
      await api.nextEmail(second.email);
      await claim(first, second.email);
      await claim(second, first.email);
      const tokens = [
        tokenIn(await api.nextEmail(second.email)),
        tokenIn(await api.nextEmail(first.email)),
      ];

      const responses = await Promise.all(tokens.map((token) => verify(token)));

      for (const { status } of responses) expect(status).toBe(200);
      expect(await usersOf(first, second)).toEqual([
        { email: second.email, is_verified: true },
        { email: first.email, is_verified: true },
      ]);
    }
  });
});

describe("POST /api/account/email/resend/", () => {
  test("sends another link; the older one keeps working", async () => {
    const user = await newUser();
    const first = tokenIn(await api.nextEmail(user.email));

    expect((await resend(user)).status).toBe(200);

    expect(tokenIn(await api.nextEmail(user.email))).not.toBe(first);
    expect((await verify(first)).status).toBe(200);
    expect(await linksOf(user)).toEqual([]);
  });

  test("goes to the new address where a change was begun", async () => {
    const user = await newUser();
    const email = newEmail();
    await claim(user, email);
    const first = await api.nextEmail(email);

    expect((await resend(user)).status).toBe(200);

    expect(tokenIn(await api.nextEmail(email))).not.toBe(tokenIn(first));
  });

  test("with nothing to verify it is a conflict, and nothing is sent", async () => {
    const user = await newUser();
    await api.verifyEmail(tenant, user.email);

    expect(await resend(user)).toMatchObject({ status: 409, body: { code: "conflict" } });

    expect(await linksOf(user)).toEqual([]);
    expect(await logOf(user, "EMAIL_VERIFICATION_SENT")).toEqual([]);
  });

  test("a user who has lost the claim to an address has nothing to verify", async () => {
    const user = await newUser();
    await tenant.sql`update users set email = null where id = ${user.user.id}`;
    await tenant.sql`delete from email_verifications where user_id = ${user.user.id}`;

    expect(await resend(user)).toMatchObject({ status: 409, body: { code: "conflict" } });
  });

  test("needs a login", async () => {
    const response = await api.client(tenant).post("/api/account/email/resend/");

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
  });

  test("five links an hour, the sign-up's among them; then 429 with Retry-After", async () => {
    const user = await newUser();
    for (let index = 0; index < 4; index += 1) expect((await resend(user)).status).toBe(200);
    const before = await linksOf(user);

    const refused = await resend(user);

    expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(refused.headers["retry-after"])).toBeLessThanOrEqual(3_600);
    expect(await linksOf(user)).toEqual(before);
    expect(await logOf(user, "EMAIL_VERIFICATION_SENT")).toHaveLength(4);
  });

  test("of 20 at once as many are sent as are left, and an hour later it works again", async () => {
    const user = await newUser();

    const responses = await Promise.all(Array.from({ length: 20 }, () => resend(user)));

    const statuses = responses.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(4);
    expect(statuses.filter((status) => status === 429)).toHaveLength(16);
    // All counts of this file's users: none of the others is waited for any more.
    await tenant.sql`
      update failures set updated_at = updated_at - interval '61 minutes',
                          locked_until = locked_until - interval '61 minutes'`;
    expect((await resend(user)).status).toBe(200);
  });

  test("the three newest links work, older ones stop", async () => {
    const user = await newUser();
    const tokens = [tokenIn(await api.nextEmail(user.email))];
    for (let index = 0; index < 3; index += 1) {
      await resend(user);
      tokens.push(tokenIn(await api.nextEmail(user.email)));
    }

    expect(await linksOf(user)).toHaveLength(3);
    await expectRefused(user, tokens[0] ?? "");
    expect((await verify(tokens[1] ?? "")).status).toBe(200);
  });

  test("a body it does not need does no harm", async () => {
    const user = await newUser();
    const other = newEmail();

    const response = await api
      .client(tenant)
      .post("/api/account/email/resend/", { email: other }, { token: user.access });

    expect(response.status).toBeLessThan(500);
    await vi.waitFor(async () => {
      expect(await tenant.sql`select id from messages`).toEqual([]);
    });
    const sent = (await api.services.outbox?.list()) ?? [];
    expect(sent.filter(({ to }) => to === other)).toEqual([]);
  });
});
