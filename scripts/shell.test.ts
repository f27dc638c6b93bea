import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ROOT_DIR } from "../src/paths.ts";
import { startScript } from "../test/process.ts";
import { findProgram } from "../test/programs.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";

/** Starting takes seconds where others work, too. */
const WAIT = { timeout: 50_000 };
vi.setConfig({ testTimeout: 90_000 });

let registry: TestRegistry;
let dataDir: string;
let acme: { readonly id: number };
let globex: { readonly id: number };

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-shell-"));
  acme = await registry.createTenant("acme");
  globex = await registry.createTenant("globex");
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

async function run(args: readonly string[], input = "") {
  const script = startScript("shell.ts", args, registry.environment(dataDir), input);
  const exitCode = await script.exited;
  return { exitCode, stdout: script.stdout(), stderr: script.stderr() };
}

/** Connections of the API's role: a shell's are its only ones here. */
async function countConnections(): Promise<number> {
  const rows = await registry.sql`
    select pid from pg_stat_activity where usename = ${registry.apiRole}`;
  return rows.length;
}

describe("npm run shell", () => {
  test("a script on its input reaches what routes work with, and of tenants' tables only the chosen one's", async () => {
    const shell = await run(
      ["--tenant=acme", "--json"],
      `
      const codeOf = (work) => work().then(() => "done", ({ code }) => code);
      const own = await tenant.query\`select email from users\`;
      const refused = [
        await codeOf(() => tenant.query\`select id from t_${globex.id}.users\`),
        await codeOf(() => tenant.query\`select id from public.tenants\`),
        await codeOf(() => registry.query\`delete from public.tenants\`),
        await codeOf(() => use("nobody")),
      ];
      await tenant.transaction((tx) => tx\`update users set full_name = \${"Ada Lovelace"}\`);
      const changed = await tenant.query\`\${sql\`select full_name\`} from users\`;
      const { id } = await use("Globex");
      const other = await tenant.query\`select email, full_name from users\`;
      const { statusCode } = await app.inject({ url: "/healthz" });
      const { basename } = await import("node:path");
      ({ own, refused, changed, id, other, statusCode, name: basename("/a/b"), env: services.config.appEnv })
      `,
    );

    expect(shell.exitCode).toBe(0);
    expect(JSON.parse(shell.stdout)).toEqual({
      own: [{ email: "ada@acme.test" }],
      refused: ["42501", "42501", "42501", "tenant_not_found"],
      changed: [{ full_name: "Ada Lovelace" }],
      id: globex.id,
      other: [{ email: "ada@globex.test", full_name: "Ada" }],
      statusCode: 200,
      name: "b",
      env: "local",
    });
    // Where it is connected, and no password.
    const { host, pathname } = new URL(registry.apiUrl);
    expect(shell.stderr).toBe(
      `APP_ENV=local, database ${pathname.slice(1)} of ${host} as ${registry.apiRole}, tenant acme (t_${acme.id}, active)\n`,
    );
  });

  test.each([
    ["throws", `await tenant.query\`select 1 from nowhere\`; console.log("on")`, "42P01"],
    [
      "fails where nobody waits",
      "setTimeout(() => { throw new Error('late') }); await new Promise(() => {})",
      "late",
    ],
  ])(
    "a script that %s ends with 1, nothing after it runs, and no connection stays",
    async (_, script, reason) => {
      const shell = await run(["--tenant=acme"], script);

      expect(shell).toMatchObject({ exitCode: 1, stdout: "" });
      expect(shell.stderr).toContain(reason);
      await vi.waitFor(async () => expect(await countConnections()).toBe(0));
    },
  );

  test("SIGTERM ends it and closes what it opened", async () => {
    const shell = startScript(
      "shell.ts",
      [],
      registry.environment(dataDir),
      `try { tenant } catch ({ message }) { console.log(message) }
       await new Promise(() => {})`,
    );
    await vi.waitFor(() => expect(shell.stdout()).toContain("No tenant is chosen"), WAIT);
    shell.child.kill("SIGTERM");

    expect(await shell.exited).toBe(1);
    expect(shell.stderr()).toContain("Ended by SIGTERM");
    await vi.waitFor(async () => expect(await countConnections()).toBe(0));
  });

  test.runIf(findProgram("script") !== undefined)(
    "on a terminal it prompts with the tenant, survives an error, keeps a history and leaves with Ctrl-D",
    async () => {
      const terminal = spawn(
        "script",
        ["-qec", "node --import tsx scripts/shell.ts", "/dev/null"],
        {
          cwd: ROOT_DIR,
          env: { PATH: process.env["PATH"] ?? "", TERM: "xterm", ...registry.environment(dataDir) },
        },
      );
      let output = "";
      terminal.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
      const ended = new Promise((resolve) => terminal.once("close", resolve));
      const says = (text: string) => vi.waitFor(() => expect(output).toContain(text), WAIT);

      await says("ouvira> ");
      terminal.stdin.write("throw new Error('mine')\n");
      await says("Uncaught Error: mine");
      terminal.stdin.write('await use("acme")\n');
      await says("acme> ");
      terminal.stdin.write("(await tenant.query`select email from users`)[0].email\n");
      await says("ada@acme.test");
      terminal.stdin.write("\u0004");

      expect(await ended).toBe(0);
      const history = path.join(dataDir, "shell-history");
      expect(await readFile(history, "utf8")).toContain('await use("acme")');
      expect((await stat(history)).mode & 0o777).toBe(0o600);
      await vi.waitFor(async () => expect(await countConnections()).toBe(0));
    },
  );
});
