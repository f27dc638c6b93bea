import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDatabase } from "../test/cluster.ts";
import { runScript } from "../test/process.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";

let registry: TestRegistry;
let dataDir: string;

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-cli-"));
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

function run(script: string, ...args: string[]) {
  return runScript(script, args, {
    APP_ENV: "local",
    DATA_DIR: dataDir,
    DATABASE_URL: registry.apiUrl,
    DATABASE_MIGRATION_URL: registry.url,
    FRONTEND_URL: "https://app.test",
  });
}

const ACME = [
  "--name=Acme",
  "--subdomain=acme",
  "--owner-email=Owner@Acme.test",
  "--owner-phone=+20 100 123 4567",
];

async function countTenants(): Promise<number> {
  return (await registry.sql`select id from public.tenants`).length;
}

describe("npm run tenant -- create", () => {
  test("makes the tenant and prints a link for the owner; the same again is a conflict", async () => {
    const first = await run("tenant.ts", "create", ...ACME, "--json");
    const tenants = await countTenants();
    const second = await run("tenant.ts", "create", ...ACME);

    expect(first).toMatchObject({ exitCode: 0, stderr: "" });
    const created: unknown = JSON.parse(first.stdout);
    expect(created).toMatchObject({
      subdomain: "acme",
      schema: expect.stringMatching(/^t_\d+$/),
      password_link: expect.stringMatching(
        /^https:\/\/app\.test\/reset-password\?tenant=acme#token=[\w-]{43}$/,
      ),
    });
    expect(second).toMatchObject({ exitCode: 1, stdout: "" });
    expect(second.stderr).toBe('conflict: The subdomain "acme" is taken.\n');
    expect(await countTenants()).toBe(tenants);
  });

  test.each([
    ["a reserved subdomain", ["--subdomain", "admin"], 1, 'The subdomain "admin" is reserved.'],
    ["a malformed subdomain", ["--subdomain", "a_b"], 1, "A subdomain has 3 to 63 letters"],
    ["a phone number that is none", ["--owner-phone", "12345"], 2, "--owner-phone: Enter a phone"],
    ["an e-mail address that is none", ["--owner-email", "nobody"], 2, "--owner-email: Enter"],
    ["a short password", ["--owner-password", "short"], 2, "--owner-password: At least 8"],
    ["an option that there is not", ["--color", "red"], 2, "--color"],
  ])("refuses %s in a sentence and makes nothing", async (_, args, exitCode, sentence) => {
    const before = await countTenants();

    const refused = await run("tenant.ts", "create", ...ACME, "--subdomain", "other", ...args);

    expect(refused).toMatchObject({ exitCode, stdout: "" });
    expect(refused.stderr).toContain(sentence);
    expect(refused.stderr).not.toContain("    at ");
    expect(await countTenants()).toBe(before);
  });
});

describe("npm run tenant -- list, show", () => {
  test("list names every tenant, show one, in words and in JSON", async () => {
    await run("tenant.ts", "create", ...ACME, "--subdomain", "shown", "--domain", "App.Shown.test");

    const list = await run("tenant.ts", "list");
    const listed: unknown = JSON.parse((await run("tenant.ts", "list", "--json")).stdout);
    const shown: unknown = JSON.parse((await run("tenant.ts", "show", "shown", "--json")).stdout);
    const missing = await run("tenant.ts", "show", "nobody");

    expect(list.stdout).toMatch(/^id +subdomain +status +version +name\n/);
    expect(list.stdout).toContain("shown");
    expect(listed).toContainEqual(shown);
    expect(shown).toMatchObject({
      subdomain: "shown",
      status: "active",
      domains: ["app.shown.test"],
      migration_state: "applied",
    });
    expect(missing).toMatchObject({ exitCode: 1, stdout: "" });
    expect(missing.stderr).toContain('tenant_not_found: There is no tenant "nobody".');
  });

  test("a command that there is not is refused with the help, exit code 2", async () => {
    const refused = await run("tenant.ts", "explode");

    expect(refused).toMatchObject({ exitCode: 2, stdout: "" });
    expect(refused.stderr).toContain("npm run tenant -- create");
  });

  test("with a database and without APP_ENV: refused, since the secrets would be another server's", async () => {
    const refused = await runScript("tenant.ts", ["list"], { DATABASE_URL: registry.apiUrl });

    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain("APP_ENV is not set");
  });

  test("on a database that nobody has migrated: a sentence, exit code 1", async () => {
    const empty = await createDatabase();
    const settings = { APP_ENV: "local", DATA_DIR: dataDir, DATABASE_URL: empty.url };
    try {
      const refused = await runScript("tenant.ts", ["list"], settings);

      expect(refused).toEqual({
        exitCode: 1,
        stdout: "",
        stderr: "not_ready: The database is not migrated: run npm run migrate.\n",
      });
    } finally {
      await empty.drop();
    }
  });

  test("without a database: a sentence and the reason, exit code 1", async () => {
    const refused = await runScript("tenant.ts", ["list"], {
      APP_ENV: "local",
      DATA_DIR: dataDir,
      DATABASE_URL: "postgres://nobody@127.0.0.1:1/nothing",
    });

    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain("not_ready: The database cannot be reached.");
    expect(refused.stderr).toContain("ECONNREFUSED");
  });
});

describe("npm run migrate", () => {
  test("says what it did; with nothing to do it says that", async () => {
    const result = await run("migrate.ts");

    expect(result).toMatchObject({ exitCode: 0, stderr: "" });
    expect(result.stdout).toContain("registry: 0 migrations applied");
    expect(result.stdout).toMatch(/fleet: \d+ tenants, 0 migrated, 0 failed, version \d{13}_/);
  });

  test("exits 1 and names the tenant whose schema is not as it should be", async () => {
    const [tenant] = await registry.sql`
      update public.tenant_migrations set version = 'old' returning tenant_id`;
    await registry.sql.unsafe(
      `insert into t_${tenant?.["tenant_id"]}.pgmigrations (name, run_on) values ('0_unknown', now())`,
    );

    const result = await run("migrate.ts", "--json");

    expect(result.exitCode).toBe(1);
    expect(JSON.parse(result.stdout)).toMatchObject({
      fleet: {
        failed: [{ id: tenant?.["tenant_id"], error: expect.stringContaining("0_unknown") }],
      },
    });
  });
});
