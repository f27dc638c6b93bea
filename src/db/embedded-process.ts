import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** Names one process for good: a pid alone is given to another program sooner or later. */
export interface ProcessIdentity {
  readonly pid: number;
  /** The moment it started, in whatever form the system tells it; only ever compared. */
  readonly startedAt: string;
}

export interface RunningProcess extends ProcessIdentity {
  /** Program and arguments, with a space between. */
  readonly commandLine: string;
}

/** Pause between two looks at who holds a lock, in milliseconds: this much, and up to twice it. */
const LOCK_POLL_MS = 25;

/**
 * Finds a running process. One that has ended and waits for its parent to notice (a zombie, which
 * in a container without an init process it stays for ever) does not count as running.
 */
export async function findProcess(pid: number): Promise<RunningProcess | undefined> {
  return process.platform === "linux" ? findInProc(pid) : findWithPs(pid);
}

/** Linux: proc(5). `cmdline` and `stat` can be read for every user's processes, even without CAP_SYS_PTRACE. */
async function findInProc(pid: number): Promise<RunningProcess | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8");
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const state = fields[0];
    const startedAt = fields[19];
    if (startedAt === undefined || state === "Z" || state === "X") return undefined;
    return { pid, startedAt, commandLine: commandLine.replaceAll("\0", " ") };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes(errorCode(error) ?? "")) return undefined;
    throw error;
  }
}

/** Other Unixes, macOS above all: the same three facts from `ps`, which POSIX requires. */
export async function findWithPs(pid: number): Promise<RunningProcess | undefined> {
  const format = ["-o", "stat=", "-o", "lstart=", "-o", "args="];
  const { stdout } = await promisify(execFile)("ps", ["-ww", ...format, "-p", `${pid}`], {
    env: { PATH: process.env["PATH"], LC_ALL: "C" },
  }).catch(() => ({ stdout: "" })); // ps fails when there is no such process
  // For example: `Ss   Mon Nov 23 21:05:24 2026 /opt/bin/postgres -D /data`.
  const match = /^(\S+)\s+(\w+ +\w+ +\d+ +[\d:]+ +\d+) (.*)/.exec(stdout);
  const [, state, startedAt, commandLine] = match ?? [];
  if (startedAt === undefined || commandLine === undefined || state?.startsWith("Z")) {
    return undefined;
  }
  return { pid, startedAt: startedAt.replace(/\W+/g, ""), commandLine: `${commandLine} ` };
}

export async function isRunning({ pid, startedAt }: ProcessIdentity): Promise<boolean> {
  return (await findProcess(pid))?.startedAt === startedAt;
}

/** The identity of this process. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  const own = await findProcess(process.pid);
  if (!own) throw new Error("The system does not tell about this process (is /proc mounted?).");
  return { pid: own.pid, startedAt: own.startedAt };
}

/**
 * Runs `work` while no other process, nor another call in this one, runs under the same lock.
 *
 * Every contender has a file of its own, `<path>-<pid>-<start>-<random>`, and goes ahead when, after
 * making it, it sees nobody else's: of two at once whoever looks last sees both, so never two go
 * ahead. The file of a dead process can be removed by anybody at any time, as its name never comes
 * back. With one common file, a second contender that found the owner dead could remove the lock that
 * a third had taken meanwhile.
 *
 * @throws Error after `waitMs`, naming the process that holds the lock
 */
export async function withLock<T>(
  path: string,
  waitMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const own = await ownIdentity();
  const ticket = `${path}-${own.pid}-${own.startedAt}-${randomBytes(4).toString("hex")}`;
  const deadline = Date.now() + waitMs;
  try {
    for (;;) {
      await writeFile(ticket, "", { flag: "wx" });
      const holder = await findOtherContender(path, ticket);
      if (holder === undefined) return await work();
      await rm(ticket);
      if (Date.now() > deadline) {
        throw new Error(
          `Process ${holder} has held the lock ${path} for ${waitMs / 1000} s: end it, and try again.`,
        );
      }
      // The random part keeps two contenders from meeting each other again and again.
      await sleep(LOCK_POLL_MS * (1 + Math.random()));
    }
  } finally {
    await rm(ticket, { force: true });
  }
}

/** The pid of a living contender for a lock beside the owner of `ticket`. Removes what dead ones left. */
async function findOtherContender(path: string, ticket: string): Promise<number | undefined> {
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(`${basename(path)}-`) || name === basename(ticket)) continue;
    const [pidText, startedAt] = name.slice(basename(path).length + 1).split("-");
    const pid = Number(pidText);
    if (startedAt !== undefined && (await isRunning({ pid, startedAt }))) return pid;
    await rm(join(dirname(path), name), { force: true });
  }
  return undefined;
}

/** Writes a small file so that a reader, or the next start after a crash, sees all of it or nothing. */
export async function writeWhole(path: string, text: string, mode: number): Promise<void> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  await writeFile(draft, text, { mode, flag: "wx" });
  await rename(draft, path);
}

/** Reads a text file, or undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * Removes a folder with all it holds. Tried again for 3.6 s in all while somebody puts new files into
 * it: initdb goes on for a moment after the process that started it was killed.
 */
export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 15, retryDelay: 30 });
}

/** The code of a system or PostgreSQL error, such as `ENOENT` or `28P01`. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}
