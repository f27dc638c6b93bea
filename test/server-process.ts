import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { vi } from "vitest";
import { ROOT_DIR } from "../src/paths.ts";

/** The service as a process of its own, listening on a port of its own. */
export interface ServerProcess {
  /** Where it listens: `http://127.0.0.1:…`. */
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts `src/server.ts` with nothing of this process's settings but PATH; resolves when it listens. */
export async function startServer(
  environment: Readonly<Record<string, string>>,
): Promise<ServerProcess> {
  const child = spawn(process.execPath, ["--import", "tsx", "src/server.ts"], {
    cwd: ROOT_DIR,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOST: "127.0.0.1", PORT: "0", ...environment },
  });
  const exited = once(child, "close");
  const url = await addressOf(child);
  return {
    url,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

async function addressOf(child: ChildProcess): Promise<string> {
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return vi.waitFor(
    () => {
      const url = /Server listening at (http:\/\/[^"]+)/.exec(output)?.[1];
      if (url === undefined) throw new Error(`The server does not listen: ${output}`);
      return url;
    },
    { timeout: 30_000, interval: 20 },
  );
}
