import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text as textOf } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { type ServerProcess, startServer } from "../test/server-process.ts";
import { ROOT_DIR } from "./paths.ts";

/** A server, and some twenty requests after each other. */
const TIMEOUT_MS = 120_000;

const README = await readFile(path.join(ROOT_DIR, "README.md"), "utf8");
const [, conversation = ""] =
  /<!-- conversation -->([\s\S]*)<!-- \/conversation -->/.exec(README) ?? [];

/** What is typed, block by block. */
const typed = [...conversation.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(
  ([, block = ""]) => block,
);

/** What is said to come back, line by line; cut lists end where they are cut. */
const expected = [...conversation.matchAll(/^ {4}(\S.*)$/gm)].map(([, line = ""]) =>
  line.replaceAll(",…]", "]"),
);

/** Fields whose value is part of the conversation; of others the kind of value is. */
const CONSTANT = ["message", "detail", "code", "status", "method", "title", "requires_2fa"];

/** A value without what differs from time to time. */
function shapeOf(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map((item) => shapeOf(item));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, shapeOf(inner, name)]),
    );
  }
  if (value === null || CONSTANT.includes(key)) return value;
  return typeof value;
}

const shapeOfLine = (line: string): unknown => shapeOf(JSON.parse(line), "status");

let registry: TestRegistry;
let dataDir: string;
let server: ServerProcess;

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-readme-"));
  server = await startServer({ ...registry.environment(dataDir), BCRYPT_COST: "4" });
}, TIMEOUT_MS);
afterAll(async () => {
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
  await registry.close();
});

describe("README.md", () => {
  test(
    "its conversation, pasted into a shell, goes as it is printed",
    async () => {
      const script = typed.join("\n").replace("http://localhost:8000", server.url);
      const shell = spawn("sh", ["-eu"], {
        env: { PATH: process.env["PATH"] ?? "" },
        stdio: ["pipe", "pipe", "pipe"],
      });
      shell.stdin.end(script);
      const [stdout, stderr] = await Promise.all([textOf(shell.stdout), textOf(shell.stderr)]);
      const printed = stdout.trim().split("\n");

      expect(stderr).toBe("");
      expect(typed.length).toBeGreaterThan(7);
      expect(printed.map(shapeOfLine)).toEqual(expected.map(shapeOfLine));
    },
    TIMEOUT_MS,
  );
});
