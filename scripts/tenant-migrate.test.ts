import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { runScript, type ScriptProcess, startScript } from "../test/process.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { loadTenantMigrations, type TenantMigration } from "../src/db/tenant-migrations.ts";
import { migrateFleet } from "../src/tenants/fleet.ts";
import type { CreatedTenant } from "../src/tenants/provisioning.ts";

const TENANTS = ["one", "two", "three", "four"];

let registry: TestRegistry;
let dataDir: string;
let migrations: readonly TenantMigration[];
let newest: string;
let older: string;
const tenants: CreatedTenant[] = [];

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-migrate-"));
  migrations = await loadTenantMigrations();
  newest = migrations.at(-1)?.name ?? "";
  older = migrations.at(-2)?.name ?? "";
  for (const subdomain of TENANTS) {
    tenants.push(await registry.createTenant(subdomain));
  }
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

beforeEach(() => migrateFleet(registry.url, migrations, { target: older }));

function run(...args: string[]) {
  return runScript("tenant.ts", ["migrate", ...args], registry.environment(dataDir));
}

async function versions(): Promise<unknown[]> {
  const rows = await registry.sql`
    select version, state from public.tenant_migrations order by tenant_id`;
  return rows.map((row) => `${row["version"]} ${row["state"]}`);
}

/** How often the newest migration is noted in each schema. */
async function appliedTimes(): Promise<number[]> {
  return Promise.all(
    tenants.map(async ({ schema }) => {
      const rows = await registry.sql.unsafe(
        `select 1 from ${schema}.pgmigrations where name = '${newest}'`,
      );
      return rows.length;
    }),
  );
}

describe("npm run tenant -- migrate", () => {
  test("--plan says what would run where and changes nothing; then it runs, with a line for each", async () => {
    const before = await versions();

    const plan = await run("--plan");
    const planned: unknown = JSON.parse((await run("--plan", "--json")).stdout);
    const afterPlan = await versions();
    const done = await run("--parallel", "1");
    const again = await run("--plan");

    expect(plan).toMatchObject({ exitCode: 0, stderr: "" });
    expect(plan.stdout).toContain(`to ${newest}; first and alone: one\n`);
    expect(plan.stdout).toContain(`4        ${older}  up: ${newest}`);
    expect(planned).toMatchObject({ target: newest, groups: [{ tenants: 4, version: older }] });
    expect(afterPlan).toEqual(before);
    expect(done.exitCode).toBe(0);
    expect(done.stderr.trim().split("\n")).toEqual(
      TENANTS.map((name, index) =>
        expect.stringMatching(new RegExp(`^${index + 1}/4 ${name}: done in \\d+ ms$`)),
      ),
    );
    expect(done.stdout).toBe(`fleet: 4 tenants, 4 migrated, 0 failed, version ${newest}\n`);
    expect(again.stdout).toBe(`All 4 tenants are of ${newest}: nothing to do.\n`);
  });

  test("does not go back without being told to by --yes, where there is no terminal to ask at", async () => {
    await migrateFleet(registry.url, migrations);
    const before = await versions();

    const refused = await run("--to", older);
    const afterRefusal = await versions();
    const done = await run("--to", older.slice(0, 13), "--yes", "--json");

    expect(refused).toMatchObject({ exitCode: 2, stdout: "" });
    expect(refused.stderr).toContain("4 tenants go back");
    expect(afterRefusal).toEqual(before);
    expect(done).toMatchObject({ exitCode: 0, stderr: "" });
    expect(JSON.parse(done.stdout)).toMatchObject({ version: older, failed: [], left: 0 });
    expect(await versions()).toEqual(TENANTS.map(() => `${older} applied`));
  });

  test.each([
    ["a version that there is not", ["--to", "123"], 1, 'There is no tenant migration "123"'],
    ["no number", ["--parallel", "many"], 2, "--parallel takes a whole number from 1."],
    ["none at a time", ["--parallel", "0"], 2, "--parallel takes a whole number from 1."],
    ["a name", ["acme"], 2, "npm run tenant -- migrate"],
  ])("refuses %s", async (_, args, exitCode, sentence) => {
    const before = await versions();

    const refused = await run(...args);

    expect(refused).toMatchObject({ exitCode, stdout: "" });
    expect(refused.stderr).toContain(sentence);
    expect(await versions()).toEqual(before);
  });

  test("exits 1 when the first one fails, and says how many were not begun", async () => {
    await registry.sql.unsafe(`create table ${tenants[0]?.schema}.activity_logs (id int)`);
    try {
      const result = await run();

      expect(result.exitCode).toBe(1);
      expect(result.stderr).toBe('1/4 one: relation "activity_logs" already exists\n');
      expect(result.stdout).toContain(
        "Stopped: the tenant that went first failed. 3 tenants were not begun.",
      );
      expect(await appliedTimes()).toEqual([0, 0, 0, 0]);
    } finally {
      await registry.sql.unsafe(`drop table ${tenants[0]?.schema}.activity_logs`);
    }
  });

  /** Runs a migration until it waits for a lock of the third tenant. */
  async function startAndStopAtThird(
    signal: "SIGKILL" | "SIGINT",
    isStopping: (migration: ScriptProcess) => Promise<unknown>,
  ) {
    const third = tenants[2]?.schema ?? "";
    return registry.sql.begin(async (tx) => {
      await tx.unsafe(`lock table ${third}.users in row exclusive mode`);
      const migration = startScript(
        "tenant.ts",
        ["migrate", "--parallel", "1", "--lock-timeout", "30000"],
        registry.environment(dataDir),
      );
      await expect
        .poll(
          () => registry.sql`
            select 1 from pg_stat_activity
             where application_name = 'ouvira migration' and wait_event_type = 'Lock'
               and datname = current_database()`,
          { timeout: 20_000, interval: 20 },
        )
        .toHaveLength(1);
      migration.child.kill(signal);
      await isStopping(migration);
      return migration;
    });
  }

  test("killed in the middle: run again, it does nothing twice and the rest", async () => {
    await startAndStopAtThird("SIGKILL", ({ exited }) => exited);
    const left = await appliedTimes();

    const again = await run("--json");

    expect(left).toEqual([1, 1, 0, 0]);
    expect(again.exitCode).toBe(0);
    const report = JSON.parse(again.stdout) as { migrated: { subdomain: string }[] };
    expect(report.migrated.map(({ subdomain }) => subdomain).sort()).toEqual(["four", "three"]);
    expect(await appliedTimes()).toEqual([1, 1, 1, 1]);
    expect(await versions()).toEqual(TENANTS.map(() => `${newest} applied`));
  });

  test("stopped with Ctrl-C: finishes the tenant it is at, begins no other, exits 1", async () => {
    const migration = await startAndStopAtThird("SIGINT", (running) =>
      vi.waitUntil(() => running.stderr().includes("Stopping"), { timeout: 5_000 }),
    );

    expect(await migration.exited).toBe(1);
    expect(migration.stdout()).toContain("Stopped before the end. 1 tenant was not begun.");
    expect(await appliedTimes()).toEqual([1, 1, 1, 0]);
    expect((await run()).exitCode).toBe(0);
    expect(await appliedTimes()).toEqual([1, 1, 1, 1]);
  });
});
