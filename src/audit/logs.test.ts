import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, World } from "../../test/world.ts";
import { activitySource } from "./activity-logs.ts";
import { pageStatement } from "./log-pages.ts";
import { securitySource } from "./security-logs.ts";

let app: TestApp;
let tenant: TestTenant;
let world: World;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
});

interface Page {
  count: number;
  next: string | null;
  previous: string | null;
  next_cursor: string | null;
  results: { id: number; company: number | null; user: number | null; action: string }[];
}

async function list(person: Person, query: string, path = "activity-logs/"): Promise<Page> {
  const { status, body } = await world.as(person).get(`/api/audit/${path}?${query}`);
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`);
  // What the contract says of a 200.
  return body as Page;
}

async function refusal(person: Person, query: string, path = "activity-logs/"): Promise<number> {
  return (await world.as(person).get(`/api/audit/${path}?${query}`)).status;
}

/** Entries of C, a second apart, the newest last; gives their ids. */
async function write(
  count: number,
  fields: { company?: number | null; user?: number; entity?: string; action?: string } = {},
): Promise<number[]> {
  const { company = world.company, user = null, entity = "Company", action = "UPDATE" } = fields;
  const rows = await tenant.sql<{ id: number }[]>`
    insert into activity_logs (
      user_id, user_display, company_id, entity_type, entity_id, action, ip_address, created_at
    )
    select ${user}, 'ada', ${company}, ${entity}, n, ${action}, '203.0.113.7',
           now() - make_interval(secs => ${count}::int - n)
      from generate_series(1, ${count}::int) as n
    returning id`;
  return rows.map(({ id }) => id);
}

describe("GET /api/audit/activity-logs/", () => {
  test("gives a change as it was made: who, where, the fields that differ, from where", async () => {
    const owner = await world.person("owner");
    await world.as(owner).patch(`/api/company/${world.company}/`, { address: "1 Main Street" });

    const { results } = await list(owner, `company=${world.company}`);

    expect(results).toEqual([
      {
        id: expect.any(Number),
        user: owner.id,
        user_display: owner.email,
        company: world.company,
        date: Number(new Date().toISOString().slice(0, 10).replaceAll("-", "")),
        entity_type: "Company",
        entity_id: world.company,
        action: "UPDATE",
        old_values: { address: "" },
        new_values: { address: "1 Main Street" },
        ip_address: "127.0.0.1",
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      },
    ]);
  });

  test("shows members the companies where they hold audit.view, and those alone", async () => {
    const auditor = await world.memberHolding(["audit.view"]);
    const [own = 0] = await write(1);
    await write(1, { company: world.otherCompany });
    await write(1, { company: null });
    await world.member(auditor.id, world.otherCompany, ["Member"]);

    const ids = (await list(auditor, "page_size=100")).results.map(({ id }) => id);

    expect(ids).toEqual([own]);
    expect(await refusal(auditor, `company=${world.otherCompany}`)).toBe(403);
  });

  test("merges the companies of somebody who audits several, newest first, page by page", async () => {
    const auditor = await world.memberHolding(["audit.view"]);
    await world.member(auditor.id, world.otherCompany, ["Admin"]);
    const mixed: number[] = [];
    for (let round = 0; round < 5; round += 1) {
      mixed.push(...(await write(1)), ...(await write(1, { company: world.otherCompany })));
    }

    const seen: number[] = [];
    let cursor = "";
    do {
      const page = await list(auditor, `page_size=3${cursor}`);
      seen.push(...page.results.map(({ id }) => id));
      cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
    } while (cursor !== "");

    expect(seen).toEqual(mixed.toReversed());
  });

  test("shows an admin of the tenant everything, and what is no company's", async () => {
    const admin = await world.person("tenant admin");
    const [none = 0] = await write(1, { company: null });

    const { results } = await list(admin, "page_size=1");

    expect(results).toMatchObject([{ id: none, company: null }]);
  });

  test("filters by entity, action, user and time", async () => {
    const admin = await world.person("owner");
    const [a = 0, b = 0] = await write(2, { user: admin.id, entity: "Role", action: "CREATE" });
    await write(2, { entity: "Company", action: "DELETE" });
    await tenant.sql`
      update activity_logs set created_at = '2026-03-01T23:59:59.999999Z' where id = ${a}`;
    await tenant.sql`update activity_logs set created_at = '2026-03-02T00:00:00Z' where id = ${b}`;
    const ids = async (query: string) =>
      (await list(admin, `company=${world.company}&${query}`)).results.map(({ id }) => id);

    expect(await ids("entity_type=Role")).toEqual([b, a]);
    expect(await ids("entity_type=Role&entity_id=1")).toEqual([a]);
    expect(await ids("action=CREATE")).toEqual([b, a]);
    expect(await ids(`user=${admin.id}`)).toEqual([b, a]);
    expect(await ids("from=2026-03-01&to=2026-03-01")).toEqual([a]);
    expect(await ids("from=2026-03-02&to=2026-03-02")).toEqual([b]);
    expect(await ids("to=2026-03-02T00:00:00Z")).toEqual([b, a]);
    expect(await ids("to=2026-03-01T23:59:59.998Z")).toEqual([]);
    expect(await ids("from=2026-03-02T02:00:00%2B02:00&to=2026-03-02")).toEqual([b]);
    expect(await ids("entity_type=Nothing")).toEqual([]);
  });

  test.each([
    "from=yesterday",
    "from=2026-02-30",
    "from=0000-01-01",
    "to=0000-01-01T00:00:00Z",
    "from=9999-12-31T23:59:59-23:59",
    "from=2026-03-02&to=2026-03-01",
    "page=0",
    "page=1&cursor=MS4x",
    "cursor=",
    "cursor=x",
    "cursor=LTEuLTE",
    "cursor=MS4xOyBkcm9wIHRhYmxl",
    "page_size=101",
    "user=x",
    "company=1.5",
    "company=9223372036854775808",
    "colour=red",
  ])("refuses ?%s", async (query) => {
    expect(await refusal(await world.person("owner"), query)).toBe(400);
  });

  test("pages by cursor are not shifted by what is written meanwhile", async () => {
    const owner = await world.person("owner");
    const ids = await write(5);
    await tenant.sql`
      update activity_logs set created_at = created_at - interval '1 hour' where id = any(${ids})`;
    const first = await list(owner, `company=${world.company}&page_size=2`);
    await write(3);

    const second = await list(
      owner,
      `company=${world.company}&page_size=2&cursor=${first.next_cursor}`,
    );
    const third = await list(
      owner,
      `company=${world.company}&page_size=2&cursor=${second.next_cursor}`,
    );

    expect([...first.results, ...second.results, ...third.results].map(({ id }) => id)).toEqual(
      ids.toReversed(),
    );
    expect(third).toMatchObject({ next: null, next_cursor: null, previous: null });
    expect(new URL(first.next ?? "").searchParams.get("page")).toBe("2");
    expect(new URL(second.next ?? "").searchParams.get("cursor")).toBe(second.next_cursor);
  });

  test("tells entries of one microsecond apart by their ids", async () => {
    const owner = await world.person("owner");
    const ids = await write(4);
    await tenant.sql`
      update activity_logs set created_at = '2026-03-01T10:00:00.123456Z' where id = any(${ids})`;

    const seen: number[] = [];
    let cursor = "";
    for (let page = 0; page < 4; page += 1) {
      const { results, next_cursor: next } = await list(
        owner,
        `company=${world.company}&page_size=1${cursor}`,
      );
      seen.push(...results.map(({ id }) => id));
      cursor = `&cursor=${next}`;
    }

    expect(seen).toEqual(ids.toReversed());
  });

  test("counts to ten thousand, and goes on by cursor from there", async () => {
    const owner = await world.person("owner");
    await write(10_050);

    const last = await list(owner, `company=${world.company}&page_size=100&page=100`);

    expect(last.count).toBe(10_000);
    expect(await refusal(owner, `company=${world.company}&page_size=100&page=101`)).toBe(404);
    const beyond = await list(
      owner,
      `company=${world.company}&page_size=100&cursor=${last.next_cursor}`,
    );
    expect(beyond.results).toHaveLength(50);
    expect(new URL(last.next ?? "").searchParams.get("cursor")).toBe(last.next_cursor);
  });

  test("reads a deep page of each filter by an index in the log's order, and sorts no log", async () => {
    const other = await app.createTenant();
    await other.sql`
      insert into activity_logs (user_display, company_id, entity_type, entity_id, action, created_at)
      select 'ada', null, case when n % 9 = 0 then 'Role' else 'Company' end, n % 50,
             case when n % 7 = 0 then 'DELETE' else 'UPDATE' end, now() - make_interval(secs => n)
        from generate_series(1, 30000) as n`;
    await other.sql`
      insert into security_logs (user_id, user_display, action, created_at)
      select 1, 'ada', 'LOGIN_SUCCEEDED', now() - make_interval(secs => n)
        from generate_series(1, 30000) as n`;
    await other.sql`analyze`;
    const cursor = Buffer.from(`${(Date.now() - 20_000_000) * 1_000}.1`).toString("base64url");
    const sources = [
      activitySource({}, null),
      activitySource({}, [1]),
      activitySource({}, [1, 2, 3]),
      activitySource({ user: 1 }, null),
      activitySource({ entityType: "Role", entityId: 3 }, null),
      activitySource({ action: "DELETE" }, null),
      activitySource({ from: new Date(0), until: new Date() }, null),
      securitySource({ user: 1 }),
      securitySource({ user: "all" }),
    ];

    for (const source of sources) {
      const { text, values } = pageStatement(source, cursor, 0, 21);
      const plan = JSON.stringify(
        await other.sql.unsafe(
          `explain (costs off) ${text}`,
          values.map((value) => value ?? ""),
        ),
      );
      expect(plan).toMatch(/Index Scan Backward using (activity|security)_logs_/);
      expect(plan).toMatch(/Index Cond: [^"]*ROW\(/);
      expect(plan).not.toContain("Seq Scan");
    }
  });
});

describe("GET /api/audit/activity-logs/my/", () => {
  test("gives what the caller changed, wherever, and nothing of others", async () => {
    const member = await world.person("member without");
    const [own = 0] = await write(1, { user: member.id });
    const [elsewhere = 0] = await write(1, { user: member.id, company: world.otherCompany });
    await write(1, { user: (await world.person("owner")).id });

    const { results, count } = await list(member, "", "activity-logs/my/");

    expect(results.map(({ id }) => id)).toEqual([elsewhere, own]);
    expect(count).toBe(2);
  });
});

describe("GET /api/audit/security-logs/", () => {
  test("gives the caller's own, and another's to an admin of the tenant alone", async () => {
    const member = await world.person("member without");
    const owner = await world.person("owner");
    const admin = await world.person("tenant admin");
    const path = "security-logs/";

    const own = await list(member, "", path);
    const byAdmin = await list(admin, `user=${member.id}`, path);

    expect(own.results).toMatchObject([{ user: member.id, action: "LOGIN_SUCCEEDED" }]);
    expect(byAdmin.results).toEqual(own.results);
    expect(await refusal(owner, `user=${member.id}`, path)).toBe(403);
    expect(await refusal(owner, "all=true", path)).toBe(403);
    expect(await refusal(member, `user=${member.id}`, path)).toBe(200);
    expect(await refusal(admin, `user=${member.id}&all=true`, path)).toBe(400);
  });

  test("gives an admin everything with ?all=true, also what is nobody's", async () => {
    const admin = await world.person("tenant admin");
    await app
      .client(tenant)
      .post("/api/auth/login/", { identifier: "nobody@x.test", password: "x" });

    const { results } = await list(admin, "all=true&action=LOGIN_FAILED", "security-logs/");

    expect(results).toMatchObject([{ user: null, action: "LOGIN_FAILED" }]);
  });
});
