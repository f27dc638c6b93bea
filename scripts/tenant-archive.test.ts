import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runScript } from "../test/process.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";

let registry: TestRegistry;
let folder: string;

beforeAll(async () => {
  registry = await createRegistry();
  folder = await mkdtemp(path.join(tmpdir(), "ouvira-archive-cli-"));
});
afterAll(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

const file = (name: string) => path.join(folder, name);

function run(...args: string[]) {
  return runScript("tenant.ts", args, {
    ...registry.environment(folder),
    // What is left there is this command's.
    TMPDIR: folder,
  });
}

async function subdomains(): Promise<string[]> {
  const rows = await registry.sql`select subdomain from public.tenants order by id`;
  return rows.map((row) => String(row["subdomain"]));
}

describe("npm run tenant -- export, import", () => {
  test("writes one file and makes a tenant of it; what it says is what there is", async () => {
    const source = await registry.createTenant("exported");

    const exported = await run("export", "exported", "--out", file("exported.zip"));
    const again = await run("export", "exported", "--out", file("exported.zip"), "--json");
    const imported = await run(
      "import",
      file("exported.zip"),
      "--subdomain=imported",
      "--name=Another",
      "--read-only",
      "--no-messages",
      "--json",
    );

    expect(exported.exitCode).toBe(0);
    expect(exported.stdout).toMatch(/^Wrote \d+ rows of \d+ tables to \/.*\/exported\.zip\n$/);
    expect(exported.stderr).toMatch(/^\d+\/\d+ users: 1 rows read$/m);
    expect((await stat(file("exported.zip"))).mode & 0o777).toBe(0o600);
    expect(again).toMatchObject({ exitCode: 1, stdout: "" });
    expect(JSON.parse(again.stderr)).toMatchObject({ error: { code: "conflict" } });
    expect(imported).toMatchObject({ exitCode: 0, stderr: "" });
    const made = JSON.parse(imported.stdout) as { id: number };
    expect(made).toMatchObject({ subdomain: "imported", status: "read_only" });
    expect(made.id).toBeGreaterThan(source.id);
    const [row] = await registry.sql`
      select name, status, sends_messages from public.tenants where id = ${made.id}`;
    expect(row).toEqual({ name: "Another", status: "read_only", sends_messages: false });
    const [user] = await registry.sql.unsafe(`select email from t_${made.id}.users`);
    expect(user).toEqual({ email: "ada@exported.test" });
  });

  test.each([
    ["no subdomain", ["export"], 2, "npm run tenant -- export acme"],
    [
      "a folder that is not there",
      ["export", "shown", "--out", "/nowhere/x.zip"],
      1,
      "cannot be written",
    ],
    ["no such tenant", ["export", "nobody", "--out", "never.zip"], 1, "There is no tenant"],
    ["no file", ["import"], 2, "npm run tenant -- import"],
    ["a file that is not there", ["import", "/nowhere.zip"], 1, "There is no file /nowhere.zip"],
    ["one name for a clone", ["clone", "acme"], 2, "npm run tenant -- clone acme"],
  ])("refuses %s", async (_, args, exitCode, sentence) => {
    if (!(await subdomains()).includes("shown")) await registry.createTenant("shown");
    const before = await subdomains();

    const refused = await run(...args);

    expect(refused).toMatchObject({ exitCode, stdout: "" });
    expect(refused.stderr).toContain(sentence);
    expect(refused.stderr).not.toContain("    at ");
    expect(await subdomains()).toEqual(before);
  });
});

describe("npm run tenant -- clone, messages", () => {
  test("makes a copy whose messages are off until they are turned on, and leaves no file", async () => {
    await registry.createTenant("cloned");
    const cloned = await run("clone", "cloned", "cloned-staging");
    const shown: unknown = JSON.parse((await run("show", "cloned-staging", "--json")).stdout);
    const on = await run("messages", "cloned-staging", "on");
    const after = await run("show", "cloned-staging", "--json");
    const misunderstood = await run("messages", "cloned-staging", "perhaps");

    expect(cloned.exitCode).toBe(0);
    expect(cloned.stdout).toContain("No message of it is sent.");
    expect(shown).toMatchObject({
      name: "The cloned (copy)",
      status: "active",
      sends_messages: false,
    });
    expect(on.stdout).toBe("Messages of cloned-staging are sent.\n");
    expect(JSON.parse(after.stdout)).toMatchObject({ sends_messages: true });
    expect(misunderstood.exitCode).toBe(2);
    const left = await readdir(folder);
    expect(left.filter((name) => name.startsWith("ouvira-archive-"))).toEqual([]);
  });
});

describe("npm run tenant -- delete", () => {
  test("suspends, then erases when the grace is over, with a receipt", async () => {
    const { id } = await registry.createTenant("leaving");

    const unasked = await run("delete", "leaving");
    const stillThere = await run("show", "leaving", "--json");
    const early = await run("delete", "leaving", "--erase", "--yes");
    const scheduled = await run("delete", "leaving", "--grace-days", "0", "--yes");
    const erased = await run("delete", "leaving", "--erase", "--yes");

    expect(unasked).toMatchObject({ exitCode: 2, stdout: "" });
    expect(unasked.stderr).toContain("--yes");
    expect(JSON.parse(stillThere.stdout)).toMatchObject({ status: "active", delete_after: null });
    expect(early).toMatchObject({ exitCode: 1, stdout: "" });
    expect(early.stderr).toContain("was not said to be deleted");
    expect(scheduled.stdout).toContain("npm run tenant -- activate leaving");
    expect(erased).toMatchObject({ exitCode: 0, stderr: "" });
    expect(erased.stdout).toContain(`Erased "leaving" (id ${id})`);
    expect(erased.stdout).toMatch(/^schemas +1 +0$/m);
    expect(erased.stdout).toMatch(/^roles +1 +0$/m);
    expect(await subdomains()).not.toContain("leaving");
  });

  test("--due erases those whose grace is over, and no other", async () => {
    await registry.createTenant("due-one");
    await registry.createTenant("waiting");
    await run("delete", "due-one", "--grace-days=0", "--yes");
    await run("delete", "waiting", "--grace-days=5", "--yes");

    const erased = await run("delete", "--due", "--yes", "--json");
    const again = await run("delete", "--due");

    expect(JSON.parse(erased.stdout)).toMatchObject([{ subdomain: "due-one" }]);
    expect(again).toMatchObject({ exitCode: 0, stdout: "No tenant's grace is over.\n" });
    expect(await subdomains()).toContain("waiting");
    expect(await subdomains()).not.toContain("due-one");
  });

  test("--due goes on past one that is in use, and says so", async () => {
    const { schema } = await registry.createTenant("in-use");
    await registry.createTenant("free");
    await run("delete", "in-use", "--grace-days=0", "--yes");
    await run("delete", "free", "--grace-days=0", "--yes");

    const erased = await registry.sql.begin(async (tx) => {
      await tx.unsafe(`lock table ${schema}.users in access share mode`);
      return run("delete", "--due", "--yes");
    });

    expect(erased.exitCode).toBe(1);
    expect(erased.stderr).toBe('in-use: Something of "in-use" is still in use. Try again.\n');
    expect(erased.stdout).toContain('Erased "free"');
    expect(await subdomains()).toContain("in-use");
    expect((await run("delete", "--due", "--yes")).exitCode).toBe(0);
    expect(await subdomains()).not.toContain("in-use");
  });

  test.each([
    ["nothing", ["delete"]],
    ["one tenant and all that are due", ["delete", "waiting", "--due"]],
    ["a grace for what is erased now", ["delete", "waiting", "--erase", "--grace-days", "3"]],
  ])("does not understand %s", async (_, args) => {
    const before = await subdomains();

    expect((await run(...args, "--yes")).exitCode).toBe(2);
    expect(await subdomains()).toEqual(before);
  });
});
