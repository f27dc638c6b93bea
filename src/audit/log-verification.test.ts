import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { seal, verify, writeEntries } from "../../test/logs.ts";
import { BEGINNING, digestOf, NO_DIGEST, readLeaves, readSeals } from "./seals.ts";

let app: TestApp;
let tenant: TestTenant;
/** Three links: two entries, two entries, one. */
let ids: number[];

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  tenant = await app.createTenant();
  ids = [];
  for (const count of [2, 2, 1]) {
    ids.push(...(await writeEntries(tenant, count)));
    await seal(app, tenant);
  }
});

function id(index: number): number {
  const found = ids[index];
  if (found === undefined) throw new Error(`There are only ${ids.length} entries`);
  return found;
}

describe("verifying a log that nobody touched", () => {
  test("finds nothing and says what was checked", async () => {
    expect(await verify(app, tenant)).toEqual({
      log: "activity",
      seals: 3,
      checked_entries: 5,
      unsealed_entries: 0,
      pending_checkpoints: 0,
      oldest_seal: 1,
      is_complete: true,
      findings: [],
    });
  });

  test("counts what is not sealed yet, and does not hold it against anybody", async () => {
    await writeEntries(tenant, 2);

    expect(await verify(app, tenant)).toMatchObject({ unsealed_entries: 2, findings: [] });
  });

  test("of the security log finds nothing after logins, good and bad", async () => {
    await app.logIn(tenant, tenant.owner.email);
    await app.client(tenant).post("/api/auth/login/", { identifier: "nobody", password: "x" });
    await seal(app, tenant);

    const report = await verify(app, tenant, "security");

    expect(report.findings).toEqual([]);
    expect(report.checked_entries).toBeGreaterThanOrEqual(3);
  });
});

describe("verifying a log", () => {
  test.each([
    ["user_id", "1"],
    ["user_display", "'eve'"],
    ["company_id", "null"],
    ["date", "20200101"],
    ["entity_type", "'Role'"],
    ["entity_id", "99"],
    ["action", "'DELETE'"],
    ["old_values", `'{"name": "Other"}'`],
    ["new_values", "'{}'"],
    ["ip_address", "'203.0.113.8'"],
    ["ip_address", "'203.0.113.7/24'"],
    ["created_at", "created_at + interval '1 microsecond'"],
    ["created_at", "'infinity'"],
    // The one before its own: its place in the order stays the same.
    ["transaction_id", "(transaction_id::text::bigint - 1)::text::xid8"],
  ])("names an entry whose %s was edited to %s", async (column, value) => {
    if (column === "company_id") {
      // Only a change is one: it has to hold something first.
      await sealedEntryOfCompany();
    }
    const edited = id(column === "company_id" ? 5 : 3);
    await tenant.sql.unsafe(`update activity_logs set ${column} = ${value} where id = ${edited}`);

    const { findings } = await verify(app, tenant);

    expect(findings).toMatchObject([{ kind: "edited", entry_id: edited }]);
  });

  test("names an entry that was deleted", async () => {
    await tenant.sql`delete from activity_logs where id = ${id(1)}`;

    const { findings } = await verify(app, tenant);

    expect(findings).toMatchObject([{ kind: "deleted", seal: 1, entry_id: id(1) }]);
  });

  test("names an entry that was put among older ones", async () => {
    await tenant.sql`
      insert into activity_logs (user_display, entity_type, entity_id, action, transaction_id)
      select 'eve', 'Company', 1, 'UPDATE', transaction_id from activity_logs where id = ${id(0)}`;
    const [inserted] = await tenant.sql`select max(id) as id from activity_logs`;

    const { findings } = await verify(app, tenant);

    expect(findings).toMatchObject([{ kind: "inserted", entry_id: inserted?.["id"] }]);
  });

  test.each([
    ["within a link", 0, 1],
    ["of two links", 1, 2],
  ])("names two entries %s that have changed ids", async (_, a, b) => {
    await tenant.sql.unsafe(`
      alter table activity_logs alter column id drop identity;
      update activity_logs set id = -1 where id = ${id(a)};
      update activity_logs set id = ${id(a)} where id = ${id(b)};
      update activity_logs set id = ${id(b)} where id = -1;`);

    const { findings } = await verify(app, tenant);

    const named = findings.map(({ entry_id: entry }) => entry);
    expect(named).toEqual(expect.arrayContaining([id(a), id(b)]));
    expect(findings.map(({ kind }) => kind)).toContain("reordered");
  });

  test.each([
    ["within a link", 2, 3],
    ["of two links", 1, 4],
  ])("names two entries %s that have changed transactions", async (_, a, b) => {
    await tenant.sql`
      update activity_logs l set transaction_id = other.transaction_id
        from activity_logs other
       where (l.id, other.id) in ((${id(a)}, ${id(b)}), (${id(b)}, ${id(a)}))`;

    const { findings } = await verify(app, tenant);

    const named = findings.map(({ entry_id: entry }) => entry);
    expect(named).toEqual(expect.arrayContaining([id(a), id(b)]));
    expect(findings.map(({ kind }) => kind)).toContain("reordered");
  });

  test("names the entry although the whole chain was made anew to fit it", async () => {
    await tenant.sql`update activity_logs set action = 'DELETE' where id = ${id(1)}`;
    await rehash();

    const { findings } = await verify(app, tenant);

    expect(findings).toContainEqual(
      expect.objectContaining({ kind: "edited", seal: 1, entry_id: id(1) }),
    );
    const rehashed = findings.filter(({ kind }) => kind === "rehashed");
    expect(new Set(rehashed.map((found) => found.seal))).toEqual(new Set([1, 2, 3]));
  });

  test("names the entry that was deleted although the whole chain was made anew", async () => {
    await tenant.sql`delete from activity_logs where id = ${id(0)}`;
    await rehash();

    const { findings } = await verify(app, tenant);

    expect(findings).toContainEqual(
      expect.objectContaining({ kind: "deleted", seal: 1, entry_id: id(0) }),
    );
  });

  test("names the entries that were cut off with their seals", async () => {
    await tenant.sql`delete from activity_logs where id >= ${id(3)}`;
    await tenant.sql`delete from log_seals where log = 'activity' and number >= 2`;

    const { findings } = await verify(app, tenant);

    expect(findings).toContainEqual(
      expect.objectContaining({ kind: "cut_off", seal: 3, entry_id: id(4) }),
    );
    expect(findings).toContainEqual(
      expect.objectContaining({ kind: "cut_off", seal: 2, entry_id: id(3) }),
    );
  });

  test("names every entry when everything is gone", async () => {
    await tenant.sql`delete from activity_logs`;
    await tenant.sql`delete from log_seals`;

    const { findings } = await verify(app, tenant);

    const cut = findings.filter(
      ({ kind, entry_id: entry }) => kind === "cut_off" && entry !== null,
    );
    expect(new Set(cut.map(({ entry_id: entry }) => entry))).toEqual(new Set(ids));
  });

  test.each([1, 2, 3])("finds that seal %s is missing, its entries all there", async (number) => {
    await tenant.sql`delete from log_seals where log = 'activity' and number = ${number}`;

    const { findings } = await verify(app, tenant);

    expect(findings).toMatchObject([{ kind: "seal_missing", seal: number, entry_id: null }]);
  });

  test("finds that the beginning was cut off without a receipt", async () => {
    await tenant.sql`delete from activity_logs where id <= ${id(1)}`;
    await tenant.sql`delete from log_seals where log = 'activity' and number = 1`;

    const { findings } = await verify(app, tenant);

    expect(findings).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ kind: "deleted", entry_id: id(0) }),
        expect.objectContaining({ kind: "deleted", entry_id: id(1) }),
        expect.objectContaining({ kind: "seal_missing", seal: 1 }),
      ]),
    );
  });

  test("finds a seal whose place or number of entries was changed", async () => {
    await tenant.sql`update log_seals set entries = 7 where log = 'activity' and number = 2`;

    const { findings } = await verify(app, tenant);

    expect(findings).toMatchObject([{ kind: "seal_changed", seal: 2 }]);
  });

  test("finds a checkpoint that was changed, and one that is gone", async () => {
    await app.registry`
      update public.log_checkpoints set entries = set_byte(entries, 20, get_byte(entries, 20) # 1)
       where tenant_id = ${tenant.id} and log = 'activity' and number = 3`;
    await app.registry`
      delete from public.log_checkpoints
       where tenant_id = ${tenant.id} and log = 'activity' and number = 1`;

    const { findings } = await verify(app, tenant);

    expect(findings).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ kind: "checkpoint_changed", seal: 3 }),
        expect.objectContaining({ kind: "checkpoint_missing", seal: 1 }),
      ]),
    );
  });

  /** One more link, whose entry is of a company. */
  async function sealedEntryOfCompany(): Promise<void> {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;
    await app.client(tenant).post("/api/company/", { name: "Acme" }, { token });
    const [row] = await tenant.sql<{ id: number }[]>`
      select id from activity_logs where company_id is not null`;
    if (row) ids.push(row.id);
    await seal(app, tenant);
  }

  /** What somebody does who can change everything in the schema, and knows how seals are made. */
  async function rehash(): Promise<void> {
    const run = app.services.database.tenant(tenant.id).query;
    let previous = NO_DIGEST;
    let place = BEGINNING;
    for (const [number, link] of await readSeals(run, "activity", 1, 100)) {
      const rows = await readLeaves(run, "activity", place, link.place, 1_000);
      const leaves = Buffer.concat(rows.map(({ leaf }) => leaf));
      previous = digestOf(previous, "activity", number, link.place, leaves);
      place = link.place;
      await tenant.sql`
        update log_seals set digest = ${previous}, entries = ${rows.length}
         where log = 'activity' and number = ${number}`;
    }
  }
});

describe("GET /api/audit/verify/", () => {
  test("tells an admin of the tenant that both logs are whole", async () => {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;
    await seal(app, tenant);

    const { status, body } = await app.client(tenant).get("/api/audit/verify/", { token });

    expect(status).toBe(200);
    expect(body).toMatchObject({
      status: "intact",
      logs: [
        { log: "activity", seals: 3, checked_entries: 5, is_complete: true, findings: [] },
        { log: "security", is_complete: true, findings: [] },
      ],
    });
  });

  test("names what was changed", async () => {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;
    await tenant.sql`update activity_logs set action = 'DELETE' where id = ${id(2)}`;

    const { body } = await app.client(tenant).get("/api/audit/verify/", { token });

    expect(body).toMatchObject({
      status: "broken",
      logs: [{ findings: [{ kind: "edited", entry_id: id(2) }] }, { findings: [] }],
    });
  });

  test("goes on before a seal that was named", async () => {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;

    const { body } = await app
      .client(tenant)
      .get("/api/audit/verify/?before_activity=3", { token });

    expect(body).toMatchObject({
      logs: [{ checked_entries: 4, oldest_seal: 1, is_complete: false }, {}],
    });
  });

  test("is refused to somebody who is no admin", async () => {
    const { access } = await app.signUp(tenant);

    const { status, body } = await app.client(tenant).get("/api/audit/verify/", { token: access });

    expect({ status, body }).toMatchObject({ status: 403, body: { code: "permission_denied" } });
  });
});
