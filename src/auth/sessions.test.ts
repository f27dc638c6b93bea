import { createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type SignedUpUser, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { Keys } from "../keys.ts";
import { LoggedInAnswer, Tokens } from "./schemas.ts";

let api: TestApp;
let replica: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  replica = await api.startReplica();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const refresh = (token: string, at = tenant) =>
  api.client(at).post("/api/auth/token/refresh/", { refresh: token });
const profile = (token: string, app = api) =>
  app.client(tenant).get("/api/account/profile/", { token });
const logout = (token: string, refreshToken: string) =>
  api.client(tenant).post("/api/auth/logout/", { refresh: refreshToken }, { token });

/** The next tokens of a login. */
async function rotate(token: string): Promise<Tokens> {
  return Tokens.parse((await refresh(token)).body);
}
type Tokens = ReturnType<typeof Tokens.parse>;

const liveSessions = ({ id }: SignedUpUser["user"]) =>
  tenant.sql`select id from login_sessions where user_id = ${id} and ended_at is null`;

/** As if the last rotation had been so long ago. */
const age = ({ id }: SignedUpUser["user"], seconds: number) => tenant.sql`
  update login_sessions set refresh_rotated_at = now() - make_interval(secs => ${seconds}::int)
   where user_id = ${id}`;

describe("POST /api/auth/token/refresh/", () => {
  test("answers with a new pair, and both work", async () => {
    const { access, refresh: first } = await api.signUp(tenant);

    const response = await refresh(first);

    expect(response).toMatchObject({ status: 200, body: { expires_in: 3_600 } });
    const next = Tokens.parse(response.body);
    expect(next.refresh).not.toBe(first);
    expect((await profile(next.access)).status).toBe(200);
    expect((await profile(access)).status).toBe(200);
    expect((await refresh(next.refresh)).status).toBe(200);
  });

  test("the token before, within 30 seconds, gives the current one", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    const next = await rotate(first);
    await age(user, 29);

    expect((await rotate(first)).refresh).toBe(next.refresh);
    expect(await liveSessions(user)).toHaveLength(1);
  });

  test("the token before, after 30 seconds, ends the login and its access token", async () => {
    const { user, access, refresh: first } = await api.signUp(tenant);
    const next = await rotate(first);
    await profile(access);
    await age(user, 31);

    expect(await refresh(first)).toMatchObject({ status: 401, body: { code: "refresh_reused" } });

    expect(await liveSessions(user)).toEqual([]);
    for (const app of [api, replica]) {
      await expect
        .poll(() => profile(access, app), { timeout: 1_000, interval: 10 })
        .toMatchObject({ status: 401, body: { code: "token_revoked" } });
    }
    expect(await refresh(next.refresh)).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });
    expect(
      await tenant.sql`
      select action from security_logs where user_id = ${user.id} and action = 'REFRESH_REUSED'`,
    ).toHaveLength(1);
  });

  test("the token before the one before ends the login at once", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    const second = await rotate(first);
    await rotate(second.refresh);

    expect(await refresh(first)).toMatchObject({ status: 401, body: { code: "refresh_reused" } });
    expect(await liveSessions(user)).toEqual([]);
  });

  test("a reused token ends its own login, not the user's others", async () => {
    const { user, password, refresh: first } = await api.signUp(tenant);
    const login = await api
      .client(tenant)
      .post("/api/auth/login/", { identifier: user.username, password });
    const other = LoggedInAnswer.parse(login.body).tokens;
    await rotate((await rotate(first)).refresh);

    await refresh(first);

    expect(await liveSessions(user)).toHaveLength(1);
    expect((await profile(other.access)).status).toBe(200);
  });

  test("of 100 parallel refreshes of one token all get one successor of one live login", async () => {
    const { user, refresh: first } = await api.signUp(tenant);

    const responses = await Promise.all(Array.from({ length: 100 }, () => refresh(first)));

    const successors = responses.map(({ body }) => Tokens.parse(body).refresh);
    expect(new Set(successors).size).toBe(1);
    expect(await liveSessions(user)).toHaveLength(1);
    expect((await refresh(successors[0] ?? "")).status).toBe(200);
  });

  test("of 100 parallel refreshes over two processes all are answered 200, and the log has one exchange", async () => {
    const { user, refresh: first } = await api.signUp(tenant);

    const apps = [api, replica];
    const responses = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        (apps[index % 2] ?? api)
          .client(tenant)
          .post("/api/auth/token/refresh/", { refresh: first }),
      ),
    );

    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
    const entries = await tenant.sql`
      select id from security_logs where user_id = ${user.id} and action = 'TOKEN_REFRESHED'`;
    expect(entries).toHaveLength(1);
  });

  test("whoever has the row, and not the key, makes no token of it", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    const [row] = await tenant.sql<{ id: number; salt: Uint8Array }[]>`
      select id, refresh_salt as salt from login_sessions where user_id = ${user.id}`;
    const { id = 0, salt = new Uint8Array() } = row ?? {};
    const stranger = new Keys({ secretKey: "another key", encryptionKey: "another key" });
    const forged = [
      stranger.mac("refresh-token", tenant.id, id, 0, salt),
      api.services.keys.mac("otp", tenant.id, id, 0, salt),
      createHmac("sha256", salt).update(`${id}.0`).digest(),
      Buffer.from(salt),
    ];

    for (const mac of forged) {
      expect(await refresh(`${id}.0.${mac.toString("base64url")}`)).toMatchObject({
        status: 401,
        body: { code: "token_revoked" },
      });
    }

    expect(await liveSessions(user)).toHaveLength(1);
    // The right key makes it: what was refused above differs in the key alone.
    const mac = api.services.keys.mac("refresh-token", tenant.id, id, 0, salt);
    expect(`${id}.0.${mac.toString("base64url")}`).toBe(first);
  });

  test.each([
    ["a number", 12],
    ["a list", ["1.0.x"]],
    ["nothing", null],
    ["an empty text", ""],
    ["a huge text", "1".repeat(10_000)],
    ["another kind of object", { toString: "1.0.x" }],
  ])("%s is no token: 400", async (_, token) => {
    const response = await api.client(tenant).post("/api/auth/token/refresh/", { refresh: token });

    expect(response).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });

  test.each([
    ["an access token", (user: SignedUpUser) => user.access],
    ["a number beyond what ids can be", () => `${"9".repeat(15)}.0.${"A".repeat(43)}`],
    ["a counter beyond what can be counted", () => `1.${"9".repeat(15)}.${"A".repeat(43)}`],
    ["a number of other digits", () => `١.0.${"A".repeat(43)}`],
  ])("%s is not one either", async (_, make) => {
    const user = await api.signUp(tenant);

    const response = await refresh(make(user));

    expect([400, 401]).toContain(response.status);
    expect(response.body).not.toHaveProperty("refresh");
    expect(await liveSessions(user.user)).toHaveLength(1);
  });

  test("a token of another tenant is refused and changes nothing there", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    const other = await api.createTenant();
    const before = await tenant.sql`select * from login_sessions where user_id = ${user.id}`;

    const response = await refresh(first, other);

    expect(response).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(await tenant.sql`select * from login_sessions where user_id = ${user.id}`).toEqual(
      before,
    );
    expect((await refresh(first)).status).toBe(200);
  });

  test("another tenant's login of the same number does not take it either", async () => {
    const { refresh: mine } = await api.signUp(tenant);
    const other = await api.createTenant();
    // The same id in both: only the key tells them apart.
    const [id] = mine.split(".");
    const theirs = await api.signUp(other);
    await other.sql`update login_sessions set id = ${id ?? ""} where user_id = ${theirs.user.id}`.catch(
      () => undefined,
    );

    expect((await refresh(mine, other)).status).toBe(401);
  });

  test("a token whose number, counter or mac was changed is refused, and the login goes on", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    const [id = "", counter = "", mac = ""] = first.split(".");
    const forged = [
      `${Number(id) + 1}.${counter}.${mac}`,
      `${id}.${Number(counter) + 1}.${mac}`,
      `${id}.${counter}.${"A".repeat(43)}`,
      `${id}.${counter}`,
      `${id}.0${counter}.${mac.slice(0, -1)}`,
      "' or 1=1",
    ];

    for (const token of forged) {
      expect(await refresh(token)).toMatchObject({
        status: 401,
        body: { code: "token_revoked" },
      });
    }
    expect(await liveSessions(user)).toHaveLength(1);
    expect((await refresh(first)).status).toBe(200);
  });

  test("a login that has expired is told so", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    await tenant.sql`
      update login_sessions set expires_at = now() - interval '1 second' where user_id = ${user.id}`;

    expect(await refresh(first)).toMatchObject({ status: 401, body: { code: "token_expired" } });
  });

  test("a disabled user gets no more tokens", async () => {
    const { user, refresh: first } = await api.signUp(tenant);
    await tenant.sql`update users set is_active = false where id = ${user.id}`;

    const response = await refresh(first);

    expect(response.status).toBe(401);
    const [row] =
      await tenant.sql`select refresh_counter from login_sessions where user_id = ${user.id}`;
    expect(row).toEqual({ refresh_counter: 0 });
  });

  test("no token of either kind is in the database or the log", async () => {
    const { user, access, refresh: first } = await api.signUp(tenant);
    const next = await rotate(first);
    await profile(next.access);

    const [row] = await tenant.sql`
      select login_sessions::text as text from login_sessions where user_id = ${user.id}`;
    const secrets = [first, next.refresh].map((token) => token.split(".")[2] ?? "");
    for (const secret of [...secrets, access, next.access]) {
      expect(row?.["text"]).not.toContain(secret);
      expect(api.logLines.join("")).not.toContain(secret);
    }
    for (const secret of secrets) {
      expect(row?.["text"]).not.toContain(Buffer.from(secret, "base64url").toString("hex"));
    }
  });
});

describe("POST /api/auth/logout/", () => {
  test("answers 205 without a body, and the access token is worth nothing, here and on a replica", async () => {
    const { user, access, refresh: token } = await api.signUp(tenant);
    expect((await profile(access)).status).toBe(200);
    expect((await profile(access, replica)).status).toBe(200);

    const response = await logout(access, token);

    expect(response).toMatchObject({ status: 205, body: undefined });
    expect(await profile(access)).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    await expect
      .poll(() => profile(access, replica), { timeout: 1_000, interval: 10 })
      .toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(await refresh(token)).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(
      await tenant.sql`
      select action from security_logs where user_id = ${user.id} and action = 'LOGOUT'`,
    ).toHaveLength(1);
  });

  test("another user's refresh token in the body is not touched", async () => {
    const mine = await api.signUp(tenant);
    const theirs = await api.signUp(tenant);

    expect((await logout(mine.access, theirs.refresh)).status).toBe(205);

    expect(await liveSessions(mine.user)).toEqual([]);
    expect(await liveSessions(theirs.user)).toHaveLength(1);
    expect((await refresh(theirs.refresh)).status).toBe(200);
    expect((await profile(theirs.access)).status).toBe(200);
  });

  test("the caller's other login ends with it when the token is that one's", async () => {
    const first = await api.signUp(tenant);
    const login = await api
      .client(tenant)
      .post("/api/auth/login/", { identifier: first.user.username, password: first.password });
    const second = LoggedInAnswer.parse(login.body).tokens;

    await logout(first.access, second.refresh);

    expect(await liveSessions(first.user)).toEqual([]);
  });

  test("without a token nobody is logged out", async () => {
    const { user, refresh: token } = await api.signUp(tenant);

    const response = await api.client(tenant).post("/api/auth/logout/", { refresh: token });

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(await liveSessions(user)).toHaveLength(1);
  });
});
