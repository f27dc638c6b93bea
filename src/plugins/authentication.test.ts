import { createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type SignedUpUser, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { keyId, Keys, randomToken } from "../keys.ts";

let api: TestApp;
let tenant: TestTenant;
let ada: SignedUpUser;
let claims: Record<string, unknown>;
/** What a token says of itself, the key it was signed with included. */
let header: { alg: string; kid: string; typ: string };

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  ada = await api.signUp(tenant);
  claims = decode(ada.access.split(".")[1]);
  header = { alg: "HS256", kid: keyId(api.services.keys.of("access-token")), typ: "at+jwt" };
});
afterAll(() => api.close());

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
  head: object,
  payload: object,
  key: Buffer = api.services.keys.of("access-token"),
): string {
  const { alg } = { alg: "", ...head };
  const text = `${encode(head)}.${encode(payload)}`;
  const hash = HASH_BY_ALGORITHM[alg];
  return `${text}.${hash === undefined ? "" : createHmac(hash, key).update(text).digest("base64url")}`;
}

const profile = (token: string, headers: Record<string, string> = {}) =>
  api.client(tenant).get("/api/account/profile/", { token, headers });

describe("an access token", () => {
  test("says who, where and which login, and nothing about the person", () => {
    expect(decode(ada.access.split(".")[0])).toEqual(header);
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
    expect((await profile(forge(header, claims))).status).toBe(200);
  });

  test.each<[string, () => string]>([
    ["a changed signature", () => `${ada.access.slice(0, -4)}AAAA`],
    [
      "another user's id under the old signature",
      () => {
        const [head = "", , signature = ""] = ada.access.split(".");
        return `${head}.${encode({ ...claims, sub: "1" })}.${signature}`;
      },
    ],
    ["another key", () => forge(header, claims, Buffer.alloc(32, 1))],
    ["an empty key", () => forge(header, claims, Buffer.of())],
    [
      "the key of refresh tokens",
      () => forge(header, claims, api.services.keys.of("refresh-token")),
    ],
    ["alg none", () => forge({ ...header, alg: "none" }, claims)],
    ["alg None with a signature", () => `${forge({ ...header, alg: "None" }, claims)}AAAA`],
    ["HS512", () => forge({ ...header, alg: "HS512" }, claims)],
    ["HS384", () => forge({ ...header, alg: "HS384" }, claims)],
    ["typ JWT", () => forge({ ...header, typ: "JWT" }, claims)],
    ["no typ", () => forge({ ...header, typ: undefined }, claims)],
    ["no kid", () => forge({ ...header, kid: undefined }, claims)],
    ["the kid of no key", () => forge({ ...header, kid: "AAAAAAAA" }, claims)],
    ["a kid that is no text", () => forge({ ...header, kid: [header.kid] }, claims)],
    ["a header that is no object", () => forge(["HS256"], claims)],
    ["a header that is no JSON", () => `AAAA.${encode(claims)}.AAAA`],
    ["another audience", () => forge(header, { ...claims, aud: "ouvira-platform" })],
    ["no audience", () => forge(header, { ...claims, aud: undefined })],
    ["another issuer", () => forge(header, { ...claims, iss: "somebody" })],
    ["no expiry", () => forge(header, { ...claims, exp: undefined })],
    ["no tenant", () => forge(header, { ...claims, tid: undefined })],
    ["a beginning in the future", () => forge(header, { ...claims, nbf: Number(claims["exp"]) })],
    ["a refresh token in its place", () => ada.refresh],
    ["a token of 256 random bits in its place", () => randomToken()],
    ["three dots", () => "..."],
  ])("with %s is refused", async (_, make) => {
    const response = await profile(make());

    expect(response).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(response.headers["www-authenticate"]).toBe("Bearer");
  });

  test("that has expired is told so, and stays refused when shown again", async () => {
    const now = Math.floor(Date.now() / 1_000);
    const expired = forge(header, { ...claims, iat: now - 3_601, nbf: now - 3_601, exp: now - 1 });

    for (let index = 0; index < 2; index += 1) {
      expect(await profile(expired)).toMatchObject({
        status: 401,
        body: { code: "token_expired" },
      });
    }
  });

  test("that was accepted is refused once it has expired", async () => {
    const token = forge(header, { ...claims, exp: Math.floor(Date.now() / 1_000) + 2 });
    expect((await profile(token)).status).toBe(200);

    await expect
      .poll(() => profile(token), { timeout: 4_000, interval: 100 })
      .toMatchObject({ status: 401, body: { code: "token_expired" } });
  });

  test.each([
    ["a login that never was", { sid: 999_999_999 }],
    ["a user that never was", { sub: "999999999" }],
  ])("of %s is revoked", async (_, change) => {
    const response = await profile(forge(header, { ...claims, ...change }));

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

describe("an access token after SECRET_KEY changed", () => {
  let withPrevious: TestApp;
  let without: TestApp;

  beforeAll(async () => {
    const secretKey = "the key after the rotation, of 32 characters and more";
    withPrevious = await api.startReplica({
      config: { secretKey, secretKeyPrevious: api.config.secretKey },
    });
    without = await api.startReplica({ config: { secretKey } });
  });

  const profileAt = (app: TestApp, token: string) =>
    app.client(tenant).get("/api/account/profile/", { token });
  const refused = { status: 401, body: { code: "authentication_required" } };

  test("signed with the previous key is accepted where that is known, and nowhere else", async () => {
    expect((await profileAt(withPrevious, ada.access)).status).toBe(200);
    expect(await profileAt(without, ada.access)).toMatchObject(refused);
  });

  test("is signed with the new key, and accepted by every process that has it", async () => {
    const { access } = await withPrevious.logIn(tenant, ada.user.username);

    expect(decode(access.split(".")[0])["kid"]).toBe(
      keyId(withPrevious.services.keys.of("access-token")),
    );
    expect((await profileAt(withPrevious, access)).status).toBe(200);
    expect((await profileAt(without, access)).status).toBe(200);
    expect(await profileAt(api, access)).toMatchObject(refused);
  });

  test("made by hand with the previous key is one: what follows differs in one thing", async () => {
    expect((await profileAt(withPrevious, forge(header, claims))).status).toBe(200);
  });

  test.each<[string, () => string]>([
    [
      "the kid of the previous key and the signature of the new one",
      () => forge(header, claims, withPrevious.services.keys.of("access-token")),
    ],
    [
      "the kid of the new key and the signature of the previous one",
      () => forge({ ...header, kid: keyId(withPrevious.services.keys.of("access-token")) }, claims),
    ],
    ["no kid", () => forge({ ...header, kid: undefined }, claims)],
    [
      "the previous key of another purpose",
      () => forge(header, claims, api.services.keys.of("refresh-token")),
    ],
    [
      "a key of two rotations ago",
      () => {
        const oldest = new Keys({ secretKey: "an older one", encryptionKey: "" });
        const key = oldest.of("access-token");
        return forge({ ...header, kid: keyId(key) }, claims, key);
      },
    ],
    ["alg none", () => forge({ ...header, alg: "none" }, claims)],
    ["HS512", () => forge({ ...header, alg: "HS512" }, claims)],
    ["typ JWT", () => forge({ ...header, typ: "JWT" }, claims)],
    ["no typ", () => forge({ ...header, typ: undefined }, claims)],
    ["another audience", () => forge(header, { ...claims, aud: "ouvira-platform" })],
    ["no audience", () => forge(header, { ...claims, aud: undefined })],
    ["another issuer", () => forge(header, { ...claims, iss: "somebody" })],
    ["no expiry", () => forge(header, { ...claims, exp: undefined })],
    ["no tenant", () => forge(header, { ...claims, tid: undefined })],
    ["a beginning in the future", () => forge(header, { ...claims, nbf: Number(claims["exp"]) })],
  ])("with %s is refused", async (_, make) => {
    expect(await profileAt(withPrevious, make())).toMatchObject(refused);
  });

  test("of the previous key that has expired is told so, however often it is shown", async () => {
    const now = Math.floor(Date.now() / 1_000);
    const expired = forge(header, { ...claims, iat: now - 3_601, nbf: now - 3_601, exp: now - 1 });

    for (let index = 0; index < 2; index += 1) {
      expect(await profileAt(withPrevious, expired)).toMatchObject({
        status: 401,
        body: { code: "token_expired" },
      });
    }
  });

  test("of the previous key is bound to its tenant too", async () => {
    const other = await api.createTenant();

    const response = await withPrevious
      .client(other)
      .get("/api/account/profile/", { token: ada.access });

    expect(response).toMatchObject({ status: 401, body: { code: "token_tenant_mismatch" } });
  });
});
