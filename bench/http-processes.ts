import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { build as buildService } from "../scripts/build.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { findPort } from "../test/ports.ts";
import { cpuOf, memoryOf } from "./machine.ts";

/** A server of its own process, listening. */
export interface MeasuredServer {
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Builds the service, and beside it what it is compared with. */
export async function build(): Promise<void> {
  await buildService({
    more: ["http-bare", "http-bound", "http-hashes"].map((name) => `bench/${name}.ts`),
  });
}

/** The service, as `npm start` starts it. */
export async function startService(
  settings: Readonly<Record<string, string>>,
  nodeOptions: readonly string[] = [],
): Promise<MeasuredServer> {
  const port = await findPort();
  const child = run([...nodeOptions, "dist/src/server.js"], { ...settings, PORT: String(port) });
  return listening(child, port, "/readyz");
}

/** The bound, on `schema`. */
export async function startBound(
  url: string,
  schema: string,
  connections: number,
): Promise<MeasuredServer> {
  const port = await findPort();
  const args = [String(port), url, schema, String(connections)];
  return listening(run(["dist/bench/http-bound.js", ...args], {}), port, "/readyz");
}

/** The least there is, for how long it takes to start. */
export async function startBare(url: string): Promise<MeasuredServer> {
  const port = await findPort();
  return listening(run(["dist/bench/http-bare.js", String(port), url], {}), port, "/readyz");
}

/** How many passwords bare bcrypt checks in a second. */
export function bareHashes(hash: string, password: string, seconds: number): number {
  const args = ["dist/bench/http-hashes.js", hash, password, String(seconds)];
  return Number(execFileSync(process.execPath, args, { cwd: ROOT_DIR, encoding: "utf8" }));
}

/** What was started and has not ended: nothing outlives a benchmark that fails. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

function run(args: readonly string[], settings: Readonly<Record<string, string>>): ChildProcess {
  return spawn(process.execPath, args, {
    cwd: ROOT_DIR,
    stdio: ["ignore", "ignore", "inherit"],
    env: { PATH: process.env["PATH"] ?? "", HOST: "127.0.0.1", ...settings },
  });
}

async function listening(child: ChildProcess, port: number, path: string): Promise<MeasuredServer> {
  const { pid } = child;
  for (;;) {
    if (child.exitCode !== null || pid === undefined) throw new Error("The server has ended");
    const answer = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
    if (answer?.ok) break;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  running.add(child);
  child.once("exit", () => running.delete(child));
  return {
    port,
    pid,
    async stop() {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** The processes that a PostgreSQL server has started, by its own id. */
function backendsOf(postmaster: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
        return Number(stat[1]) === postmaster;
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** CPU that a server and PostgreSQL have used so far, in milliseconds. */
export function usedCpu(
  server: MeasuredServer,
  postmaster: number,
): { node: number; postgres: number } {
  return { node: cpuOf([server.pid]), postgres: cpuOf([postmaster, ...backendsOf(postmaster)]) };
}

/** Memory of the greatest backend there is, in MB. */
export function greatestBackend(postmaster: number): number {
  return Math.max(...backendsOf(postmaster).map((pid) => memoryOf(pid)?.own ?? 0));
}
