import { get, type IncomingMessage } from "node:http";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builtProgram } from "../test/built.ts";
import { PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { ROOT_DIR } from "./paths.ts";

const WAIT = { timeout: 20_000, interval: 20 };

let registry: TestRegistry;
let dataDir: string;

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-server-"));
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

interface Server {
  readonly child: ChildProcess;
  output(): string;
  readonly exited: Promise<unknown>;
}

function startServer(environment: Readonly<Record<string, string>>): Server {
  const child = spawn(process.execPath, [builtProgram("src/server")], {
    cwd: ROOT_DIR,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", PORT: "0", DATA_DIR: dataDir, ...environment },
  });
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return { child, output: () => output, exited: once(child, "close") };
}

async function addressOf(server: Server): Promise<string> {
  await expect.poll(() => server.output(), WAIT).toContain("Server listening at");
  return /Server listening at (http:\/\/[^"]+)/.exec(server.output())?.[1] ?? "";
}

describe("the server", () => {
  test("told to stop finishes the request under way, and ends with 0", async () => {
    const server = startServer({
      APP_ENV: "local",
      DATABASE_URL: registry.apiUrl,
      DATABASE_MIGRATION_URL: registry.url,
      // About a second for the hash of the login below, which is under way when the signal comes.
      BCRYPT_COST: "14",
    });
    const base = await addressOf(server);
    const answer = fetch(`${base}/api/auth/login/`, {
      method: "POST",
      headers: { "x-tenant": "demo", "content-type": "application/json" },
      body: JSON.stringify({ identifier: "nobody", password: "wrong password" }),
    });
    const figures = async () => (await fetch(`${base}/metrics`)).text();
    await expect.poll(figures, WAIT).toContain("ouvira_password_hashes_pending 1");

    server.child.kill("SIGTERM");

    expect((await answer).status).toBe(401);
    await server.exited;
    expect(server.child.exitCode).toBe(0);
    await expect(fetch(base)).rejects.toThrow("fetch failed");
  });

  test("without APP_ENV refuses and says what to set", async () => {
    const server = startServer({});

    await server.exited;
    expect(server.child.exitCode).toBe(1);
    expect(server.output()).toContain("set APP_ENV=local to try the product");
  });

  test("in production refuses a superuser in a sentence", async () => {
    const server = startServer({ ...PRODUCTION_SETTINGS, DATABASE_URL: registry.url });

    await server.exited;
    expect(server.child.exitCode).toBe(1);
    expect(server.output()).toContain("the role postgres is a superuser");
    expect(server.output()).not.toContain("    at ");
  });

  test("in production starts with the role that migrate made", async () => {
    const server = startServer({
      ...PRODUCTION_SETTINGS,
      HOST: "127.0.0.1",
      DATABASE_URL: registry.apiUrl,
    });
    try {
      expect((await fetch(`${await addressOf(server)}/readyz`)).status).toBe(200);
    } finally {
      server.child.kill("SIGTERM");
      await server.exited;
    }
  });

  test.each([
    ["without DATABASE_MIGRATION_URL has no platform", () => ({}), 404],
    [
      "with DATABASE_MIGRATION_URL serves operators",
      () => ({ DATABASE_MIGRATION_URL: registry.url }),
      401,
    ],
  ])("in production %s", async (_, settings, status) => {
    const server = startServer({
      ...PRODUCTION_SETTINGS,
      HOST: "127.0.0.1",
      DATABASE_URL: registry.apiUrl,
      ...settings(),
    });
    try {
      const url = new URL("/api/platform/tenants/", await addressOf(server));
      const answer = await new Promise<IncomingMessage>((resolve, reject) =>
        get(url, { headers: { host: "api.corp.test" } }, resolve).on("error", reject),
      );
      answer.resume();
      expect(answer.statusCode).toBe(status);
    } finally {
      server.child.kill("SIGTERM");
      await server.exited;
    }
  });

  test("with a database that is away says so in a sentence", async () => {
    const server = startServer({
      ...PRODUCTION_SETTINGS,
      DATABASE_URL: "postgres://api@127.0.0.1:1/none",
    });

    await server.exited;
    expect(server.child.exitCode).toBe(1);
    expect(server.output()).toContain("The database cannot be reached. (connect ECONNREFUSED");
  });
});
