import { createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type SignedUpUser, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;
let ada: SignedUpUser;
let claims: Record<string, unknown>;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  ada = await api.signUp(tenant);
  claims = decode(ada.access.split(".")[1]);
});
afterAll(() => api.close());

const HEADER = { alg: "HS256", typ: "at+jwt" };
const HASH_BY_ALGORITHM: Readonly<Record<string, string>> = {
  HS256: "sha256",
  HS384: "sha384",
  HS512: "sha512",
};

function decode(part = ""): Record<string, unknown> {
  // What this process signed.
  return JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
}

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token as RFC 7519 makes it, with the service's own key unless told otherwise. */
function forge(
  header: object,
  payload: object,
  key: Buffer = api.services.keys.of("access-token"),
): string {
  const { alg } = { alg: "", ...header };
  const text = `${encode(header)}.${encode(payload)}`;
  const hash = HASH_BY_ALGORITHM[alg];
  return `${text}.${hash === undefined ? "" : createHmac(hash, key).update(text).digest("base64url")}`;
}

const profile = (token: string, headers: Record<string, string> = {}) =>
  api.client(tenant).get("/api/account/profile/", { token, headers });

describe("an access token", () => {
  test("says who, where and which login, and nothing about the person", () => {
    expect(decode(ada.access.split(".")[0])).toEqual(HEADER);
    expect(Object.keys(claims).sort()).toEqual([
      "aud",
      "exp",
      "iat",
      "iss",
      "nbf",
      "sid",
      "sub",
      "tid",
    ]);
    expect(claims).toMatchObject({ sub: String(ada.user.id), tid: tenant.id });
    expect(Number(claims["exp"]) - Number(claims["iat"])).toBe(3_600);
  });

  test("made by hand with the right key and the right claims is one: what follows differs in one thing", async () => {
    expect((await profile(forge(HEADER, claims))).status).toBe(200);
  });

  test.each<[string, () => string]>([
    ["a changed signature", () => `${ada.access.slice(0, -4)}AAAA`],
    [
      "another user's id under the old signature",
      () => {
        const [header = "", , signature = ""] = ada.access.split(".");
        return `${header}.${encode({ ...claims, sub: "1" })}.${signature}`;
      },
    ],
    ["another key", () => forge(HEADER, claims, Buffer.alloc(32, 1))],
    ["an empty key", () => forge(HEADER, claims, Buffer.of())],
    [
      "the key of refresh tokens",
      () => forge(HEADER, claims, api.services.keys.of("refresh-token")),
    ],
    ["alg none", () => forge({ ...HEADER, alg: "none" }, claims)],
    ["alg None with a signature", () => `${forge({ ...HEADER, alg: "None" }, claims)}AAAA`],
    ["HS512", () => forge({ ...HEADER, alg: "HS512" }, claims)],
    ["HS384", () => forge({ ...HEADER, alg: "HS384" }, claims)],
    ["typ JWT", () => forge({ ...HEADER, typ: "JWT" }, claims)],
    ["no typ", () => forge({ alg: "HS256" }, claims)],
    ["another audience", () => forge(HEADER, { ...claims, aud: "ouvira-platform" })],
    ["no audience", () => forge(HEADER, { ...claims, aud: undefined })],
    ["another issuer", () => forge(HEADER, { ...claims, iss: "somebody" })],
    ["no expiry", () => forge(HEADER, { ...claims, exp: undefined })],
    ["no tenant", () => forge(HEADER, { ...claims, tid: undefined })],
    ["a beginning in the future", () => forge(HEADER, { ...claims, nbf: Number(claims["exp"]) })],
    ["a refresh token in its place", () => ada.refresh],
    ["three dots", () => "..."],
  ])("with %s is refused", async (_, make) => {
    const response = await profile(make());

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(response.headers["www-authenticate"]).toBe("Bearer");
  });

  test("that has expired is told so, and stays refused when shown again", async () => {
    const now = Math.floor(Date.now() / 1_000);
    const expired = forge(HEADER, { ...claims, iat: now - 3_601, nbf: now - 3_601, exp: now - 1 });

    for (let index = 0; index < 2; index += 1) {
      expect(await profile(expired)).toMatchObject({
        status: 401,
        body: { code: "token_expired" },
      });
    }
  });

  test("that was accepted is refused once it has expired", async () => {
    const token = forge(HEADER, { ...claims, exp: Math.floor(Date.now() / 1_000) + 2 });
    expect((await profile(token)).status).toBe(200);

    await expect
      .poll(() => profile(token), { timeout: 4_000, interval: 100 })
      .toMatchObject({ status: 401, body: { code: "token_expired" } });
  });

  test.each([
    ["a login that never was", { sid: 999_999_999 }],
    ["a user that never was", { sub: "999999999" }],
  ])("of %s is revoked", async (_, change) => {
    const response = await profile(forge(HEADER, { ...claims, ...change }));

    expect(response).toMatchObject({ status: 401, body: { code: "token_revoked" } });
  });

  test.each([
    ["no header", {}],
    ["another scheme", { authorization: "Basic YTpi" }],
    ["no token", { authorization: "Bearer" }],
    ["two tokens", { authorization: "Bearer a b" }],
  ])("%s: authentication_required", async (_, headers) => {
    const response = await api.client(tenant).get("/api/account/profile/", { headers });

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
  });

  test("the scheme's name may be in any case (RFC 9110 §11.1)", async () => {
    const headers = { authorization: `bearer ${ada.access}` };

    expect((await api.client(tenant).get("/api/account/profile/", { headers })).status).toBe(200);
  });

  test("of one tenant at another: token_tenant_mismatch, and no statement runs there", async () => {
    const other = await api.createTenant();
    await api.client(other).get("/api/account/profile/");
    const spy = vi.spyOn(api.services.database, "tenant");
    const find = vi.spyOn(api.services.principals, "find");

    const response = await api.client(other).get("/api/account/profile/", { token: ada.access });

    expect(response).toMatchObject({ status: 401, body: { code: "token_tenant_mismatch" } });
    expect(find).not.toHaveBeenCalled();
    // The way to its tables was made ready, and not taken: no lane has a statement for it.
    expect(spy).toHaveBeenCalledTimes(1);
    vi.restoreAllMocks();
    const activity = await api.registry`
      select 1 from pg_stat_activity where query like ${`%/*t_${other.id}*/%`} and pid <> pg_backend_pid()`;
    expect(activity).toEqual([]);
  });

  test("of a user who was disabled is 403 account_disabled", async () => {
    const user = await api.signUp(tenant);
    await tenant.sql`update users set is_active = false where id = ${user.user.id}`;
    await tenant.sql`select pg_notify('ouvira_principals', ${`${tenant.id}:${user.user.id}`})`;

    await expect
      .poll(() => profile(user.access), { timeout: 1_000, interval: 10 })
      .toMatchObject({ status: 403, body: { code: "account_disabled" } });
  });
});
