import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { OPERATOR_COMMANDS } from "../scripts/operator-commands.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { builtProgram } from "./built.ts";

/** A script of the project as a process of its own, and what it has printed so far. */
export interface ScriptProcess {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Its exit code, once it has ended; null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

/**
 * Starts `scripts/<name>`, built where `npm run build` builds it, with nothing of this process's settings but PATH.
 */
export function startScript(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  input?: string,
): ScriptProcess {
  const command = OPERATOR_COMMANDS.find((one) => name === `${one}.ts`);
  const script = command
    ? [builtProgram(`scripts/${command}`)]
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
