import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { newEmail, PASSWORD, type TestTenant } from "../../../test/app.ts";
import { makeOperator } from "../../../test/operators.ts";
import { NO_LIMITS, times } from "../../../test/limits.ts";
import {
  createOuvira,
  OuviraError,
  type OuviraOptions,
  tokensInMemory,
  UnexpectedAnswerError,
} from "../src/client.ts";
import { type Service, startService } from "./service.ts";

let service: Service;
let tenant: TestTenant;

beforeAll(async () => {
  service = await startService();
  tenant = await service.api.createTenant();
});
afterAll(() => service.close());
beforeEach(() => service.countAnew());

/** A client of the test's tenant, and what it told of ended logins. */
function client(options: Partial<OuviraOptions> = {}) {
  const loggedOut = vi.fn<(reason: OuviraError) => void>();
  const ouvira = createOuvira({
    baseUrl: service.url,
    tenant: tenant.subdomain,
    onLoggedOut: loggedOut,
    ...options,
  });
  return { ouvira, loggedOut };
}

/** What a call was refused with. */
async function refusalOf(call: Promise<unknown>): Promise<OuviraError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof OuviraError) return error;
  throw new Error("The API refused nothing", { cause: error });
}

const owner = () => ({ identifier: tenant.owner.email, password: PASSWORD });

async function loggedIn(options: Partial<OuviraOptions> = {}) {
  const made = client(options);
  const answer = await made.ouvira.POST("/api/auth/login/", { body: owner() });
  if ("requires_2fa" in answer) throw new Error("No second factor is on");
  await made.ouvira.keepTokens(answer.tokens);
  return { ...made, tokens: answer.tokens };
}

/** Of the owner's newest login: how often its refresh token was exchanged, and what ended it. */
async function newestLogin(): Promise<unknown> {
  const [row] = await tenant.sql`
    select refresh_counter, ended_because from login_sessions order by id desc limit 1`;
  return row;
}

describe("a call", () => {
  test("is made as the tenant and the user, and gives the body of the answer", async () => {
    const { ouvira } = await loggedIn();

    const made = await ouvira.POST("/api/company/", { body: { name: "Analytical Engines" } });
    const list = await ouvira.GET("/api/company/", { params: { query: { search: "Analytical" } } });

    expect(list).toMatchObject({
      count: 1,
      results: [{ id: made.id, name: "Analytical Engines" }],
    });
  });

  test("that is refused throws the code, the fields, and the id in the log", async () => {
    const { ouvira } = await loggedIn();

    const refusal = await refusalOf(ouvira.POST("/api/company/", { body: { name: "" } }));

    expect(refusal).toMatchObject({
      name: "OuviraError",
      status: 400,
      code: "validation_error",
      message: refusal.detail,
      errors: { name: [expect.any(String)] },
    });
    expect(service.api.logLines.join("")).toContain(refusal.requestId);
    expect(await tenant.sql`select id from companies where name = ''`).toEqual([]);
  });

  test("that comes too soon throws after how many seconds to try again", async () => {
    const limits = { ...NO_LIMITS, login: { count: 1, windowMs: 60_000 } };
    const { app } = await service.api.startReplica({ config: { rateLimits: limits } });
    const { ouvira } = client({ baseUrl: await app.listen({ host: "127.0.0.1", port: 0 }) });
    await ouvira.POST("/api/auth/login/", { body: owner() });

    const refusal = await refusalOf(ouvira.POST("/api/auth/login/", { body: owner() }));

    expect(refusal).toMatchObject({ code: "rate_limited", status: 429 });
    expect(refusal.retryAfterSeconds).toBeGreaterThan(0);
    expect(refusal.retryAfterSeconds).toBeLessThanOrEqual(60);
  });

  test("that nobody answers throws what fetch throws", async () => {
    const { ouvira } = client({ baseUrl: "http://127.0.0.1:1" });

    await expect(ouvira.GET("/healthz")).rejects.toThrow(TypeError);
  });

  test.each([502, 200])(
    "that a proxy answers with its own %d page is told apart",
    async (status) => {
      const proxy = createServer((_request, response) => {
        response.writeHead(status, { "content-type": "text/html" }).end("<h1>Bad Gateway</h1>");
      });
      await once(proxy.listen(0, "127.0.0.1"), "listening");
      // It listens at an address and a port.
      const { port } = proxy.address() as AddressInfo;
      const { ouvira } = client({ baseUrl: `http://127.0.0.1:${port}` });
      try {
        await expect(ouvira.GET("/api/company/")).rejects.toThrow(UnexpectedAnswerError);
      } finally {
        proxy.closeAllConnections();
        proxy.close();
      }
    },
  );

  test("sends bytes with their type, and reads them", async () => {
    const { ouvira } = await loggedIn();
    const { id } = await ouvira.POST("/api/company/", { body: { name: "Engines" } });
    const path = { params: { path: { id } } };

    await ouvira.PUT("/api/company/{id}/logo/", { ...path, body: PNG });
    const logo = await ouvira.GET("/api/company/{id}/logo/", path);

    expect(logo).toMatchObject({ type: "image/png", size: PNG.size });
  });
});

describe("an access token that has expired", () => {
  test("without the client knowing, is exchanged once for 20 calls, which are sent again", async () => {
    const { ouvira, loggedOut } = client();
    await ouvira.keepTokens(await service.expiredLogin(tenant));

    const profiles = await Promise.all(times(20, () => ouvira.GET("/api/account/profile/")));

    expect(profiles.map(({ email }) => email)).toEqual(times(20, () => tenant.owner.email));
    expect(service.count("POST /api/auth/token/refresh/")).toBe(1);
    expect(service.count("GET /api/account/profile/")).toBe(40);
    expect(await newestLogin()).toEqual({ refresh_counter: 1, ended_because: null });
    expect(loggedOut).not.toHaveBeenCalled();
  });

  test("as the client knows, is exchanged once before 20 calls are sent", async () => {
    const { ouvira } = client();
    await ouvira.keepTokens({ ...(await service.expiredLogin(tenant)), expires_in: 0 });

    await Promise.all(times(20, () => ouvira.GET("/api/account/profile/")));

    expect(service.count("POST /api/auth/token/refresh/")).toBe(1);
    expect(service.count("GET /api/account/profile/")).toBe(20);
  });

  test("is exchanged with what the last exchange gave", async () => {
    const tokens = tokensInMemory();
    const { ouvira } = client({ tokens });
    await ouvira.keepTokens(await service.expiredLogin(tenant));

    for (const _ of times(3, () => undefined)) {
      await ouvira.GET("/api/account/profile/");
      const kept = await tokens.read();
      if (kept) await tokens.write({ ...kept, expiresAt: 0 });
    }

    expect(await newestLogin()).toEqual({ refresh_counter: 3, ended_because: null });
  });

  test("ends the login when its refresh token is refused, for all calls and told once", async () => {
    const { ouvira, loggedOut } = client();
    await ouvira.keepTokens(await service.expiredLogin(tenant));
    await tenant.sql`update login_sessions set ended_at = now(), ended_because = 'revoked'`;

    const refusals = await Promise.all(
      times(20, () => refusalOf(ouvira.GET("/api/account/profile/"))),
    );

    expect(refusals.map(({ code }) => code)).toEqual(times(20, () => "token_expired"));
    expect(service.count("POST /api/auth/token/refresh/")).toBe(1);
    expect(loggedOut.mock.calls.map(([{ code }]) => code)).toEqual(["token_revoked"]);
    expect(await ouvira.isLoggedIn()).toBe(false);
  });

  test("does not end the login when the answer to the exchange is lost", async () => {
    const { ouvira, loggedOut } = client();
    await ouvira.keepTokens(await service.expiredLogin(tenant));
    service.loseAnswerTo("POST /api/auth/token/refresh/");

    await expect(ouvira.GET("/api/account/profile/")).rejects.toThrow(TypeError);
    const profile = await ouvira.GET("/api/account/profile/");

    expect(profile.email).toBe(tenant.owner.email);
    expect(await newestLogin()).toEqual({ refresh_counter: 1, ended_because: null });
    expect(loggedOut).not.toHaveBeenCalled();
  });

  test("is exchanged by two tabs without locks, and both stay logged in", async () => {
    const tokens = tokensInMemory();
    const tabs = [client({ tokens }), client({ tokens })];
    await tabs[0]?.ouvira.keepTokens(await service.expiredLogin(tenant));

    const answers = tabs.flatMap(({ ouvira }) =>
      times(10, () => ouvira.GET("/api/account/profile/")),
    );

    expect(await Promise.all(answers)).toHaveLength(20);
    expect(await newestLogin()).toEqual({ refresh_counter: 1, ended_because: null });
  });

  test("is not exchanged for somebody who logs out meanwhile", async () => {
    const { ouvira } = client();
    await ouvira.keepTokens({ ...(await service.expiredLogin(tenant)), expires_in: 0 });

    const call = ouvira.GET("/api/account/profile/");
    await Promise.allSettled([call, ouvira.logOut()]);

    expect(await ouvira.isLoggedIn()).toBe(false);
    expect(await newestLogin()).toMatchObject({ ended_because: "logout" });
  });

  test("refuses a call whose body is a stream, which is not sent again", async () => {
    const { ouvira } = await loggedIn();
    const { id } = await ouvira.POST("/api/company/", { body: { name: "Streams" } });
    const path = { params: { path: { id } } };
    const upload = () =>
      ouvira.PUT("/api/company/{id}/logo/", {
        ...path,
        headers: { "Content-Type": "image/png" },
        body: PNG.stream(),
      });
    await ouvira.keepTokens(await service.expiredLogin(tenant));

    const refusal = await refusalOf(upload());

    expect(refusal.code).toBe("token_expired");
    expect(service.count(`PUT /api/company/${id}/logo/`)).toBe(1);
    // The tokens were exchanged all the same: its second try is not in vain.
    expect(await upload()).toMatchObject({ bytes: PNG.size });
  });
});

describe("a login", () => {
  test("that was ended elsewhere is forgotten at the next call, without an exchange", async () => {
    const { ouvira, loggedOut, tokens } = await loggedIn();
    const elsewhere = client();
    await elsewhere.ouvira.keepTokens(tokens);
    await elsewhere.ouvira.logOut();

    const refusal = await refusalOf(ouvira.GET("/api/account/profile/"));

    expect(refusal.code).toBe("token_revoked");
    expect(loggedOut).toHaveBeenCalledExactlyOnceWith(refusal);
    expect(await ouvira.isLoggedIn()).toBe(false);
    expect(service.count("POST /api/auth/token/refresh/")).toBe(0);
  });

  test("goes on after a wrong password in a call that asks for one", async () => {
    const { ouvira, loggedOut } = await loggedIn();

    const refusal = await refusalOf(
      ouvira.POST("/api/auth/settings_backup-codes/", { body: { password: "wrong" } }),
    );

    expect(refusal).toMatchObject({ status: 401, code: "invalid_credentials" });
    expect(loggedOut).not.toHaveBeenCalled();
    expect(await ouvira.isLoggedIn()).toBe(true);
  });

  test("that is missing is told, and a call that needs none is made without", async () => {
    const { ouvira, loggedOut } = client();

    expect(await ouvira.GET("/healthz")).toMatchObject({ status: "ok" });
    expect(loggedOut).not.toHaveBeenCalled();
    const refusal = await refusalOf(ouvira.GET("/api/account/profile/"));

    expect(refusal.code).toBe("authentication_required");
    expect(loggedOut).toHaveBeenCalledExactlyOnceWith(refusal);
  });

  test("of another tenant is refused and forgotten, and goes on there", async () => {
    const { tokens } = await loggedIn();
    const other = client({ tenant: (await service.api.createTenant()).subdomain });
    await other.ouvira.keepTokens(tokens);

    const refusal = await refusalOf(other.ouvira.GET("/api/account/profile/"));

    expect(refusal.code).toBe("token_tenant_mismatch");
    expect(await other.ouvira.isLoggedIn()).toBe(false);
    expect(await newestLogin()).toMatchObject({ ended_because: null });
  });

  test("that is stale does not stand in the way of the next", async () => {
    const { ouvira, loggedOut } = client();
    await ouvira.keepTokens({ access: "old", refresh: "old", expires_in: 0 });

    const answer = await ouvira.POST("/api/auth/login/", { body: owner() });

    expect(answer).toMatchObject({ user: { email: tenant.owner.email } });
    expect(loggedOut).not.toHaveBeenCalled();
  });

  test("ends on both sides with logOut, which is not told", async () => {
    const { ouvira, loggedOut } = await loggedIn();

    await ouvira.logOut();

    expect(await ouvira.isLoggedIn()).toBe(false);
    expect(await newestLogin()).toMatchObject({ ended_because: "logout" });
    expect(loggedOut).not.toHaveBeenCalled();
  });

  test("ends on both sides, though its access token had expired without the client knowing", async () => {
    const { ouvira } = client();
    await ouvira.keepTokens(await service.expiredLogin(tenant));

    await ouvira.logOut();

    expect(await ouvira.isLoggedIn()).toBe(false);
    expect(await newestLogin()).toMatchObject({ ended_because: "logout" });
  });

  test("is forgotten by a logOut that the API does not hear of, which fails", async () => {
    const { ouvira } = await loggedIn();
    service.loseAnswerTo("POST /api/auth/logout/");

    await expect(ouvira.logOut()).rejects.toThrow(TypeError);

    expect(await ouvira.isLoggedIn()).toBe(false);
  });

  test("begins with a sign-up", async () => {
    const { ouvira } = client();
    const phone = "+201001234567";
    const email = newEmail();
    const proof = await service.api.verifyPhone(tenant, phone);

    const { tokens } = await ouvira.POST("/api/auth/finalize-signin/", {
      body: { primary_mobile: phone, verification_token: proof, email, password: PASSWORD },
    });
    await ouvira.keepTokens(tokens);

    expect(await ouvira.GET("/api/account/profile/")).toMatchObject({
      email,
      phone_verified: true,
    });
  });
});

describe("a client of an operator", () => {
  test("exchanges and ends the login of the platform", async () => {
    const email = await makeOperator(service.api);
    const tokens = tokensInMemory();
    const { ouvira } = client({ tenant: undefined, isOperator: true, tokens });
    const answer = await ouvira.POST("/api/platform/login/", {
      body: { email, password: PASSWORD },
    });
    if ("requires_2fa" in answer) throw new Error("No second factor is on");
    await ouvira.keepTokens({ ...answer.tokens, expires_in: 0 });

    const tenants = await ouvira.GET("/api/platform/tenants/");
    const after = await tokens.read();
    await ouvira.logOut();

    expect(tenants.results.map(({ subdomain }) => subdomain)).toContain(tenant.subdomain);
    expect(after?.refresh).not.toBe(answer.tokens.refresh);
    expect(service.count("POST /api/platform/token/refresh/")).toBe(1);
    expect(service.count("POST /api/platform/logout/")).toBe(1);
    expect(await ouvira.isLoggedIn()).toBe(false);
  });
});

/** A picture of one pixel. */
const PNG = new Blob(
  [
    Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      "base64",
    ),
  ],
  { type: "image/png" },
);
