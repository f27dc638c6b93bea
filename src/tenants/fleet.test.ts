import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations, type TenantMigration } from "../db/tenant-migrations.ts";
import { type DriftReport, findDrift } from "./drift.ts";
import { migrateFleet } from "./fleet.ts";
import { planFleet } from "./fleet-plan.ts";
import type { CreatedTenant } from "./provisioning.ts";

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
    tenants.push(await registry.createTenant(subdomain));
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
    const before = await ledger();
    const first = withAdmin(registry.url, async (admin) => {
      await admin.query`select pg_advisory_lock(hashtext('ouvira fleet migration'))`;
      const running = migrateFleet(registry.url, [...migrations, ADDED], { parallel: 1 });
      await expect(running).rejects.toMatchObject({
        code: "conflict",
        message: expect.stringMatching(/is running \(since 20.* from .*, server process \d+\)/),
      });
    });

    await first;
    expect(await ledger()).toEqual(before);
    // The lock went with its holder.
    const report = await migrateFleet(registry.url, [...migrations, ADDED]);
    expect(report.migrated).toHaveLength(3);
  });

  test("waits for the other run where somebody is told of it", async () => {
    const told: string[] = [];
    const running = await withAdmin(registry.url, async (admin) => {
      await admin.query`select pg_advisory_lock(hashtext('ouvira fleet migration'))`;
      const waiting = migrateFleet(registry.url, [...migrations, ADDED], {
        onBusy: (message) => told.push(message),
      });
      await expect.poll(() => told).toHaveLength(1);
      expect(await Promise.all(tenants.map(hasNotes))).toEqual([false, false, false]);
      return { waiting };
    });

    const report = await running.waiting;

    expect(report.migrated).toHaveLength(3);
    expect(told).toEqual([expect.stringContaining("Another migration of the fleet is running")]);
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
       where application_name in ('ouvira admin', 'ouvira migration') and datname = current_database()`;
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

  test("tries one tenant first; when its migration fails nobody else is touched", async () => {
    const [first] = tenants;
    await registry.sql.unsafe(`create table ${first?.schema}.notes (id int)`);

    const report = await migrateFleet(registry.url, [...migrations, ADDED], { parallel: 2 });

    expect(report).toMatchObject({ migrated: [], left: 2, stopped: "canary" });
    expect(report.failed.map(({ subdomain }) => subdomain)).toEqual(["one"]);
    const states = (await ledger()).map(({ state, attempts }) => [state, attempts]);
    expect(states).toEqual([
      ["failed", 1],
      ["applied", 1],
      ["applied", 1],
    ]);

    // It does not stand in the way of the others the next time.
    const again = await migrateFleet(registry.url, [...migrations, ADDED], { parallel: 2 });
    expect(again.migrated.map(({ subdomain }) => subdomain).sort()).toEqual(["three", "two"]);
    expect(again).toMatchObject({ left: 0, stopped: null });
  });

  test("the operator says who goes first", async () => {
    const order: string[] = [];

    await migrateFleet(registry.url, [...migrations, ADDED], {
      parallel: 1,
      canary: "three",
      onResult: ({ subdomain }) => order.push(subdomain),
    });

    expect(order).toEqual(["three", "one", "two"]);
  });

  test("stops when more tenants have failed than may, and says how many are left", async () => {
    for (const { schema } of tenants.slice(1)) {
      await registry.sql.unsafe(`create table ${schema}.notes (id int)`);
    }

    const report = await migrateFleet(registry.url, [...migrations, ADDED], {
      parallel: 1,
      failureBudget: 0,
    });

    expect(report).toMatchObject({ left: 1, stopped: "failure_budget" });
    expect(report.migrated.map(({ subdomain }) => subdomain)).toEqual(["one"]);
    expect(report.failed.map(({ subdomain }) => subdomain)).toEqual(["two"]);
    expect((await ledger())[2]).toMatchObject({ state: "applied", attempts: 1 });
  });

  test("a tenant whose table is locked delays itself alone, and is done when the lock is gone", async () => {
    const altered: TenantMigration = {
      ...ADDED,
      up: "alter table users add column note text",
      down: "alter table users drop column note",
    };
    const order: string[] = [];
    let isLocked = true;
    await withAdmin(registry.url, async (holder) => {
      await holder.execute(`begin; lock table ${tenants[0]?.schema}.users in access share mode`);

      const report = await migrateFleet(registry.url, [...migrations, altered], {
        parallel: 1,
        lockTimeoutMs: 100,
        retryDelayMs: 20,
        triesMax: 100,
        onResult: ({ subdomain }) => {
          order.push(subdomain);
          if (order.length === 2 && isLocked) {
            isLocked = false;
            void holder.execute("rollback");
          }
        },
      });

      expect(order).toEqual(["two", "three", "one"]);
      expect(report.failed).toEqual([]);
      expect(report.migrated.at(-1)?.tries).toBeGreaterThan(1);
    });
  });

  test("gives a lock up after so many tries, with what happened in the ledger", async () => {
    await withAdmin(registry.url, async (holder) => {
      await holder.execute(`begin; lock table ${tenants[1]?.schema}.users in access share mode`);
      const altered = { ...ADDED, up: "alter table users add column note text" };

      const report = await migrateFleet(registry.url, [...migrations, altered], {
        lockTimeoutMs: 50,
        retryDelayMs: 10,
        triesMax: 3,
      });

      expect(report.migrated).toHaveLength(2);
      expect(report.failed).toMatchObject([
        { subdomain: "two", tries: 3, error: "canceling statement due to lock timeout" },
      ]);
      expect((await ledger())[1]).toMatchObject({ state: "failed", attempts: 3 });
    });
  });

  test("a syntax error is not tried again", async () => {
    const report = await migrateFleet(registry.url, [...migrations, { ...ADDED, up: "crate" }], {
      retryDelayMs: 10,
    });

    expect(report.failed).toMatchObject([{ subdomain: "one", tries: 1 }]);
  });

  test("goes back to an older version, newest migration first, and forth again", async () => {
    const second: TenantMigration = {
      name: "1999999999991_add-note-texts",
      up: "alter table notes add column body text",
      down: "alter table notes drop column body",
    };
    const all = [...migrations, ADDED, second];
    const newest = migrations.at(-1)?.name ?? "";
    await migrateFleet(registry.url, all);

    const down = await migrateFleet(registry.url, all, { target: newest });

    expect(down.migrated).toHaveLength(3);
    expect(await Promise.all(tenants.map(hasNotes))).toEqual([false, false, false]);
    for (const row of await ledger()) {
      expect(row).toMatchObject({ version: newest, state: "applied" });
    }
    const drift: DriftReport[] = [];
    await withAdmin(registry.url, (admin) =>
      findDrift(admin, all, undefined, (report) => drift.push(report)),
    );
    expect(drift.map(({ version, differences }) => [version, differences])).toEqual(
      tenants.map(() => [newest, []]),
    );

    const up = await migrateFleet(registry.url, all);
    expect(up.migrated).toHaveLength(3);
    expect(await Promise.all(tenants.map(hasNotes))).toEqual([true, true, true]);
  });

  test("told to stop, it finishes what is under way and begins nothing more", async () => {
    const controller = new AbortController();

    const report = await migrateFleet(registry.url, [...migrations, ADDED], {
      parallel: 1,
      signal: controller.signal,
      onResult: () => controller.abort(),
    });

    expect(report).toMatchObject({ left: 2, stopped: "interrupted", failed: [] });
    expect(report.migrated.map(({ subdomain }) => subdomain)).toEqual(["one"]);
    expect((await ledger()).map(({ state }) => state)).toEqual(["applied", "applied", "applied"]);
  });

  test("a connection that is cut in the middle costs a try, not the tenant", async () => {
    let hasCut = false;
    const slow: TenantMigration = { ...ADDED, up: `${ADDED.up}; select pg_sleep(0.2)` };
    const running = migrateFleet(registry.url, [...migrations, slow], {
      parallel: 1,
      retryDelayMs: 10,
      onRetry: () => (hasCut = true),
    });
    await expect
      .poll(
        async () => {
          const cut = await registry.sql`
            select pg_terminate_backend(pid) from pg_stat_activity
             where wait_event = 'PgSleep' and datname = current_database()`;
          return cut.length;
        },
        { timeout: 10_000, interval: 10 },
      )
      .toBe(1);

    const report = await running;

    expect(hasCut).toBe(true);
    expect(report).toMatchObject({ failed: [], left: 0 });
    expect(await Promise.all(tenants.map(hasNotes))).toEqual([true, true, true]);
  });
});

describe("planFleet", () => {
  test("says what would run where, and changes nothing", async () => {
    const all = [...migrations, ADDED];
    await migrateFleet(registry.url, all, { canary: "two", failureBudget: 0 });
    await registry.sql`
      update public.tenant_migrations set version = ${migrations.at(-1)?.name ?? ""}
       where tenant_id = ${tenants[0]?.id ?? 0}`;
    await registry.sql`
      update public.tenant_migrations set version = '1_unheard-of'
       where tenant_id = ${tenants[2]?.id ?? 0}`;
    const before = await ledger();

    const plan = await withAdmin(registry.url, (admin) => planFleet(admin.query, all, ADDED.name));

    expect(plan).toEqual({
      target: ADDED.name,
      total: 3,
      canary: "one",
      groups: [
        {
          version: migrations.at(-1)?.name,
          tenants: 1,
          direction: "up",
          migrations: [ADDED.name],
          problem: null,
        },
        {
          version: "1_unheard-of",
          tenants: 1,
          direction: "up",
          migrations: [],
          problem: "1_unheard-of is not a migration of this release",
        },
      ],
    });
    expect(await ledger()).toEqual(before);
  });
});
