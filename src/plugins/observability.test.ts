import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;
let access: string;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  ({ access } = await api.logIn(tenant, tenant.owner.email));
});
afterAll(() => api.close());

/** The line that a request leaves in the log. */
function lineOf(requestId: unknown): Record<string, unknown> {
  const line = api.logLines
    .map((text) => JSON.parse(text) as Record<string, unknown>)
    .find((entry) => entry["request_id"] === requestId);
  if (!line) throw new Error(`No line of ${String(requestId)}`);
  return line;
}

describe("a request", () => {
  test("leaves one line: who asked what of whom, how it ended and how long it took", async () => {
    const answer = await api.client(tenant).get("/api/company/99/?secret=x", { token: access });

    const line = lineOf(answer.headers["x-request-id"]);
    expect(line).toMatchObject({
      method: "GET",
      route: "/api/company/:id/",
      status: 404,
      tenant: tenant.subdomain,
      user: 1,
      ip: "127.0.0.1",
      msg: "request completed",
    });
    expect(line["duration_ms"]).toBeGreaterThan(0);
    expect(JSON.stringify(line)).not.toContain("secret");
  });

  test("that finds nothing is counted and logged without the text that was sent", async () => {
    const answer = await api.client(tenant).get("/nowhere/secret-path");

    expect(lineOf(answer.headers["x-request-id"])).toMatchObject({ route: "none", status: 404 });
    expect(api.logLines.join("")).not.toContain("secret-path");
  });

  test("is counted by route and status, with its time", async () => {
    await api.client(tenant).get("/api/account/profile/", { token: access });
    await api.client(tenant).get("/api/account/profile/");

    const figures = await api.services.metrics.registry.metrics();

    const count = (status: number) =>
      `ouvira_http_request_duration_seconds_count{method="GET",route="/api/account/profile/",status="${status}"} 1`;
    expect(figures).toContain(count(200));
    expect(figures).toContain(count(401));
    expect(figures).toMatch(/ouvira_cache_hits\{cache="principals"\} [1-9]/);
    expect(figures).toContain("ouvira_notifications_alive 1");
    expect(figures).toContain('ouvira_database_lane_statements_prepared{lane="0"}');
    // Nobody's name but that of tenants is in a label.
    expect(figures).not.toContain(tenant.owner.email);
  });
});

describe("slow statements", () => {
  test("are told of by their name, without values", async () => {
    const slow = await api.startReplica({ config: { slowQueryMs: 1 } });
    const database = slow.services.database.tenant(tenant.id);

    await database.query`select ${"a secret"}::text, pg_sleep(0.02) from users limit 1`;
    await database.transaction((tx) => tx`select ${"a secret"}::text, pg_sleep(0.02)`);

    const lines = slow.logLines
      .map((text) => JSON.parse(text) as Record<string, unknown>)
      .filter(({ msg }) => msg === "A statement took long");
    expect(lines).toContainEqual(
      expect.objectContaining({
        schema: `t_${tenant.id}`,
        statement: expect.stringMatching(/^select users #[0-9a-f]{8}$/),
      }),
    );
    expect(lines).toContainEqual(
      expect.objectContaining({ statement: expect.stringMatching(/^select #[0-9a-f]{8}$/) }),
    );
    expect(slow.logLines.join("")).not.toContain("a secret");
    expect(await slow.services.metrics.registry.metrics()).toMatch(
      /ouvira_slow_statements_total [2-9]/,
    );
  });
});
