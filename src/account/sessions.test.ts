import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import {
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { Session } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const list = async (token: string) => {
  const response = await api.client(tenant).get("/api/account/sessions/", { token });
  // What JSON writes as text.
  return z
    .array(
      Session.extend({ created_at: z.string(), last_used_at: z.string(), expires_at: z.string() }),
    )
    .parse(response.body);
};
const end = (id: number | string, token: string) =>
  api.client(tenant).delete(`/api/account/sessions/${id}/`, { token });
const liveOf = ({ user }: SignedUpUser) =>
  tenant.sql`select id from login_sessions where user_id = ${user.id} and ended_at is null order by id`;

describe("GET /api/account/sessions/", () => {
  test("lists the caller's live logins with device and address, the one that asks marked", async () => {
    const ada = await api.signUp(tenant);
    await api.signUp(tenant);
    const phone = await api.logIn(tenant, ada.user.username, PASSWORD, {
      headers: { "user-agent": "Phone/1.0" },
      remoteAddress: "203.0.113.7",
    });

    const sessions = await list(phone.access);

    expect(sessions).toHaveLength(2);
    expect(sessions[0]).toMatchObject({ device: "Phone/1.0", ip: "203.0.113.7", current: true });
    expect(sessions[1]).toMatchObject({ current: false });
  });

  test("leaves out what has ended or run out", async () => {
    const ada = await api.signUp(tenant);
    const other = await api.logIn(tenant, ada.user.username);
    await api
      .client(tenant)
      .post("/api/auth/logout/", { refresh: other.refresh }, { token: other.access });
    await api.logIn(tenant, ada.user.username);
    await tenant.sql`
      update login_sessions set expires_at = now() - interval '1 second'
       where id = (select max(id) from login_sessions where user_id = ${ada.user.id})`;

    expect(await list(ada.access)).toHaveLength(1);
  });

  test("needs a token", async () => {
    expect((await api.client(tenant).get("/api/account/sessions/")).status).toBe(401);
  });
});

describe("DELETE /api/account/sessions/{id}/", () => {
  test("ends a login: its tokens work no more, the caller's go on, an entry is left", async () => {
    const ada = await api.signUp(tenant);
    const other = await api.logIn(tenant, ada.user.username);
    const [first] = await list(other.access).then((sessions) =>
      sessions.filter(({ current }) => current),
    );

    const response = await end(first?.id ?? 0, ada.access);

    expect(response).toMatchObject({ status: 204, body: undefined });
    expect(
      (await api.client(tenant).get("/api/account/profile/", { token: other.access })).status,
    ).toBe(401);
    expect(
      (await api.client(tenant).get("/api/account/profile/", { token: ada.access })).status,
    ).toBe(200);
    const refreshed = await api
      .client(tenant)
      .post("/api/auth/token/refresh/", { refresh: other.refresh });
    expect(refreshed).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    const entries = await tenant.sql`
      select metadata ->> 'session' as session from security_logs
       where user_id = ${ada.user.id} and action = 'SESSION_ENDED'`;
    expect(entries).toEqual([{ session: String(first?.id) }]);
    expect((await end(first?.id ?? 0, ada.access)).status).toBe(404);
  });

  test("another user's login is not found, and goes on", async () => {
    const ada = await api.signUp(tenant);
    const bob = await api.signUp(tenant);
    const [bobs] = await list(bob.access);

    expect(await end(bobs?.id ?? 0, ada.access)).toMatchObject({
      status: 404,
      body: { code: "not_found" },
    });
    expect(await liveOf(bob)).toHaveLength(1);
  });

  test.each(["0", "-1", "1.5", "abc", "9007199254740993"])("%s is no id", async (id) => {
    const ada = await api.signUp(tenant);

    expect((await end(id, ada.access)).status).toBe(400);
    expect(await liveOf(ada)).toHaveLength(1);
  });
});
