import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPort } from "./ports.ts";
import { findProgram } from "./programs.ts";

/** Whether this machine has Redis' program. Tests that start one are skipped where it does not. */
export const hasRedisServer: boolean = findProgram("redis-server") !== undefined;

/** A Redis of the test's own, on a port of its own, that keeps nothing. */
export interface TestRedis {
  readonly url: string;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
  /** Starts it at the same address, empty. */
  start(): Promise<void>;
  /** Its connections stay and nothing is answered any more. */
  hang(): void;
  /** Ends {@link hang}. */
  goOn(): void;
  /** Removes it for good. */
  close(): Promise<void>;
}

/** Finds a port and starts a Redis there; with `isStarted: false` it is only told where it would be. */
export async function startRedis({ isStarted = true } = {}): Promise<TestRedis> {
  const port = await findPort();
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-redis-"));
  let server: ChildProcess | undefined;
  const kill = async () => {
    const ending = server;
    server = undefined;
    if (!ending || ending.exitCode !== null) return;
    ending.kill("SIGKILL");
    await once(ending, "close");
  };
  const redis: TestRedis = {
    url: `redis://127.0.0.1:${port}`,
    kill,
    async start() {
      server = spawn(
        "redis-server",
        ["--port", String(port), "--bind", "127.0.0.1", "--dir", dataDir, "--save", ""],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      await untilReady(server);
    },
    hang: () => void server?.kill("SIGSTOP"),
    goOn: () => void server?.kill("SIGCONT"),
    async close() {
      await kill();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
  if (isStarted) await redis.start();
  return redis;
}

async function untilReady({ stdout }: ChildProcess): Promise<void> {
  let output = "";
  for await (const chunk of stdout?.iterator({ destroyOnReturn: false }) ?? []) {
    output += String(chunk);
    if (!output.includes("Ready to accept connections")) continue;
    stdout?.resume();
    return;
  }
  throw new Error(`redis-server has ended: ${output}`);
}
