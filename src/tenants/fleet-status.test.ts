import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runScript } from "../../test/process.ts";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations, newestVersion } from "../db/tenant-migrations.ts";
import { migrateFleet } from "./fleet.ts";
import { createTenant } from "./provisioning.ts";

let registry: TestRegistry;

beforeAll(async () => {
  registry = await createRegistry();
});
afterAll(() => registry.close());

function run(...args: string[]) {
  return runScript("tenant.ts", ["status", ...args], {
    APP_ENV: "local",
    DATA_DIR: "/nonexistent",
    DATABASE_URL: registry.apiUrl,
    DATABASE_MIGRATION_URL: registry.url,
  });
}

describe("npm run tenant -- status", () => {
  test("says how many tenants work, how far they are and what failed, and exits with 1 then", async () => {
    const migrations = await loadTenantMigrations();
    const version = newestVersion(migrations);
    const empty = await run();
    for (const [subdomain, count] of [
      ["one", migrations.length],
      ["two", migrations.length],
      ["old", 1],
    ] as const) {
      await withAdmin(registry.url, (admin) =>
        createTenant(admin, migrations.slice(0, count), registry.apiRole, {
          name: subdomain,
          subdomain,
          owner: { fullName: "Ada", email: "ada@corp.test", phone: "+201001234567" },
        }),
      );
    }
    await registry.sql`update public.tenants set status = 'suspended' where subdomain = 'two'`;
    // Something that stands in the way of the second migration.
    const [old] = await registry.sql<{ id: number }[]>`
      select id from public.tenants where subdomain = 'old'`;
    await registry.sql.unsafe(`create table t_${old?.id}.failures ()`);
    await migrateFleet(registry.url, migrations, { parallel: 1 });

    const failed = await run();
    const json = await run("--json");
    await registry.sql.unsafe(`drop table t_${old?.id}.failures`);
    await migrateFleet(registry.url, migrations, { parallel: 1 });
    const done = await run();

    expect(empty).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("tenants    0:") });
    expect(failed.exitCode).toBe(1);
    expect(failed.stdout).toContain("tenants    3: 2 active, 0 read-only, 1 suspended");
    expect(failed.stdout).toContain("schemas    1 behind: npm run migrate");
    expect(failed.stdout).toMatch(
      /^old +1 +1790000000000_create-users +.*"failures" already exists/m,
    );
    expect(JSON.parse(json.stdout)).toMatchObject({
      version,
      tenants: 3,
      behind: 1,
      groups: [
        { version, state: "applied", tenants: 2 },
        { state: "failed", tenants: 1 },
      ],
      failed: [{ subdomain: "old", attempts: 1 }],
    });
    expect(done).toMatchObject({
      exitCode: 0,
      stdout: `release    ${version}\ntenants    3: 2 active, 0 read-only, 1 suspended\nschemas    all of this release\n`,
    });
  });

  test("says what somebody may have to look at", async () => {
    for (const subdomain of ["leaving", "gone", "unpaid", "paid", "silent"]) {
      await registry.createTenant(subdomain);
    }
    await registry.sql`
      update public.tenants set status = 'suspended', delete_after = now() + interval '1 day'
       where subdomain = 'leaving'`;
    await registry.sql`
      update public.tenants set status = 'suspended', delete_after = now() where subdomain = 'gone'`;
    await registry.sql`
      update public.tenants set paid_until = now() - interval '1 day' where subdomain = 'unpaid'`;
    await registry.sql`
      update public.tenants set paid_until = now() + interval '1 day' where subdomain = 'paid'`;
    await registry.sql`
      update public.tenants set sends_messages = false where subdomain = 'silent'`;

    const status = await run();
    const json = await run("--json");

    expect(status.stdout).toContain(
      "\nbesides    2 to be erased (1 due), 1 past the day they are paid until, 1 without messages\n",
    );
    expect(JSON.parse(json.stdout)).toMatchObject({
      attention: { to_be_erased: 2, due_for_erasure: 1, past_paid_until: 1, without_messages: 1 },
    });
  });

  test("takes no name", async () => {
    expect(await run("acme")).toMatchObject({ exitCode: 2, stdout: "" });
  });
});
