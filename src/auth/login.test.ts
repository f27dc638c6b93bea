import bcrypt from "bcrypt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { networkOf } from "../networks.ts";
import { LoggedInAnswer } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

interface Login {
  identifier: string;
  password?: string;
  from?: string;
  remember?: boolean;
}

const login = ({ identifier, password = PASSWORD, from = "192.0.2.1", remember }: Login) =>
  api
    .client(tenant)
    .post(
      "/api/auth/login/",
      { identifier, password, ...(remember === undefined ? {} : { remember_me: remember }) },
      { remoteAddress: from },
    );

const logOf = (user: SignedUpUser["user"], action: string) =>
  tenant.sql`select id, metadata from security_logs where user_id = ${user.id} and action = ${action}`;
const sessionsOf = (user: SignedUpUser["user"]) =>
  tenant.sql`select id from login_sessions where user_id = ${user.id}`;

async function fail(identifier: string, times: number, from?: string): Promise<void> {
  for (let index = 0; index < times; index += 1) {
    await login({ identifier, password: "a wrong one", ...(from === undefined ? {} : { from }) });
  }
}

describe("POST /api/auth/login/", () => {
  test("knows a user by e-mail in any case, by phone however spaced, and by username", async () => {
    const { user } = await api.signUp(tenant);
    const email = user.email ?? "";
    const phone = user.primary_mobile;
    const spellings = [
      email,
      ` ${email.toUpperCase()} `,
      phone,
      `${phone.slice(0, 3)} ${phone.slice(3, 6)} ${phone.slice(6, 9)}-${phone.slice(9)}`,
      user.username,
      user.username.toUpperCase(),
    ];

    for (const identifier of spellings) {
      const answer = LoggedInAnswer.parse((await login({ identifier })).body);
      expect(answer.user).toEqual(user);
      expect(answer.tokens.expires_in).toBe(3_600);
      const profile = await api
        .client(tenant)
        .get("/api/account/profile/", { token: answer.tokens.access });
      expect(profile.status).toBe(200);
    }
    expect(await logOf(user, "LOGIN_SUCCEEDED")).toHaveLength(spellings.length);
  });

  test("wrong, unknown, locked and without a password: the same answer but for the request's id", async () => {
    const { user } = await api.signUp(tenant);
    const locked = await api.signUp(tenant);
    const bare = await api.signUp(tenant);
    await tenant.sql`update users set password_hash = null where id = ${bare.user.id}`;
    await fail(locked.user.username, 5);

    const responses = [
      await login({ identifier: user.username, password: "a wrong one" }),
      await login({ identifier: "nobody@corp.test" }),
      await login({ identifier: "+201099999999" }),
      await login({ identifier: locked.user.username }),
      await login({ identifier: bare.user.username }),
      await login({ identifier: bare.user.username, password: "\u0000" }),
    ];

    const bodies = responses.map(({ status, body, headers }) => {
      const { request_id: _, ...rest } = body as { request_id: string };
      return { status, rest, "www-authenticate": headers["www-authenticate"] };
    });
    for (const body of bodies) expect(body).toEqual(bodies[0]);
    expect(bodies[0]).toMatchObject({ status: 401, rest: { code: "invalid_credentials" } });
    expect(await sessionsOf(user)).toHaveLength(1);
    expect(await sessionsOf(locked.user)).toHaveLength(1);
  });

  test("a user of one tenant is unknown in another", async () => {
    const { user } = await api.signUp(tenant);
    const other = await api.createTenant();

    const response = await api
      .client(other)
      .post("/api/auth/login/", { identifier: user.email, password: PASSWORD });

    expect(response).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(await other.sql`select id from login_sessions`).toEqual([]);
  });

  test("four wrong passwords leave the right one good, and it sets the count back", async () => {
    const { user } = await api.signUp(tenant);

    for (let round = 0; round < 2; round += 1) {
      await fail(user.username, 4);
      expect((await login({ identifier: user.username })).status).toBe(200);
    }
  });

  test("five lock the account for 30 minutes, from that network only", async () => {
    const { user } = await api.signUp(tenant);
    await fail(user.username, 5, "198.51.100.7");

    const same = await login({ identifier: user.username, from: "198.51.100.7" });
    // However the account is named.
    const asEmail = await login({ identifier: user.email ?? "", from: "198.51.100.7" });
    const elsewhere = await login({ identifier: user.username, from: "198.51.100.8" });

    expect(same).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(asEmail.status).toBe(401);
    expect(elsewhere.status).toBe(200);
    expect(await sessionsOf(user)).toHaveLength(2);
    const locks = await tenant.sql`
      select round(extract(epoch from locked_until - now()) / 60)::int as minutes
        from failures where network = '198.51.100.7/32'`;
    expect(locks).toEqual([{ minutes: 30 }]);

    await tenant.sql`
      update failures set locked_until = now() - interval '1 second'
       where network = '198.51.100.7/32'`;
    expect((await login({ identifier: user.username, from: "198.51.100.7" })).status).toBe(200);
  });

  test("tries while it is locked do not make the lock longer", async () => {
    const { user } = await api.signUp(tenant);
    const from = "198.51.100.20";
    const lock = () =>
      tenant.sql`select locked_until from failures where network = ${`${from}/32`}`;
    await fail(user.username, 5, from);
    const before = await lock();

    await fail(user.username, 3, from);

    expect(await lock()).toEqual(before);
  });

  test("an IPv6 host does not get five more tries from the next of its addresses", async () => {
    const { user } = await api.signUp(tenant);
    await fail(user.username, 5, "2001:db8:1:2::1");

    expect((await login({ identifier: user.username, from: "2001:db8:1:2:ffff::9" })).status).toBe(
      401,
    );
    expect((await login({ identifier: user.username, from: "2001:db8:1:3::1" })).status).toBe(200);
  });

  test("of 20 parallel wrong tries five are tried, and then the right password is refused", async () => {
    const { user } = await api.signUp(tenant);
    const from = "198.51.100.30";

    const responses = await Promise.all(
      Array.from({ length: 20 }, () =>
        login({ identifier: user.username, password: "a wrong one", from }),
      ),
    );

    for (const { status } of responses) expect(status).toBe(401);
    expect(await logOf(user, "LOGIN_FAILED")).toHaveLength(5);
    expect(await logOf(user, "LOGIN_LOCKED")).toHaveLength(15);
    expect((await login({ identifier: user.username, from })).status).toBe(401);
  });

  test("a disabled account is told so after the right password, and only then", async () => {
    const { user } = await api.signUp(tenant);
    await tenant.sql`update users set is_active = false where id = ${user.id}`;

    const right = await login({ identifier: user.username });
    const wrong = await login({ identifier: user.username, password: "a wrong one" });

    expect(right).toMatchObject({ status: 403, body: { code: "account_disabled" } });
    expect(wrong).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(await sessionsOf(user)).toHaveLength(1);
    expect(await logOf(user, "LOGIN_FAILED")).toHaveLength(2);
  });

  test("a refresh token lives 7 days, remembered 30", async () => {
    const { user } = await api.signUp(tenant);
    await login({ identifier: user.username, remember: false });
    await login({ identifier: user.username, remember: true });

    const days = await tenant.sql`
      select round(extract(epoch from expires_at - created_at) / 86400)::int as days
        from login_sessions where user_id = ${user.id} order by id`;

    expect(days).toEqual([{ days: 7 }, { days: 7 }, { days: 30 }]);
  });

  test("a hash of another cost is renewed, and the password stays the same", async () => {
    const { user } = await api.signUp(tenant);
    const dearer = await api.startReplica({ config: { bcryptCost: 5 } });
    const rounds = async () => {
      const [row] = await tenant.sql<{ password_hash: string }[]>`
        select password_hash from users where id = ${user.id}`;
      return bcrypt.getRounds(row?.password_hash.slice("p1".length) ?? "");
    };
    expect(await rounds()).toBe(4);
    const body = { identifier: user.username, password: "a wrong one" };

    await dearer.client(tenant).post("/api/auth/login/", body);
    expect(await rounds()).toBe(4);
    await dearer.client(tenant).post("/api/auth/login/", { ...body, password: PASSWORD });

    expect(await rounds()).toBe(5);
    expect((await login({ identifier: user.username })).status).toBe(200);
  });

  test("an address with a zone, and what a proxy writes instead of one, is no obstacle", async () => {
    const { user } = await api.signUp(tenant);
    const behindProxy = await api.startReplica({ config: { trustedProxies: ["127.0.0.1"] } });
    const body = { identifier: user.username, password: PASSWORD };
    const from = (forwarded: string) =>
      behindProxy
        .client(tenant)
        .post("/api/auth/login/", body, { headers: { "x-forwarded-for": forwarded } });

    expect((await login({ identifier: user.username, from: "fe80::1%eth0" })).status).toBe(200);
    for (const forwarded of ["unknown", "203.0.113.9:4711", "203.0.113.9", "::ffff:203.0.113.9"]) {
      expect((await from(forwarded)).status).toBe(200);
    }

    const rows = await tenant.sql<{ ip: string }[]>`
      select host(ip_address) as ip from login_sessions where user_id = ${user.id} order by id`;
    expect(rows.map(({ ip }) => ip).slice(1)).toEqual([
      "fe80::1",
      "127.0.0.1",
      "203.0.113.9",
      "203.0.113.9",
      "203.0.113.9",
    ]);
  });

  test.each([
    ["a wildcard", "%"],
    ["a quote", "' or '1'='1"],
    ["a name that is too long", "a".repeat(255)],
    ["a control character", "ada\u0000"],
  ])("%s as identifier is nobody", async (_, identifier) => {
    const response = await login({ identifier });

    expect([400, 401]).toContain(response.status);
    expect(response.body).not.toHaveProperty("tokens");
  });
});

describe("networkOf", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1/32"],
    ["::ffff:192.0.2.1", "192.0.2.1/32"],
    ["::FFFF:192.0.2.1", "192.0.2.1/32"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::6", "2001:db8:1:2::/64"],
    ["2001:db8::6", "2001:db8:0:0::/64"],
    ["2001:db8::1:2:3:4:5", "2001:db8:0:1::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["64:ff9b::192.0.2.1", "64:ff9b:0:0::/64"],
    ["1::192.0.2.1", "1:0:0:0::/64"],
  ])("%s counts as %s", async (ip, network) => {
    expect(networkOf(ip)).toBe(network);
    // What PostgreSQL takes for a network.
    const [row] = await tenant.sql<
      { family: number }[]
    >`select family(${network}::text::cidr) as family`;
    expect(row?.family).toBe(network.endsWith("/32") ? 4 : 6);
  });
});
