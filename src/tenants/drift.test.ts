import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runScript } from "../../test/process.ts";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations, type TenantMigration } from "../db/tenant-migrations.ts";
import { type DriftReport, findDrift } from "./drift.ts";
import { createTenant, type CreatedTenant } from "./provisioning.ts";

let registry: TestRegistry;
let migrations: readonly TenantMigration[];
let tenant: CreatedTenant;
let counter = 0;

beforeAll(async () => {
  registry = await createRegistry();
  migrations = await loadTenantMigrations();
});
afterAll(() => registry.close());
beforeEach(async () => {
  counter += 1;
  tenant = await create(`tenant-${counter}`, migrations);
});

function create(subdomain: string, all: readonly TenantMigration[]): Promise<CreatedTenant> {
  return withAdmin(registry.url, (admin) =>
    createTenant(admin, all, registry.apiRole, {
      name: subdomain,
      subdomain,
      owner: { fullName: "Ada", email: "ada@corp.test", phone: "+201001234567" },
    }),
  );
}

async function drift(subdomain?: string): Promise<DriftReport[]> {
  const reports: DriftReport[] = [];
  await withAdmin(registry.url, (admin) =>
    findDrift(admin, migrations, subdomain, (report) => reports.push(report)),
  );
  return reports;
}

async function differences(): Promise<DriftReport["differences"]> {
  return (await drift(tenant.subdomain)).flatMap((report) => report.differences);
}

describe("comparing schemas with their version", () => {
  test("finds nothing in tenants as they were made, and leaves nothing behind", async () => {
    await create("second", migrations);

    const reports = await drift();

    expect(reports.length).toBeGreaterThanOrEqual(2);
    expect(reports.flatMap((report) => report.differences)).toEqual([]);
    expect(await registry.sql`select 1 from pg_roles where rolname like 'ouvira_drift%'`).toEqual(
      [],
    );
    expect(
      await registry.sql`select 1 from pg_namespace where nspname like 'ouvira_drift%'`,
    ).toEqual([]);
  });

  test("finds nothing in a tenant that is a version behind: it is what that version makes", async () => {
    const behind = await create("behind", migrations.slice(0, -1));

    const [report] = await drift("behind");

    expect(report).toMatchObject({ version: behind.version, differences: [] });
    expect(behind.version).toBe(migrations.at(-2)?.name);
  });

  test.each([
    ["drop index activity_logs_newest", { object: "index activity_logs_newest", actual: null }],
    ["create index by_hand on users (full_name)", { object: "index by_hand", expected: null }],
    ["alter table users add column note text", { object: "column users.note", expected: null }],
    [
      "alter table users alter column full_name drop not null",
      { object: "column users.full_name", expected: "text not null", actual: "text" },
    ],
    [
      "alter table companies alter column status set default 'deactivated'",
      { object: "column companies.status", actual: "text not null default 'deactivated'::text" },
    ],
    ["create table by_hand (id int)", { object: "table by_hand", expected: null }],
    ["create view by_hand as select 1 as one", { object: "table by_hand", expected: null }],
    [
      "alter table companies drop constraint companies_status_check",
      { object: "constraint companies.companies_status_check", actual: null },
    ],
    [
      "grant delete on activity_logs to {{role}}",
      {
        object: "grants of activity_logs",
        expected: "{{tenant_role}} insert, {{tenant_role}} select",
        actual: "{{tenant_role}} delete, {{tenant_role}} insert, {{tenant_role}} select",
      },
    ],
    ["grant select on users to public", { object: "grants of users" }],
    [
      "revoke select on users from {{role}}",
      { object: "grants of users", actual: "{{tenant_role}} insert, {{tenant_role}} update" },
    ],
    ["grant create on schema {{role}} to {{role}}", { object: "grants of the schema" }],
    [
      "create function by_hand() returns int language sql as 'select 1'",
      { object: "function by_hand", expected: null },
    ],
  ])("names what came of: %s", async (statement, difference) => {
    await registry.sql.begin(async (tx) => {
      await tx.unsafe(`set local search_path to ${tenant.schema}`);
      await tx.unsafe(statement.replaceAll("{{role}}", tenant.schema));
    });

    expect(await differences()).toContainEqual(expect.objectContaining(difference));
  });

  test("names a ledger that says something else than the schema", async () => {
    await registry.sql`
      update public.tenant_migrations set version = '1_other' where tenant_id = ${tenant.id}`;

    expect(await differences()).toEqual([
      { object: "version in the ledger", expected: tenant.version, actual: "1_other" },
    ]);
  });

  test("names everything of a schema that is gone", async () => {
    await registry.sql.unsafe(`drop schema ${tenant.schema} cascade`);

    expect(await differences()).toContainEqual({
      object: "version in the ledger",
      expected: "",
      actual: tenant.version,
    });
  });
});

describe("npm run tenant -- drift", () => {
  const run = (...args: string[]) =>
    runScript("tenant.ts", ["drift", ...args], {
      APP_ENV: "local",
      DATA_DIR: "/nonexistent",
      DATABASE_URL: registry.apiUrl,
      DATABASE_MIGRATION_URL: registry.url,
    });

  test("exits with 0 and a line for each tenant that is as it should be", async () => {
    expect(await run(tenant.subdomain)).toMatchObject({
      exitCode: 0,
      stdout: `${tenant.subdomain}: as ${tenant.version} makes it\n`,
    });
  });

  test("exits with 1 and says what differs, for people and as JSON", async () => {
    await registry.sql.unsafe(`drop index ${tenant.schema}.activity_logs_newest`);

    const text = await run(tenant.subdomain);
    const json = await run(tenant.subdomain, "--json");

    expect(text.exitCode).toBe(1);
    expect(text.stdout).toContain("1 difference");
    expect(text.stdout).toContain("index activity_logs_newest");
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      subdomain: tenant.subdomain,
      differences: [{ object: "index activity_logs_newest", actual: null }],
    });
  });

  test("of a tenant that there is not fails", async () => {
    expect(await run("nobody")).toMatchObject({
      exitCode: 1,
      stderr: 'tenant_not_found: There is no tenant "nobody".\n',
    });
  });
});
