import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { newPhone, newSubdomain, PASSWORD, startTestApp, type TestApp } from "../../test/app.ts";
import { loggedInOperator, operatorCalls, turnFactorOn } from "../../test/operators.ts";
import { stopClock, totpCode, wrongTotpCode } from "../../test/second-factor.ts";
import { CreatedPlatformTenant, OperatorTokens, SupportToken } from "./schemas.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  vi.restoreAllMocks();
  await app.close();
});

/** Every text of the operators' tables and of the support sessions, bytes in hexadecimal. */
async function stored(): Promise<string> {
  const tables = ["operators", "sessions", "challenges", "failures", "logs"].map(
    (name) => `platform.${name}`,
  );
  const rows = await Promise.all(
    [...tables, "public.support_sessions"].map((name) =>
      app.registry.unsafe(`select coalesce(jsonb_agg(t), '[]')::text as text from ${name} t`),
    ),
  );
  return rows.map(([row]) => String(row?.["text"])).join("\n");
}

describe("secrets of operators", () => {
  test("are in no line of the log, no refusal and no table", async () => {
    stopClock();
    const calls = operatorCalls(app);
    const operator = await loggedInOperator(app);
    const totp = await turnFactorOn(app, operator);
    const begun = await calls.logIn(operator.email);
    const sessionId = (begun.body as { session_id: string }).session_id;
    const wrongCode = wrongTotpCode(totp);
    const code = totpCode(totp);
    const refusals = [
      await calls.logIn(operator.email, "a wrong password of somebody"),
      await calls.post("login-2fa-verify-code/", { session_id: sessionId, code: wrongCode }),
    ];
    const done = await calls.post("login-2fa-verify-code/", { session_id: sessionId, code });
    const { access, refresh } = OperatorTokens.parse(done.body).tokens;
    const refreshed = await calls.post("token/refresh/", { refresh });
    const subdomain = newSubdomain();
    const made = await calls.post(
      "tenants/",
      { name: "Acme", subdomain, owner: { email: `o@${subdomain}.test`, phone: newPhone() } },
      access,
    );
    const { id, password_link: link } = CreatedPlatformTenant.pick({
      id: true,
      password_link: true,
    }).parse(made.body);
    const support = await calls.post(`tenants/${id}/support-token/`, { reason: "a look" }, access);
    const { access: supportToken } = SupportToken.parse(support.body);
    await app.app.inject({
      url: "/api/company/",
      headers: { "x-tenant": subdomain, authorization: `Bearer ${supportToken}` },
    });
    refusals.push(await calls.get("tenants/999999999/", access));

    const secrets = {
      password: PASSWORD,
      wrong: "a wrong password of somebody",
      totp,
      sessionId,
      access,
      refresh,
      newRefresh: OperatorTokens.parse(refreshed.body).tokens.refresh,
      support: supportToken,
      link: new URL(link ?? "").hash.slice("#token=".length),
    };
    const places = {
      log: app.logLines.join("\n"),
      refusals: JSON.stringify(refusals),
      tables: await stored(),
    };

    // The places are looked into: what may be there is there.
    expect(places.tables).toContain(operator.email);
    expect(places.tables).toContain("a look");
    expect(places.log).toContain("/api/platform/tenants/");
    for (const [secret, text] of Object.entries(secrets)) {
      expect(text.length).toBeGreaterThan(10);
      const hexadecimal = Buffer.from(text).toString("hex");
      for (const [place, found] of Object.entries(places)) {
        const isThere = found.includes(text) || found.includes(hexadecimal);
        expect({ secret, place, isThere }).toEqual({ secret, place, isThere: false });
      }
    }
  });
});
