import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations, type TenantMigration } from "../db/tenant-migrations.ts";
import { migrateFleet } from "./fleet.ts";
import { createTenant, type CreatedTenant } from "./provisioning.ts";

const ADDED: TenantMigration = {
  name: "1999999999990_add-notes",
  up: "create table notes (id bigint generated always as identity primary key); grant select on notes to {{tenant_role}}",
  down: "drop table notes",
};

let registry: TestRegistry;
let migrations: readonly TenantMigration[];
let tenants: CreatedTenant[];

beforeAll(async () => {
  migrations = await loadTenantMigrations();
});

beforeEach(async () => {
  registry = await createRegistry();
  tenants = [];
  for (const subdomain of ["one", "two", "three"]) {
    tenants.push(
      await withAdmin(registry.url, (admin) =>
        createTenant(admin, migrations, registry.apiRole, {
          name: subdomain,
          subdomain,
          owner: { fullName: "Ada", email: "ada@corp.test", phone: "+201001234567" },
        }),
      ),
    );
  }
  return () => registry.close();
});

function ledger() {
  return registry.sql`
    select t.subdomain, m.version, m.state, m.attempts, m.last_error
      from public.tenants t join public.tenant_migrations m on m.tenant_id = t.id order by t.id`;
}

async function hasNotes(tenant: CreatedTenant): Promise<boolean> {
  const [row] =
    await registry.sql`select to_regclass(${`${tenant.schema}.notes`}) is not null as has`;
  return row?.["has"] === true;
}

describe("migrateFleet", () => {
  test("does nothing when every tenant is up to date", async () => {
    const before = await ledger();

    const report = await migrateFleet(registry.url, migrations, { parallel: 2 });

    expect(report).toMatchObject({ total: 3, migrated: [], failed: [] });
    expect(await ledger()).toEqual(before);
  });

  test("brings every tenant to the new version, with its grants, and the second run does nothing", async () => {
    const all = [...migrations, ADDED];

    const report = await migrateFleet(registry.url, all, { parallel: 2 });
    const again = await migrateFleet(registry.url, all, { parallel: 2 });

    expect(report.migrated.map(({ subdomain }) => subdomain).sort()).toEqual([
      "one",
      "three",
      "two",
    ]);
    expect(again.migrated).toEqual([]);
    expect(await Promise.all(tenants.map(hasNotes))).toEqual([true, true, true]);
    for (const row of await ledger())
      expect(row).toMatchObject({ version: ADDED.name, state: "applied" });
    const [grant] = await registry.sql`
      select has_table_privilege(${tenants[0]?.schema ?? ""}, ${`${tenants[0]?.schema}.notes`}, 'select') as can`;
    expect(grant).toEqual({ can: true });
  });

  test("leaves a tenant that fails as it was, with its error in the ledger, and does the others", async () => {
    const [, second] = tenants;
    if (!second) throw new Error("no tenant");
    await registry.sql.unsafe(`create table ${second.schema}.notes (id int)`);

    const report = await migrateFleet(registry.url, [...migrations, ADDED], { parallel: 2 });

    expect(report.migrated).toHaveLength(2);
    expect(report.failed).toMatchObject([
      { subdomain: "two", error: 'relation "notes" already exists' },
    ]);
    expect((await ledger())[1]).toMatchObject({
      version: migrations.at(-1)?.name,
      state: "failed",
      last_error: 'relation "notes" already exists',
    });

    await registry.sql.unsafe(`drop table ${second.schema}.notes`);
    const repaired = await migrateFleet(registry.url, [...migrations, ADDED], { parallel: 2 });
    expect(repaired.migrated.map(({ subdomain }) => subdomain)).toEqual(["two"]);
    expect((await ledger())[1]).toMatchObject({ state: "applied", last_error: null });
  });

  test("tells the second of two runs at once that another works, and it changes nothing", async () => {
    await registry.sql`select pg_advisory_lock(hashtext('ouvira fleet migration'))`;
    const before = await ledger();

    const running = migrateFleet(registry.url, [...migrations, ADDED], { parallel: 1 });

    await expect(running).rejects.toMatchObject({ code: "conflict" });
    expect(await ledger()).toEqual(before);
  });

  test("finishes what a killed run left: nothing twice, the rest done", async () => {
    const slow: TenantMigration = { ...ADDED, up: `${ADDED.up}; select pg_sleep(0.3)` };
    const killed = migrateFleet(registry.url, [...migrations, slow], { parallel: 1 }).catch(
      (error: unknown) => error,
    );
    await expect
      .poll(
        () => registry.sql`
          select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`,
        { timeout: 10_000, interval: 10 },
      )
      .toHaveLength(1);
    await registry.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'ouvira admin' and datname = current_database()`;
    await killed;

    const report = await migrateFleet(registry.url, [...migrations, ADDED], { parallel: 2 });

    expect(report.failed).toEqual([]);
    expect(await Promise.all(tenants.map(hasNotes))).toEqual([true, true, true]);
    for (const { schema } of tenants) {
      const applied = await registry.sql.unsafe(
        `select name from ${schema}.pgmigrations where name = '${ADDED.name}'`,
      );
      expect(applied).toHaveLength(1);
    }
  });
});
