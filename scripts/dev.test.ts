import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, utimes, chmod } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findEmbeddedServer } from "../src/db/embedded-server.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { findPort } from "../test/ports.ts";
import { type ScriptProcess, startScript } from "../test/process.ts";

const WAIT = { timeout: 60_000, interval: 50 };

let dataDir: string;
let port: number;

beforeAll(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-dev-"));
  // The postgres user's way in, when this runs as root.
  await chmod(dataDir, 0o711);
  port = await findPort();
});

afterAll(async () => {
  await rm(dataDir, { recursive: true, force: true });
});

function startDev(more: Readonly<Record<string, string>> = {}): ScriptProcess {
  return startScript("dev.ts", [], { DATA_DIR: dataDir, PORT: String(port), ...more });
}

async function isWelcoming(dev: ScriptProcess): Promise<void> {
  await expect
    .poll(() => `${dev.stdout()}${dev.stderr()}`, WAIT)
    .toContain("Ctrl-C stops everything");
}

async function stop(dev: ScriptProcess): Promise<void> {
  dev.child.kill("SIGINT");
  await dev.exited;
}

async function postmasterPid(): Promise<string | undefined> {
  const text = await readFile(path.join(dataDir, "postgres", "postmaster.pid"), "utf8");
  return text.split("\n")[0];
}

async function curl(dev: ScriptProcess): Promise<unknown> {
  const line = dev
    .stdout()
    .split("\n")
    .find((text) => text.trim().startsWith("curl "));
  const { stdout } = await promisify(execFile)("sh", ["-c", line ?? "exit 1"]);
  return JSON.parse(stdout);
}

/** As the operator whose password it printed. */
function logInToConsole(dev: ScriptProcess): Promise<Response> {
  const [, email, password] = /Console: log in as (\S+) with (\S+)/.exec(dev.stdout()) ?? [];
  return fetch(`http://127.0.0.1:${port}/api/platform/login/`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ email, password }),
  });
}

describe("npm run dev", () => {
  test("starts everything on an empty folder, and the curl line works as it is printed", async () => {
    const dev = startDev();
    try {
      await isWelcoming(dev);

      expect(await curl(dev)).toMatchObject({
        tokens: { access: expect.any(String), refresh: expect.any(String), expires_in: 3600 },
        user: { email: "owner@demo.test" },
      });
      expect(dev.stdout()).toContain(`http://localhost:${port}/swagger/`);
      expect(dev.stdout()).toContain(`http://localhost:${port}/admin/`);
      expect((await logInToConsole(dev)).status).toBe(200);
    } finally {
      await stop(dev);
    }
    expect(await findEmbeddedServer(dataDir)).toBeUndefined();
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow("fetch failed");
  });

  test("keeps what was written, also when it was killed: kill -9 of the script and of the server", async () => {
    const killed = startDev();
    await isWelcoming(killed);
    const before = await curl(killed);
    const pid = await postmasterPid();
    killed.child.kill("SIGKILL");
    await killed.exited;
    process.kill(Number(pid), "SIGKILL");

    // The API ends with the script that started it, and leaves the port.
    await expect
      .poll(
        () =>
          fetch(`http://127.0.0.1:${port}/`).then(
            () => "answers",
            () => "gone",
          ),
        WAIT,
      )
      .toBe("gone");

    const dev = startDev();
    try {
      await isWelcoming(dev);
      expect(await curl(dev)).toMatchObject({
        user: (before as { user: object }).user,
      });
    } finally {
      await stop(dev);
    }
  });

  test("a changed file restarts the API, not the database", async () => {
    const dev = startDev();
    try {
      await isWelcoming(dev);
      const pid = await postmasterPid();
      const started = () => dev.stdout().split("Server listening").length - 1;
      const before = started();

      await utimes(path.join(ROOT_DIR, "src", "errors.ts"), new Date(), new Date());

      await expect.poll(started, WAIT).toBeGreaterThan(before);
      expect(await postmasterPid()).toBe(pid);
      expect(await curl(dev)).toMatchObject({ user: { email: "owner@demo.test" } });
    } finally {
      await stop(dev);
    }
  });

  test("a taken port is said in a sentence, before a database is started", async () => {
    const other = net.createServer().listen(port, "127.0.0.1");
    await once(other, "listening");
    try {
      const dev = startDev();

      expect(await dev.exited).toBe(1);
      expect(dev.stderr()).toContain(`Port ${port} of 127.0.0.1 is taken`);
      expect(dev.stderr()).not.toContain("    at ");
      expect(await findEmbeddedServer(dataDir)).toBeUndefined();
    } finally {
      other.close();
    }
  });

  test("refuses APP_ENV=production in a sentence", async () => {
    const dev = startDev({ APP_ENV: "production" });

    expect(await dev.exited).toBe(1);
    expect(dev.stderr()).toContain("SECRET_KEY is required");
    expect(dev.stderr()).not.toContain("    at ");
  });
});
