import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { readConfig } from "../src/config.ts";
import { startScript } from "../test/process.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";

let registry: TestRegistry;
let dataDir: string;
let passwords: PasswordHasher;

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-operators-"));
  const { passwordPepper: pepper } = readConfig(environment());
  passwords = new PasswordHasher({ pepper, cost: 4 });
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

function environment() {
  return { ...registry.environment(dataDir), BCRYPT_COST: "4" };
}

async function run(args: readonly string[], input = "") {
  const script = startScript("create-operator.ts", args, environment(), input);
  const exitCode = await script.exited;
  return { exitCode, stdout: script.stdout(), stderr: script.stderr() };
}

const operators = () => registry.sql`
  select email, password_hash, is_active, sealed_secret is not null as has_secret
    from platform.operators order by id`;

describe("npm run create-operator", () => {
  test("makes an operator with a password that is shown once, and writes it down", async () => {
    const made = await run(["--email", "Ops@Example.com", "--json"]);
    const again = await run(["--email", "ops@example.com"]);

    const { email, password } = JSON.parse(made.stdout) as { email: string; password: string };
    const [row] = await operators();
    expect(made).toMatchObject({ exitCode: 0, stderr: "" });
    expect(email).toBe("ops@example.com");
    expect(password).toMatch(/^[\w-]{24}$/);
    expect(await passwords.verify(password, String(row?.["password_hash"]))).toBe(true);
    expect(again).toMatchObject({ exitCode: 1, stdout: "" });
    expect(again.stderr).toContain("conflict: There is an operator ops@example.com already.");
    const log = await registry.sql`
      select action, operator_display from platform.logs where action = 'OPERATOR_CREATED'`;
    expect([...log]).toEqual([{ action: "OPERATOR_CREATED", operator_display: "ops@example.com" }]);
  });

  test("takes a password from its input, which no list of processes shows", async () => {
    const made = await run(
      ["--email=in@example.com", "--password-stdin"],
      "a fine long passphrase\n",
    );

    const rows = await operators();
    const row = rows.find(({ email }) => email === "in@example.com");
    expect(made.exitCode).toBe(0);
    expect(made.stdout).toBe("in@example.com can log in.\n");
    expect(await passwords.verify("a fine long passphrase", String(row?.["password_hash"]))).toBe(
      true,
    );
  });

  test("--reset gives a new password and takes the second factor, --disable locks out", async () => {
    await run(["--email=lost@example.com"]);
    await registry.sql`
      update platform.operators set sealed_secret = 'x', totp_confirmed_at = now()
       where email = 'lost@example.com'`;
    const find = async () => (await operators()).find(({ email }) => email === "lost@example.com");
    const before = await find();

    const reset = await run(["--email=lost@example.com", "--reset"]);
    const afterReset = await find();
    const disabled = await run(["--email=lost@example.com", "--disable"]);

    expect([reset.exitCode, disabled.exitCode]).toEqual([0, 0]);
    expect(before).toMatchObject({ has_secret: true });
    expect(afterReset).toMatchObject({ has_secret: false, is_active: true });
    expect(afterReset?.["password_hash"]).not.toBe(before?.["password_hash"]);
    expect(await find()).toMatchObject({ is_active: false });
  });

  test.each([
    ["nobody", [], "", 2, "npm run create-operator -- --email"],
    ["what is no address", ["--email=nobody"], "", 2, "--email: Enter"],
    ["a short password", ["--email=a@b.test", "--password-stdin"], "short", 2, "At least 8"],
    ["a common password", ["--email=a@b.test", "--password-stdin"], "password1", 2, "most common"],
    ["a reset of nobody", ["--email=a@b.test", "--reset"], "", 1, "There is no operator a@b.test."],
    ["two things at once", ["--email=a@b.test", "--reset", "--disable"], "", 2, "--disable takes"],
  ])("refuses %s and changes nothing", async (_, args, input, exitCode, sentence) => {
    const before = await operators();

    const refused = await run(args, input);

    expect(refused).toMatchObject({ exitCode, stdout: "" });
    expect(refused.stderr).toContain(sentence);
    expect(await operators()).toEqual(before);
  });
});
