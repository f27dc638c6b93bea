import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { ROOT_DIR } from "../src/paths.ts";
import { builtProgram, type Program } from "./built.ts";

/** A script of the project as a process of its own, and what it has printed so far. */
export interface ScriptProcess {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Its exit code, once it has ended; null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

/** What `npm run build` makes of the scripts. */
const BUILT: ReadonlySet<string> = new Set([
  "check-deploy",
  "create-operator",
  "migrate",
  "tenant",
]);

/**
 * Starts `scripts/<name>`, built where `npm run build` builds it, with nothing of this process's settings but PATH.
 */
export function startScript(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  input?: string,
): ScriptProcess {
  const program = name.replace(/\.ts$/, "");
  const script = BUILT.has(program)
    ? [builtProgram(`scripts/${program}` as Program)]
    : ["--import", "tsx", `scripts/${name}`];
  const child = spawn(process.execPath, [...script, ...args], {
    cwd: ROOT_DIR,
    stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...environment },
  });
  child.stdin?.end(input);
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    exited: once(child, "close").then(() => child.exitCode),
  };
}

/** Runs a script to its end. */
export async function runScript(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  const started = startScript(name, args, environment);
  const exitCode = await started.exited;
  return { exitCode, stdout: started.stdout(), stderr: started.stderr() };
}
