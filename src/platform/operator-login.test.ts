import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import {
  loggedInOperator,
  makeOperator,
  operatorCalls,
  turnFactorOn,
} from "../../test/operators.ts";
import { nextStep, stopClock, totpCode, wrongTotpCode } from "../../test/second-factor.ts";
import { withAdmin } from "../db/admin.ts";
import { Statement } from "../db/sql.ts";
import { disableOperator, resetOperator } from "./operators.ts";
import { OperatorTokens } from "./schemas.ts";

let app: TestApp;
let tenant: TestTenant;
let calls: ReturnType<typeof operatorCalls>;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
  calls = operatorCalls(app);
});
afterAll(() => app.close());
afterEach(() => vi.restoreAllMocks());

const statement = (table: string) => new Statement(`platform.${table}`, []);
const sessionIdIn = (body: unknown) => (body as { session_id: string }).session_id;
const tokensIn = (body: unknown) => OperatorTokens.parse(body).tokens;
const logOf = async (email: string) => {
  const rows = await app.registry`
    select action from platform.logs where operator_display = ${email} order by id`;
  return rows.map((row) => String(row["action"]));
};

describe("POST /api/platform/login/", () => {
  test("gives tokens that open the platform, and writes it down", async () => {
    const { email, tokens } = await loggedInOperator(app);

    expect(tokens.expires_in).toBe(600);
    expect((await calls.get("tenants/", tokens.access)).status).toBe(200);
    expect(await logOf(email)).toEqual(["LOGIN_SUCCEEDED"]);
  });

  test("forgets what is too old to be of use, and nothing else", async () => {
    const { email } = await loggedInOperator(app);
    await calls.logIn(email, "wrong password");
    const count = async () => {
      const [row] = await app.registry`
        select (select count(*)::int from platform.failures) as failures,
               (select count(*)::int from platform.sessions) as sessions`;
      return row;
    };
    const before = await count();
    await app.registry`
      insert into platform.failures (subject, network, updated_at)
      values ('old', '192.0.2.0/32', now() - interval '25 hours')`;
    await app.registry`
      insert into platform.sessions (operator_id, refresh_salt, expires_at)
      select id, 'old', now() - interval '91 days' from platform.operators where email = ${email}`;

    await calls.logIn(email);

    expect(await count()).toEqual({
      failures: before?.["failures"],
      sessions: Number(before?.["sessions"]) + 1,
    });
  });

  test("answers a wrong password, an unknown address and a disabled operator alike", async () => {
    const email = await makeOperator(app);
    const disabled = await makeOperator(app);
    await withAdmin(app.ownerUrl, (admin) => disableOperator(admin.query, disabled));

    const answers = [
      await calls.logIn(email, "wrong password"),
      await calls.logIn("nobody@ouvira.test"),
      await calls.logIn(disabled),
    ].map(({ status, body }) => ({ status, ...(body as object), request_id: "" }));

    expect(answers[0]).toMatchObject({ status: 401, code: "invalid_credentials" });
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
  });

  test("locks an account for a network after five wrong passwords, and for no other", async () => {
    const email = await makeOperator(app);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      await calls.logIn(email, "wrong password", "192.0.2.7");
    }

    expect((await calls.logIn(email, PASSWORD, "192.0.2.7")).status).toBe(401);
    expect((await calls.logIn(email, PASSWORD, "192.0.2.8")).status).toBe(200);
    expect(await logOf(email)).toEqual([
      ...Array.from({ length: 5 }, () => "LOGIN_FAILED"),
      "LOGIN_LOCKED",
      "LOGIN_SUCCEEDED",
    ]);
  });

  test("of twenty parallel tries no more than five are worth anything", async () => {
    const email = await makeOperator(app);

    await Promise.all(
      Array.from({ length: 20 }, () => calls.logIn(email, "wrong password", "192.0.2.9")),
    );

    expect((await calls.logIn(email, PASSWORD, "192.0.2.9")).status).toBe(401);
    const log = await logOf(email);
    expect(log.filter((action) => action === "LOGIN_FAILED")).toHaveLength(5);
  });

  test("refuses unknown fields and what is no address", async () => {
    const refused = await calls.post("login/", { email: "x", password: "y", admin: true });

    expect(refused).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });
});

describe("the second factor of an operator", () => {
  test("is asked for at the next login, takes each code once, and gives tokens", async () => {
    stopClock();
    const operator = await loggedInOperator(app);
    const secret = await turnFactorOn(app, operator);

    const begun = await calls.logIn(operator.email);
    const wrong = await calls.post("login-2fa-verify-code/", {
      session_id: sessionIdIn(begun.body),
      code: wrongTotpCode(secret),
    });
    const done = await calls.post("login-2fa-verify-code/", {
      session_id: sessionIdIn(begun.body),
      code: totpCode(secret),
    });
    const again = await calls.post("login-2fa-verify-code/", {
      session_id: sessionIdIn(begun.body),
      code: totpCode(secret),
    });

    expect(begun).toMatchObject({ status: 200, body: { requires_2fa: true } });
    expect(JSON.stringify(begun.body)).not.toContain("access");
    expect(wrong).toMatchObject({ status: 400, body: { code: "invalid_2fa_code" } });
    expect(done.status).toBe(200);
    expect(again).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect((await calls.get("tenants/", tokensIn(done.body).access)).status).toBe(200);
  });

  test("of twenty parallel submits of one code exactly one succeeds", async () => {
    stopClock();
    const operator = await loggedInOperator(app);
    const secret = await turnFactorOn(app, operator);
    const challenges: { body: unknown }[] = [];
    for (let login = 0; login < 4; login += 1) challenges.push(await calls.logIn(operator.email));
    const code = totpCode(secret);

    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        calls.post("login-2fa-verify-code/", {
          session_id: sessionIdIn(challenges[index % challenges.length]?.body),
          code,
        }),
      ),
    );

    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 400]));
  });

  test("five wrong codes and no code is accepted", async () => {
    stopClock();
    const operator = await loggedInOperator(app);
    const secret = await turnFactorOn(app, operator);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const { body } = await calls.logIn(operator.email);
      await calls.post("login-2fa-verify-code/", {
        session_id: sessionIdIn(body),
        code: wrongTotpCode(secret),
      });
    }

    const { body } = await calls.logIn(operator.email);
    const refused = await calls.post("login-2fa-verify-code/", {
      session_id: sessionIdIn(body),
      code: totpCode(secret),
    });

    expect(refused).toMatchObject({ status: 400, body: { code: "invalid_2fa_code" } });
    expect(await logOf(operator.email)).toContain("SECOND_FACTOR_LOCKED");
  });

  test("needs the password to begin, a code to be confirmed, and cannot be begun again", async () => {
    stopClock();
    const operator = await loggedInOperator(app);
    const { access } = operator.tokens;

    const unbegun = await calls.post("2fa/confirm/", { code: "123456" }, access);
    const wrong = await calls.post("2fa/enable/", { password: "wrong password" }, access);
    await turnFactorOn(app, operator);
    const again = await calls.post("2fa/enable/", { password: PASSWORD }, access);

    expect(unbegun).toMatchObject({ status: 409, body: { code: "conflict" } });
    expect(wrong).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
    expect(again).toMatchObject({ status: 409, body: { code: "conflict" } });
  });

  test("is compulsory in production: without it nothing else is open", async () => {
    stopClock();
    const production = await app.startReplica({
      config: { appEnv: "production", allowedHosts: ["localhost"], trustedProxies: ["127.0.0.1"] },
    });
    const secured = {
      get: async (token: string) =>
        production.app.inject({
          url: "/api/platform/tenants/",
          remoteAddress: "127.0.0.1",
          headers: { authorization: `Bearer ${token}`, "x-forwarded-proto": "https" },
        }),
    };
    const operator = await loggedInOperator(app);

    const before = await secured.get(operator.tokens.access);
    await turnFactorOn(app, operator);
    const after = await secured.get(operator.tokens.access);

    expect(before.json()).toMatchObject({ status: 403, code: "permission_denied" });
    expect(after.statusCode).toBe(200);
  });

  test("a secret is encrypted at rest, for this operator alone", async () => {
    stopClock();
    const [one, other] = [await loggedInOperator(app), await loggedInOperator(app)];
    const secret = await turnFactorOn(app, one);
    await turnFactorOn(app, other);
    // Somebody who can write the table gives their own secret to another operator.
    await app.registry`
      update platform.operators o
         set sealed_secret = (select sealed_secret from platform.operators where email = ${one.email})
       where email = ${other.email}`;
    nextStep();

    const { body } = await calls.logIn(other.email);
    const refused = await calls.post("login-2fa-verify-code/", {
      session_id: sessionIdIn(body),
      code: totpCode(secret),
    });

    expect(refused.status).toBeGreaterThanOrEqual(400);
    const rows = await app.registry`select sealed_secret from platform.operators`;
    expect(rows.some((row) => String(row["sealed_secret"]).includes(secret))).toBe(false);
  });
});

describe("tokens of operators", () => {
  test("refresh rotates; the one before works once more; anything older ends the login", async () => {
    const { tokens } = await loggedInOperator(app);
    const refresh = (token: string) => calls.post("token/refresh/", { refresh: token });

    const second = await refresh(tokens.refresh);
    const repeated = await refresh(tokens.refresh);
    const third = await refresh(tokensIn(second.body).refresh);
    const reused = await refresh(tokens.refresh);
    const afterwards = await refresh(tokensIn(third.body).refresh);

    expect([second.status, repeated.status, third.status]).toEqual([200, 200, 200]);
    expect(tokensIn(repeated.body).refresh).toBe(tokensIn(second.body).refresh);
    expect(reused).toMatchObject({ status: 401, body: { code: "refresh_reused" } });
    expect(afterwards).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(await calls.get("tenants/", tokensIn(third.body).access)).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });
  });

  test("logout ends the access token at once", async () => {
    const { tokens } = await loggedInOperator(app);

    const out = await calls.post("logout/", undefined, tokens.access);

    expect(out.status).toBe(205);
    expect((await calls.get("tenants/", tokens.access)).status).toBe(401);
    expect((await calls.post("token/refresh/", { refresh: tokens.refresh })).status).toBe(401);
  });

  test.each([
    ["disabled", disableOperator],
    [
      "reset",
      (query: Parameters<typeof disableOperator>[0], email: string) =>
        resetOperator(query, email, "p1$none"),
    ],
  ])("an operator who is %s is out at once", async (_, change) => {
    const { email, tokens } = await loggedInOperator(app);

    await withAdmin(app.ownerUrl, (admin) => change(admin.query, email));

    expect((await calls.get("tenants/", tokens.access)).status).toBe(401);
    expect((await calls.post("token/refresh/", { refresh: tokens.refresh })).status).toBe(401);
  });

  test("are worth nothing in a tenant, and a tenant's are worth nothing here", async () => {
    const { tokens } = await loggedInOperator(app);
    const { access, refresh } = await app.logIn(tenant, tenant.owner.email);

    const inTenant = await app.client(tenant).get("/api/account/users/", { token: tokens.access });
    const refreshedThere = await app
      .client(tenant)
      .post("/api/auth/token/refresh/", { refresh: tokens.refresh });
    const here = await calls.get("tenants/", access);
    const refreshedHere = await calls.post("token/refresh/", { refresh });

    expect(inTenant).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(refreshedThere).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(here).toMatchObject({ status: 401, body: { code: "authentication_required" } });
    expect(refreshedHere).toMatchObject({ status: 401, body: { code: "token_revoked" } });
  });
});

describe("who may not", () => {
  test("a process without the owner's rights has no such routes", async () => {
    const plain = await app.startReplica({ isPlatform: false });

    const response = await plain.app.inject({
      method: "POST",
      url: "/api/platform/login/",
      body: { email: "a@b.test", password: "x" },
    });

    expect(response.statusCode).toBe(404);
    expect(response.json()).toMatchObject({ code: "not_found" });
  });

  test("the role that serves tenants reads nothing of operators", async () => {
    for (const table of ["operators", "sessions", "challenges", "failures", "logs"]) {
      await expect(
        app.services.database.registry.query`select 1 from ${statement(table)}`,
      ).rejects.toMatchObject({ code: "42501" });
    }
  });

  test("every route refuses nobody, a tenant's admin and a changed token", async () => {
    const document = app.app.swagger();
    const { access: tenants } = await app.logIn(tenant, tenant.owner.email);
    const { tokens } = await loggedInOperator(app);
    const changed = `${tokens.access.slice(0, -2)}${tokens.access.endsWith("A") ? "BB" : "AA"}`;
    const guarded = Object.entries(document.paths ?? {})
      .filter(([url]) => url.startsWith("/api/platform/"))
      .flatMap(([url, methods]) =>
        Object.entries(methods ?? {})
          .filter(
            ([, operation]) => ((operation as { security?: unknown[] }).security ?? []).length > 0,
          )
          .map(([method]) => ({ url, method: method.toUpperCase() as "GET" })),
      );

    expect(guarded.length).toBeGreaterThan(12);
    for (const { url, method } of guarded) {
      for (const token of [undefined, tenants, changed]) {
        const response = await app.app.inject({
          method,
          url: url.replaceAll(/\{\w+\}/g, String(tenant.id)),
          remoteAddress: "198.51.100.9",
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
          ...(method === "GET" ? {} : { body: {} }),
        });
        expect([method, url, response.statusCode]).toEqual([method, url, 401]);
      }
    }
  });
});
