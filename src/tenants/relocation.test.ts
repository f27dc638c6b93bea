import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { archiveFolder, asTestTenant, fillTenant } from "../../test/archives.ts";
import { runScript, startScript } from "../../test/process.ts";
import {
  nextStep,
  type ProtectedUser,
  secondFactorCalls,
  totpCode,
} from "../../test/second-factor.ts";
import { type EmbeddedServer, startEmbeddedServer } from "../db/embedded-server.ts";
import { apiRoleOf } from "../db/roles.ts";
import { loadTenantMigrations } from "../db/tenant-migrations.ts";
import { moveTenant, type RelocationOptions } from "./relocation.ts";

let dataDir: string;
let server: EmbeddedServer;
let here: TestApp;
let there: TestApp;
let folder: Awaited<ReturnType<typeof archiveFolder>>;

beforeAll(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-other-"));
  // The server's own user has to reach it when this runs as root.
  await chmod(dataDir, 0o711);
  server = await startEmbeddedServer({ dataDir, port: 0 });
  here = await startTestApp();
  there = await startTestApp({
    serverUrl: server.url,
    config: {
      encryptionKey: randomBytes(32).toString("base64"),
      passwordPepper: here.config.passwordPepper,
    },
  });
  folder = await archiveFolder();
}, 60_000);
afterAll(async () => {
  await folder.remove();
  await there.close();
  await here.close();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
});
afterEach(() => vi.restoreAllMocks());

const installation = ({ ownerUrl, services: { keys }, config }: TestApp) => ({
  migrationUrl: ownerUrl,
  keys,
  secrets: config,
});

async function move(
  subdomain: string,
  options: Partial<RelocationOptions> = {},
  target: { apiRole?: string } = {},
) {
  const apiRole = apiRoleOf(there.config.databaseUrl ?? "").name;
  const migrations = await loadTenantMigrations();
  const file = folder.file(`${randomBytes(6).toString("hex")}.zip`);
  return moveTenant(
    installation(here),
    { ...installation(there), apiRole, migrations, ...target },
    subdomain,
    { file, settleMs: 1_000, ...options },
  );
}

const statusOf = async (app: TestApp, subdomain: string) => {
  const [row] = await app.registry`
    select status from public.tenants where subdomain = ${subdomain}`;
  return row?.["status"] as string | undefined;
};

async function logIn(app: TestApp, tenant: TestTenant, user: ProtectedUser): Promise<number> {
  nextStep();
  const calls = secondFactorCalls(app, tenant);
  const response = await calls.verify(await calls.challenge(user), totpCode(user.secret));
  return response.status;
}

describe("moveTenant", () => {
  test("moves a tenant to another server with its people and domains; there is a way back", async () => {
    const tenant = await here.createTenant();
    const user = await fillTenant(here, tenant);
    await here.registry`
      insert into public.tenant_domains (tenant_id, domain, is_primary, verified_at)
      values (${tenant.id}, 'app.moving.test', true, now())`;
    await here.registry`
      update public.tenants set paid_until = '2027-01-01', on_trial = true,
             rate_limits = '{"refresh": "9/min"}', log_retention_days = 400
       where id = ${tenant.id}`;
    const steps: string[] = [];

    const relocation = await move(tenant.subdomain, { onStep: (step) => void steps.push(step) });

    expect(steps).toEqual([
      "read-only here",
      "archived here",
      "restored there",
      "compared",
      "active there",
    ]);
    expect(relocation.compared).toBeGreaterThan(14);
    expect(await statusOf(here, tenant.subdomain)).toBe("read_only");
    expect(await statusOf(there, tenant.subdomain)).toBe("active");
    const [plan] = await there.registry`
      select paid_until, on_trial, rate_limits, log_retention_days
        from public.tenants where id = ${relocation.target.id}`;
    expect(plan).toEqual({
      paid_until: new Date("2027-01-01T00:00:00Z"),
      on_trial: true,
      rate_limits: { refresh: "9/min" },
      log_retention_days: 400,
    });
    const moved = asTestTenant(there, relocation.target);
    try {
      expect(await logIn(there, moved, user)).toBe(200);
      const byDomain = await there.app.inject({
        url: "/api/account/profile/",
        headers: { host: "app.moving.test" },
      });
      expect(byDomain.json()).toMatchObject({ code: "authentication_required" });
    } finally {
      await moved.sql.end();
    }
    const refused = await here
      .client(tenant)
      .patch("/api/account/profile/", { full_name: "Lost" }, { token: user.access });
    expect(refused).toMatchObject({ status: 403, body: { code: "tenant_read_only" } });

    // The way back, as the command prints it.
    const environment = ({ config, ownerUrl }: TestApp) => ({
      APP_ENV: "local",
      DATA_DIR: config.dataDir,
      DATABASE_URL: config.databaseUrl ?? "",
      DATABASE_MIGRATION_URL: ownerUrl,
    });
    const back = await runScript("tenant.ts", ["activate", tenant.subdomain], environment(here));
    const gone = await runScript(
      "tenant.ts",
      ["delete", tenant.subdomain, "--grace-days=0", "--yes"],
      environment(there),
    );
    expect([back.exitCode, gone.exitCode]).toEqual([0, 0]);
    expect(await statusOf(there, tenant.subdomain)).toBe("suspended");
    await vi.waitFor(async () => expect(await logIn(here, tenant, user)).toBe(200));
  });

  test("waits for a write that is under way, and takes it along", async () => {
    const tenant = await here.createTenant();
    let commit: (() => void) | undefined;
    const writing = tenant.sql.begin(async (tx) => {
      await tx`update users set full_name = 'Written at the last moment'`;
      await new Promise<void>((resolve) => (commit = resolve));
    });
    await vi.waitUntil(() => commit);
    const moving = move(tenant.subdomain);
    await vi.waitFor(
      async () => {
        const waiting = await here.registry`
          select 1 from pg_stat_activity
           where application_name = 'ouvira move' and wait_event_type = 'Lock'
             and datname = current_database()`;
        expect(waiting).toHaveLength(1);
      },
      { timeout: 10_000 },
    );
    commit?.();
    await writing;

    const { target } = await moving;

    const moved = asTestTenant(there, target);
    try {
      const [owner] = await moved.sql`select full_name from users`;
      expect(owner).toEqual({ full_name: "Written at the last moment" });
    } finally {
      await moved.sql.end();
    }
  });

  test.each<[string, { taken?: boolean; apiRole?: string; pepper?: string }, string]>([
    ["the target has one of its name", { taken: true }, "has a tenant"],
    [
      "the target has no role for the API",
      { apiRole: "nobody_at_all" },
      "run npm run migrate there",
    ],
    [
      "the passwords do not fit",
      { pepper: "another pepper ".repeat(4) },
      "another PASSWORD_PEPPER",
    ],
  ])("changes nothing when %s", async (_, { taken, apiRole, pepper }, sentence) => {
    const tenant = await here.createTenant();
    if (taken) await there.createTenant(tenant.subdomain);
    const before =
      await there.registry`select id, subdomain, status from public.tenants order by id`;
    const secrets =
      pepper === undefined ? {} : { secrets: { ...there.config, passwordPepper: pepper } };

    const moving = move(
      tenant.subdomain,
      { settleMs: 0 },
      { ...(apiRole === undefined ? {} : { apiRole }), ...secrets },
    );

    await expect(moving).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(sentence),
    });
    expect(await statusOf(here, tenant.subdomain)).toBe("active");
    const after =
      await there.registry`select id, subdomain, status from public.tenants order by id`;
    expect(after).toEqual(before);
  });

  test("erases it there and gives it back here when the two are not the same", async () => {
    const tenant = await here.createTenant();
    const before = await there.registry`select id from public.tenants order by id`;

    const moving = move(tenant.subdomain, {
      settleMs: 0,
      onStep: async (step) => {
        // Somebody with rights of their own writes, whatever the product says.
        if (step === "compared") await tenant.sql`update users set full_name = 'Late'`;
      },
    });

    await expect(moving).rejects.toMatchObject({
      code: "conflict",
      message: "Something was written to the tenant while it was moved.",
    });
    expect(await statusOf(here, tenant.subdomain)).toBe("active");
    expect(await there.registry`select id from public.tenants order by id`).toEqual(before);
  });
});

describe("npm run tenant -- move", () => {
  test("moves by the other installation's settings, and says the way back", async () => {
    const tenant = await here.createTenant();
    const envFile = folder.file("other.env");
    const settings = {
      APP_ENV: "local",
      DATA_DIR: there.config.dataDir,
      DATABASE_URL: there.config.databaseUrl ?? "",
      DATABASE_MIGRATION_URL: there.ownerUrl,
      ENCRYPTION_KEY: there.config.encryptionKey,
      PASSWORD_PEPPER: there.config.passwordPepper,
    };
    await writeFile(
      envFile,
      Object.entries(settings)
        .map(([name, value]) => `${name}="${value}"\n`)
        .join(""),
    );

    const moved = await runScript(
      "tenant.ts",
      ["move", tenant.subdomain, "--to-env", envFile, "--yes"],
      {
        APP_ENV: "local",
        DATA_DIR: here.config.dataDir,
        DATABASE_URL: here.config.databaseUrl ?? "",
        DATABASE_MIGRATION_URL: here.ownerUrl,
      },
    );

    expect(moved.stderr.trim().split("\n")).toHaveLength(5);
    expect(moved.exitCode).toBe(0);
    expect(moved.stdout).toContain(`npm run tenant -- activate ${tenant.subdomain}     here`);
    expect(await statusOf(there, tenant.subdomain)).toBe("active");
  });

  test("told to stop, it undoes what it did: the tenant works here, nothing of it is there", async () => {
    const tenant = await here.createTenant();
    const before = await there.registry`select id from public.tenants order by id`;
    const moving = startScript(
      "tenant.ts",
      ["move", tenant.subdomain, "--to", there.ownerUrl, "--yes"],
      {
        APP_ENV: "local",
        DATA_DIR: here.config.dataDir,
        // Names the other one's role; secrets are not needed before it is stopped.
        DATABASE_URL: there.config.databaseUrl ?? "",
        DATABASE_MIGRATION_URL: here.ownerUrl,
      },
    );
    await vi.waitUntil(() => moving.stderr().includes("read-only here"), { timeout: 10_000 });

    moving.child.kill("SIGINT");

    expect(await moving.exited).toBe(1);
    expect(moving.stderr()).toContain("The move was stopped and undone.");
    expect(await statusOf(here, tenant.subdomain)).toBe("active");
    expect(await there.registry`select id from public.tenants order by id`).toEqual(before);
  });

  test.each([
    ["no target", []],
    ["two targets", ["--to", "postgres://a@b/c", "--to-env", "x"]],
    ["a target that is no database", ["--to", "https://other.example"]],
    ["a file that is not there", ["--to-env", "/nowhere.env"]],
  ])("does not understand %s", async (_, args) => {
    const tenant = await here.createTenant();

    const refused = await runScript("tenant.ts", ["move", tenant.subdomain, ...args, "--yes"], {
      APP_ENV: "local",
      DATA_DIR: here.config.dataDir,
      DATABASE_URL: here.config.databaseUrl ?? "",
      DATABASE_MIGRATION_URL: here.ownerUrl,
    });

    expect(refused).toMatchObject({ exitCode: 2, stdout: "" });
    expect(await statusOf(here, tenant.subdomain)).toBe("active");
  });
});
