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

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
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

const change = ({ access }: SignedUpUser, body: object) =>
  api
    .client(tenant)
    .patch("/api/account/profile/", { current_password: PASSWORD, ...body }, { token: access });
const resend = ({ access }: SignedUpUser) =>
  api.client(tenant).post("/api/account/email/resend/", undefined, { token: access });
const verify = (token: string) => api.client(tenant).post("/api/account/email/verify/", { token });
const login = (identifier: string) =>
  api.client(tenant).post("/api/auth/login/", { identifier, password: PASSWORD });

/** Everything sent so far to one address, oldest first: waits until nothing is on its way. */
async function sentTo(address: string): Promise<string[]> {
  await vi.waitFor(async () => {
    expect(await tenant.sql`select id from messages`).toEqual([]);
  });
  const all = (await api.services.outbox?.list()) ?? [];
  return all
    .filter(({ to }) => to === address)
    .map(({ body }) => body)
    .reverse();
}

/** All that a change of address may change. */
const stateOf = ({ user }: SignedUpUser) =>
  tenant.sql`
    select full_name, email, email_verified_at, updated_at,
           (select count(*) from email_verifications v where v.user_id = u.id) as links
      from users u where id = ${user.id}`;

describe("another e-mail address", () => {
  test("the old one logs in until the new one is verified, the new one not before", async () => {
    const user = await verifiedUser();
    const email = newEmail();

    const { status, body } = await change(user, { email });

    expect({ status, body }).toMatchObject({
      status: 200,
      body: { email: user.email, email_verified: true },
    });
    expect((await login(user.email)).status).toBe(200);
    expect((await login(email)).status).toBe(401);
    await api.verifyEmail(tenant, email);
    expect((await login(user.email)).status).toBe(401);
    expect((await login(email)).status).toBe(200);
  });

  test("both are told: the old one of the wish and of its end, the new one by the link", async () => {
    const user = await verifiedUser();
    const email = newEmail();

    await change(user, { email });
    const atFirst = (await sentTo(user.email)).slice(1);
    expect(atFirst).toEqual([expect.stringContaining("A new e-mail address was given")]);
    expect(await sentTo(email)).toEqual([expect.stringContaining("/verify-email")]);

    await api.verifyEmail(tenant, email);
    const inTheEnd = (await sentTo(user.email)).slice(2);
    expect(inTheEnd).toEqual([
      expect.stringContaining("e-mail address of your account was changed"),
    ]);
    expect((await sentTo(user.user.primary_mobile)).at(-1)).toContain("was changed");
    for (const notice of [...atFirst, ...inTheEnd]) expect(notice).not.toContain(email);
  });

  test("an unverified old one is not told, it may be somebody else's: the phone is", async () => {
    const user = await api.signUp(tenant);
    await change(user, { email: newEmail() });

    expect(await sentTo(user.user.email ?? "")).toHaveLength(1);
    expect((await sentTo(user.user.primary_mobile)).at(-1)).toContain("A new e-mail address");
  });

  test("a second wish takes the place of the first, whose link is dead", async () => {
    const user = await verifiedUser();
    const [first, second] = [newEmail(), newEmail()];
    await change(user, { email: first });
    const dead = tokenIn(await api.nextEmail(first));
    await change(user, { email: second });

    expect(await verify(dead)).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect((await login(first)).status).toBe(401);
    expect((await verify(tokenIn(await api.nextEmail(second)))).status).toBe(200);
    expect((await login(second)).status).toBe(200);
  });

  test("six in an hour are too many: nothing changes then, the name neither, and no lock comes of it", async () => {
    const user = await verifiedUser();
    // The sign-up's link was the first.
    for (let index = 0; index < 4; index += 1) await change(user, { email: newEmail() });
    const before = await stateOf(user);

    for (let index = 0; index < 6; index += 1) {
      const refused = await change(user, { email: newEmail(), full_name: "Somebody Else" });
      expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited" } });
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    }

    expect(await stateOf(user)).toEqual(before);
    expect((await login(user.email)).status).toBe(200);
  });
});

describe("an address that is somebody else's", () => {
  test("verified: the same answer as for a free one, a notice and no link", async () => {
    const owner = await verifiedUser();
    const [curious, honest] = [await verifiedUser(), await verifiedUser()];

    const taken = await change(curious, { email: owner.email });
    const free = await change(honest, { email: newEmail() });

    expect(taken.status).toBe(free.status);
    expect(Object.keys(Object(taken.body))).toEqual(Object.keys(Object(free.body)));
    expect(taken.body).toMatchObject({ email: curious.email, email_verified: true });
    const mail = (await sentTo(owner.email)).slice(1);
    expect(mail).toEqual([expect.stringContaining("use this address for another account")]);
    expect(mail[0]).not.toContain("token=");
    expect(await stateOf(owner)).toMatchObject([{ email: owner.email, links: 0 }]);
    expect(await stateOf(curious)).toMatchObject([{ email: curious.email, links: 1 }]);
  });

  test("verified: another link is asked for, and runs out, as for a free one", async () => {
    const owner = await verifiedUser();
    const [curious, honest] = [await verifiedUser(), await verifiedUser()];
    await change(curious, { email: owner.email });
    await change(honest, { email: newEmail() });

    for (let index = 0; index < 4; index += 1) {
      const [taken, free] = [await resend(curious), await resend(honest)];
      expect({ status: taken.status, code: codeOf(taken.body) }).toEqual({
        status: free.status,
        code: codeOf(free.body),
      });
      expect(taken.headers["retry-after"]).toBe(free.headers["retry-after"]);
    }
    expect((await resend(curious)).status).toBe(429);
    expect((await sentTo(owner.email)).join("").includes("token=")).toBe(true);
    expect((await sentTo(owner.email)).filter((body) => body.includes("token="))).toHaveLength(1);
  });

  test("one that became somebody's meanwhile is not had with the link from before", async () => {
    const [late, quick] = [await verifiedUser(), await verifiedUser()];
    const email = newEmail();
    await change(late, { email });
    const lateToken = tokenIn(await api.nextEmail(email));
    await change(quick, { email });
    await api.verifyEmail(tenant, email);
    const before = [await stateOf(late), await stateOf(quick)];

    expect(await verify(lateToken)).toMatchObject({ status: 409, body: { code: "conflict" } });

    expect([await stateOf(late), await stateOf(quick)]).toEqual(before);
  });
});

function codeOf(body: unknown): unknown {
  return typeof body === "object" && body !== null && "code" in body ? body.code : undefined;
}

describe("what is no address", () => {
  test.each([
    ["a NUL", "a\u0000@corp.test"],
    ["half a character", "\ud800@corp.test"],
    ["two lines", "a@corp.test\nBcc: b@corp.test"],
    ["two addresses", "a@corp.test,b@corp.test"],
    ["a name with it", "Ada <a@corp.test>"],
    ["255 characters", `${"a".repeat(245)}@corp.test`],
    ["60,000 characters", `${"a".repeat(60_000)}@corp.test`],
    ["a number", 7],
    ["null", null],
    ["an object", { to: "a@corp.test" }],
  ])("%s is refused, and nothing changes", async (_, email) => {
    const user = await verifiedUser();
    const before = await stateOf(user);

    const response = await change(user, { email });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(response.body).toHaveProperty(["errors", "email"]);
    expect(await stateOf(user)).toEqual(before);
  });
});
