import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  newEmail,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const PATH = "/api/account/profile/";
const patch = (user: SignedUpUser, body: object) =>
  api.client(tenant).patch(PATH, body, { token: user.access });
const put = (user: SignedUpUser, body: object) =>
  api.client(tenant).put(PATH, body, { token: user.access });
const rowOf = async ({ user }: SignedUpUser) => {
  const [row] = await tenant.sql`
    select full_name, email, username, primary_mobile, is_tenant_admin, is_active
      from users where id = ${user.id}`;
  return row;
};
const pendingOf = ({ user }: SignedUpUser) =>
  tenant.sql`select email from email_verifications where user_id = ${user.id} order by id`;

describe("PATCH /api/account/profile/", () => {
  test("changes the name at once, and nothing else", async () => {
    const ada = await api.signUp(tenant);
    const before = await rowOf(ada);

    expect(await patch(ada, { full_name: "  Ada King " })).toMatchObject({
      status: 200,
      body: { full_name: "Ada King", email: ada.user.email },
    });
    expect(await rowOf(ada)).toEqual({ ...before, full_name: "Ada King" });
  });

  test("with another address sends a link there and keeps the old one until it is followed", async () => {
    const ada = await api.signUp(tenant);
    await api.verifyEmail(tenant, ada.user.email ?? "");
    const email = newEmail();

    const answer = await patch(ada, { email, current_password: PASSWORD });

    expect(answer).toMatchObject({ status: 200, body: { email: ada.user.email } });
    expect(await pendingOf(ada)).toEqual([{ email }]);
    await api.verifyEmail(tenant, email);
    expect(await rowOf(ada)).toMatchObject({ email });
    expect((await api.logIn(tenant, email)).access).toBeTruthy();
  });

  test("ends the password links that went to the old one, once it is followed", async () => {
    const ada = await api.signUp(tenant);
    const old = ada.user.email ?? "";
    await api.verifyEmail(tenant, old);
    await api.client(tenant).post("/api/auth/password/forgot/", { identifier: old });
    const token = tokenIn(await api.nextEmail(old));
    const email = newEmail();
    await patch(ada, { email, current_password: PASSWORD });
    await api.verifyEmail(tenant, email);

    const answer = await api
      .client(tenant)
      .post("/api/auth/password/reset/", { token, password: "another one entirely" });

    expect(answer).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect((await api.logIn(tenant, email)).access).toBeTruthy();
  });

  test("with the address there is already asks for no password", async () => {
    const ada = await api.signUp(tenant);
    const pending = await pendingOf(ada);

    expect((await patch(ada, { email: ada.user.email?.toUpperCase() })).status).toBe(200);
    expect(await pendingOf(ada)).toEqual(pending);
  });

  test.each([
    ["no password", {}, 400, "validation_error"],
    ["a wrong one", { current_password: "not the password" }, 401, "invalid_credentials"],
  ])("another address with %s is refused, and nothing changes", async (_, extra, status, code) => {
    const ada = await api.signUp(tenant);
    const [before, pending] = [await rowOf(ada), await pendingOf(ada)];

    const answer = await patch(ada, { full_name: "Other", email: newEmail(), ...extra });

    expect(answer).toMatchObject({ status, body: { code } });
    expect(await rowOf(ada)).toEqual(before);
    expect(await pendingOf(ada)).toEqual(pending);
  });

  test("wrong passwords count with those of the login", async () => {
    const ada = await api.signUp(tenant);
    for (let index = 0; index < 5; index += 1) {
      await patch(ada, { email: newEmail(), current_password: "not the password" });
    }

    expect(await patch(ada, { email: newEmail(), current_password: PASSWORD })).toMatchObject({
      status: 401,
    });
    const login = { identifier: ada.user.username, password: PASSWORD };
    expect((await api.client(tenant).post("/api/auth/login/", login)).status).toBe(401);
  });

  test.each([
    ["is_tenant_admin", true],
    ["is_active", false],
    ["username", "root"],
    ["primary_mobile", "+201001234567"],
    ["id", 1],
    ["full_name", "a\u0000b"],
    ["full_name", "Ada \ud800"],
    ["full_name", ""],
    ["full_name", "x".repeat(201)],
    ["full_name", null],
    ["email", "no address"],
    ["email", ["a@b.test"]],
  ])("%s: %j is refused, and nothing changes", async (field, value) => {
    const ada = await api.signUp(tenant);
    const before = await rowOf(ada);

    const answer = await patch(ada, { [field]: value });

    expect(answer).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await rowOf(ada)).toEqual(before);
  });
});

describe("PUT /api/account/profile/", () => {
  test("replaces what may be changed", async () => {
    const ada = await api.signUp(tenant);

    expect(await put(ada, { full_name: "Ada King", email: ada.user.email })).toMatchObject({
      status: 200,
      body: { full_name: "Ada King" },
    });
  });

  test.each([["full_name"], ["email"]])("needs %s", async (field) => {
    const ada = await api.signUp(tenant);
    const whole = { full_name: "Ada King", email: ada.user.email };
    const before = await rowOf(ada);

    const answer = await put(ada, { ...whole, [field]: undefined });

    expect(answer).toMatchObject({ status: 400, body: { errors: { [field]: expect.anything() } } });
    expect(await rowOf(ada)).toEqual(before);
  });
});
