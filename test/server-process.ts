import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { vi } from "vitest";
import { ROOT_DIR } from "../src/paths.ts";
import { builtProgram } from "./built.ts";
import { findPort } from "./ports.ts";

/** The service as a process of its own, listening on a port of its own. */
export interface ServerProcess {
  /** Where it listens: `http://127.0.0.1:…`. */
  readonly url: string;
  /** What it has written so far; nothing where its output goes to a file. */
  output(): string;
  /** False once it has ended, for whatever reason. */
  readonly isRunning: boolean;
  /** Tells it to stop, without waiting. */
  terminate(): void;
  /** Ends it as a crash does. */
  kill(): void;
  /** Its exit code once it has ended; null when a signal ended it. */
  readonly exited: Promise<number | null>;
  stop(): Promise<void>;
}

export interface ServerOptions {
  /** An open file that gets what it writes to stdout and stderr. */
  readonly outputFile?: number;
}

const LISTENS_WITHIN = { timeout: 45_000, interval: 20 };

/** Starts the built service with nothing of this process's settings but PATH; resolves when it listens. */
export async function startServer(
  environment: Readonly<Record<string, string>>,
  { outputFile }: ServerOptions = {},
): Promise<ServerProcess> {
  // Whoever writes to a file does not tell here where it listens.
  const port = outputFile === undefined ? 0 : await findPort();
  const child = spawn(process.execPath, [builtProgram("src/server")], {
    cwd: ROOT_DIR,
    stdio: ["ignore", outputFile ?? "pipe", outputFile ?? "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOST: "127.0.0.1", PORT: `${port}`, ...environment },
  });
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, "close").then(() => child.exitCode);
  const url =
    outputFile === undefined
      ? await addressIn(child, () => output)
      : await answering(child, `http://127.0.0.1:${port}`);
  return {
    url,
    output: () => output,
    get isRunning() {
      return !hasEnded(child);
    },
    terminate: () => void child.kill("SIGTERM"),
    kill: () => void child.kill("SIGKILL"),
    exited,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

async function addressIn(child: ChildProcess, output: () => string): Promise<string> {
  return vi.waitUntil(() => {
    if (hasEnded(child)) throw new Error(`The server has ended: ${output()}`);
    return /Server listening at (http:\/\/[^"]+)"/.exec(output())?.[1];
  }, LISTENS_WITHIN);
}

async function answering(child: ChildProcess, url: string): Promise<string> {
  await vi.waitUntil(async () => {
    if (hasEnded(child)) throw new Error(`The server has ended with ${child.exitCode}`);
    return (await fetch(`${url}/healthz`).catch(() => undefined)) !== undefined;
  }, LISTENS_WITHIN);
  return url;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
