import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
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
import { sha256 } from "../keys.ts";

const FRONTEND = "https://app.corp.test/portal";
const config = { rateLimits: NO_LIMITS, frontendUrl: FRONTEND };

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config });
  tenant = await api.createTenant();
});
afterAll(() => api.close());

type User = SignedUpUser["user"];

const forgot = (identifier: string, headers: Record<string, string> = {}) =>
  api.client(tenant).post("/api/auth/password/forgot/", { identifier }, { headers });

/** A user whose address is known to be theirs. */
async function verifiedUser(): Promise<User & { email: string }> {
  const email = newEmail();
  const { user } = await api.signUp(tenant, email);
  await api.verifyEmail(tenant, email);
  return { ...user, email };
}

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

const linksSentTo = async (address: string) =>
  (await sentTo(address)).filter((body) => body.includes("/reset-password"));

const linksOf = ({ id }: User) =>
  tenant.sql<{ minutes: number; is_used: boolean }[]>`
    select round(extract(epoch from expires_at - now()) / 60)::int as minutes,
           used_at is not null as is_used
      from password_resets where user_id = ${id} order by id`;

describe("POST /api/auth/password/forgot/", () => {
  test("sends a link of 30 minutes to the verified address, and nothing to the phone", async () => {
    const user = await verifiedUser();

    expect((await forgot(user.username)).status).toBe(202);

    const [link, ...more] = await linksSentTo(user.email);
    expect(link).toContain(`${FRONTEND}/reset-password`);
    expect(link).toContain("30 minutes");
    expect(more).toEqual([]);
    expect(await linksSentTo(user.primary_mobile)).toEqual([]);
    expect(await linksOf(user)).toEqual([{ minutes: 30, is_used: false }]);
  });

  test("knows a user by e-mail in any case, by phone however spaced, and by username", async () => {
    const user = await verifiedUser();
    const phone = user.primary_mobile;

    await forgot(` ${user.email.toUpperCase()} `);
    await forgot(`${phone.slice(0, 3)} ${phone.slice(3, 6)}-${phone.slice(6)}`);
    await forgot(user.username.toUpperCase());

    expect(await linksOf(user)).toHaveLength(3);
  });

  test("gives the same answer whoever is meant, and sends to none but the active and known", async () => {
    const known = await verifiedUser();
    const { user: unverified } = await api.signUp(tenant);
    const disabled = await verifiedUser();
    await tenant.sql`update users set is_active = false where id = ${disabled.id}`;
    const halfRegistered = newPhone();
    await api.verifyPhone(tenant, halfRegistered);
    const stranger = newEmail();
    const { user: withSms } = await api.signUp(tenant);
    await tenant.sql`update users set two_fa_type = 'sms' where id = ${withSms.id}`;

    const responses = [
      await forgot(known.email),
      await forgot(unverified.email ?? ""),
      await forgot(disabled.email),
      await forgot(halfRegistered),
      await forgot(stranger),
      await forgot(newPhone()),
      await forgot("nobody-at-all"),
      await forgot(withSms.username),
    ];

    const answers = responses.map(({ status, body }) => ({ status, body }));
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    expect(answers[0]?.status).toBe(202);
    expect(await linksSentTo(known.email)).toHaveLength(1);
    // Not to the address that may be somebody else's: to the number that was proven.
    expect(await linksSentTo(unverified.email ?? "")).toEqual([]);
    expect(await linksSentTo(unverified.primary_mobile)).toHaveLength(1);
    for (const address of [
      disabled.email,
      disabled.primary_mobile,
      halfRegistered,
      stranger,
      withSms.email ?? "",
      withSms.primary_mobile,
    ]) {
      expect(await linksSentTo(address)).toEqual([]);
    }
    for (const user of [disabled, withSms]) expect(await linksOf(user)).toEqual([]);
  });

  test.each([
    ["codes by SMS and no verified address: no link, the phone would be both factors", "sms", 0],
    ["codes of an app and no verified address: a link by SMS", "totp", 1],
  ])("%s", async (_, method, links) => {
    const { user } = await api.signUp(tenant);
    await tenant.sql`update users set two_fa_type = ${method} where id = ${user.id}`;

    expect((await forgot(user.username)).status).toBe(202);

    expect(await linksSentTo(user.primary_mobile)).toHaveLength(links);
    expect(await linksOf(user)).toHaveLength(links);
  });

  test("codes by SMS and a verified address: the link goes there", async () => {
    const user = await verifiedUser();
    await tenant.sql`update users set two_fa_type = 'sms' where id = ${user.id}`;

    await forgot(user.username);

    expect(await linksSentTo(user.email)).toHaveLength(1);
    expect(await linksSentTo(user.primary_mobile)).toEqual([]);
  });

  test.each([
    ["Host", { host: "evil.test" }],
    ["X-Forwarded-Host", { "x-forwarded-host": "evil.test", "x-forwarded-proto": "http" }],
    ["Forwarded", { forwarded: "host=evil.test;proto=http" }],
    ["Origin and Referer", { origin: "https://evil.test", referer: "https://evil.test/" }],
  ])("the link leads to FRONTEND_URL whatever %s says, behind a proxy too", async (_, headers) => {
    const user = await verifiedUser();
    const proxied = await api.startReplica({
      config: { ...config, trustedProxies: ["127.0.0.1"] },
    });
    const identifier = user.email;

    await forgot(identifier, headers);
    await proxied.client(tenant).post("/api/auth/password/forgot/", { identifier }, { headers });

    const links = await linksSentTo(user.email);
    expect(links).toHaveLength(2);
    for (const link of links) {
      expect(link).toContain(`${FRONTEND}/reset-password`);
      expect(link).not.toContain("evil.test");
    }
  });

  test("the token is kept as a hash alone, and no message is left behind", async () => {
    const user = await verifiedUser();
    await forgot(user.email);
    const [link = ""] = await linksSentTo(user.email);
    const token = tokenIn(link);

    const rows = await tenant.sql<{ text: string; token_hash: Uint8Array }[]>`
      select password_resets::text as text, token_hash
        from password_resets where user_id = ${user.id}`;

    expect(rows.map((row) => Buffer.from(row.token_hash))).toEqual([sha256(token)]);
    expect(rows[0]?.text).not.toContain(token);
    const logs = await tenant.sql<{ text: string }[]>`
      select string_agg(security_logs::text, '') as text from security_logs`;
    expect(logs[0]?.text).not.toContain(token);
    expect(api.logLines.join("")).not.toContain(token);
  });

  test("of six asked for one after the other five are sent, and the earlier ones keep working", async () => {
    const user = await verifiedUser();

    for (let index = 0; index < 6; index += 1) {
      expect((await forgot(user.email)).status).toBe(202);
    }

    const links = await linksSentTo(user.email);
    expect(links).toHaveLength(5);
    expect(await linksOf(user)).toHaveLength(5);
    const response = await api.client(tenant).post("/api/auth/password/reset/", {
      token: tokenIn(links[0] ?? ""),
      password: "another one entirely",
    });
    expect(response.status).toBe(200);
  });

  test("of 12 asked for at once five are sent", async () => {
    const user = await verifiedUser();

    const responses = await Promise.all(Array.from({ length: 12 }, () => forgot(user.email)));

    for (const { status } of responses) expect(status).toBe(202);
    expect(await linksOf(user)).toHaveLength(5);
    expect(await linksSentTo(user.email)).toHaveLength(5);
  });

  test("links that ran out make room for new ones", async () => {
    const user = await verifiedUser();
    for (let index = 0; index < 5; index += 1) await forgot(user.email);
    await tenant.sql`
      update password_resets set expires_at = now() - interval '1 second' where user_id = ${user.id}`;

    await forgot(user.email);

    expect(await linksSentTo(user.email)).toHaveLength(6);
  });

  test("leaves an entry in the log that does not tell the address", async () => {
    const user = await verifiedUser();
    const stranger = newEmail();

    await forgot(user.email);
    await forgot(stranger);

    const mine = await tenant.sql`
      select user_display from security_logs
       where user_id = ${user.id} and action = 'PASSWORD_FORGOTTEN'`;
    expect(mine).toEqual([{ user_display: "a***@corp.test" }]);
    const entries = await tenant.sql<{ text: string }[]>`
      select string_agg(user_display, ' ') as text from security_logs
       where action = 'PASSWORD_FORGOTTEN'`;
    expect(entries[0]?.text).not.toContain(stranger);
  });

  test("a user of one tenant is unknown in another", async () => {
    const user = await verifiedUser();
    const other = await api.createTenant();

    const response = await api
      .client(other)
      .post("/api/auth/password/forgot/", { identifier: user.email });

    expect(response.status).toBe(202);
    expect(await other.sql`select id from password_resets`).toEqual([]);
    expect(await linksSentTo(user.email)).toEqual([]);
  });

  test("does not touch the account: the password and the logins stay", async () => {
    const { user, access } = await api.signUp(tenant);

    await forgot(user.username);

    expect((await api.client(tenant).get("/api/account/profile/", { token: access })).status).toBe(
      200,
    );
    await api.logIn(tenant, user.username, PASSWORD);
  });

  test.each([
    ["none", {}],
    ["an empty one", { identifier: "" }],
    ["a number", { identifier: 7 }],
    ["null", { identifier: null }],
    ["a list", { identifier: ["ada@corp.test"] }],
    ["a NUL", { identifier: "ada\u0000@corp.test" }],
    ["255 characters", { identifier: "a".repeat(255) }],
    ["60,000 characters", { identifier: "a".repeat(60_000) }],
    ["an unknown field", { identifier: "ada@corp.test", redirect: "https://evil.test" }],
  ])("%s as identifier is refused", async (_, body) => {
    const response = await api.client(tenant).post("/api/auth/password/forgot/", body);

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });

  test.each(["%", "\ud800@corp.test", "' or '1'='1", "\\", "+", "ａｄａ@corp.test"])(
    "%j is nobody",
    async (identifier) => {
      const before = await tenant.sql`select count(*) from password_resets`;

      expect((await forgot(identifier)).status).toBe(202);

      expect(await tenant.sql`select count(*) from password_resets`).toEqual(before);
    },
  );
});
