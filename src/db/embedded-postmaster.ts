import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Binaries, lastLines } from "./embedded-binaries.ts";
import {
  errorCode,
  findProcess,
  isRunning,
  type ProcessIdentity,
  readIfThere,
} from "./embedded-process.ts";
import { SERVER_ENVIRONMENT, type UnixUser } from "./embedded-user.ts";

/** PostgreSQL's main process, as it describes itself in the cluster's `postmaster.pid`. */
export interface Postmaster extends ProcessIdentity {
  readonly port: number;
  /** False while it recovers, starts or shuts down. */
  readonly isReady: boolean;
}

interface Launch {
  readonly binaries: Binaries;
  /** Real path of the cluster's folder. */
  readonly cluster: string;
  readonly user: UnixUser | undefined;
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
  /** The file that gets everything the server says; emptied first. */
  readonly logPath: string;
}

/** The only address the server listens on. */
export const HOST = "127.0.0.1";

/** Not 5432, which a PostgreSQL of the system has. */
const DEFAULT_PORT = 54329;

/**
 * What passes: processes of a killed server, which hold its shared memory until they notice; a port
 * that another program took between our look and the start.
 */
const PASSING_FAILURE =
  /pre-existing shared memory block|lock file "postmaster.pid" already exists|Address already in use/;

/** How long failures that pass are tried again, and the pause between two tries, in milliseconds. */
const RETRIED_FOR_MS = 15_000;
const RETRY_PAUSE_MS = 100;

/**
 * How long a server may take to get ready, in milliseconds: 100 as a rule, after a crash as long as what was written
 * since the last checkpoint takes to be done again. Given up earlier, the next start would begin that anew.
 */
const READY_WITHIN_MS = 300_000;

/** How long a fast shutdown may take before an immediate one, which the next start recovers from. */
const FAST_SHUTDOWN_WITHIN_MS = 30_000;

/** How long an immediate shutdown may take; PostgreSQL itself kills its children after 5 s. */
const IMMEDIATE_SHUTDOWN_WITHIN_MS = 10_000;

/** Pause between two looks at a server that changes its state. */
const POLL_MS = 10;

/**
 * Finds the server that runs on a cluster, in whatever state. Only a process that was started for this
 * very folder counts: after a crash the pid in the file may be anybody's.
 */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const file = await readIfThere(join(cluster, "postmaster.pid"));
  // The lines: pid, folder, start, port, socket folder, address, shared memory key, status.
  // https://www.postgresql.org/docs/18/storage-file-layout.html and miscadmin.h (LOCK_FILE_LINE_…)
  const lines = file?.split("\n") ?? [];
  const found = await findProcess(Number(lines[0]));
  if (!found?.commandLine.includes(` -D ${cluster} `)) return undefined;
  const { pid, startedAt } = found;
  return { pid, startedAt, port: Number(lines[3]), isReady: lines[7]?.trim() === "ready" };
}

/**
 * Waits until the server of a cluster is ready or gone, whichever it is on its way to.
 *
 * @throws Error when it is neither after READY_WITHIN_MS
 */
export async function settledPostmaster(cluster: string): Promise<Postmaster | undefined> {
  for (const deadline = Date.now() + READY_WITHIN_MS; ; await sleep(POLL_MS)) {
    const postmaster = await findPostmaster(cluster);
    if (!postmaster || postmaster.isReady) return postmaster;
    if (Date.now() > deadline) {
      throw new Error(
        `PostgreSQL (process ${postmaster.pid}) has been starting or stopping in ${cluster} for ` +
          `${READY_WITHIN_MS / 1000} s: see its log, end it, and try again.`,
      );
    }
  }
}

/**
 * Starts a server on the wanted port and waits until it accepts connections. While the reason that it
 * fails for is one that passes, it is started again.
 *
 * @param wantedPort 0 for any free one; undefined for DEFAULT_PORT, or any free one when that is taken
 * @throws Error when the wanted port is taken, or with the end of the server's log when it does not start
 */
export async function launchPatiently(
  launch: Omit<Launch, "port">,
  wantedPort: number | undefined,
): Promise<Postmaster> {
  for (const deadline = Date.now() + RETRIED_FOR_MS; ; await sleep(RETRY_PAUSE_MS)) {
    const port = await choosePort(wantedPort);
    try {
      return await launchPostmaster({ ...launch, port });
    } catch (error) {
      const isPassing = error instanceof Error && PASSING_FAILURE.test(error.message);
      if (!isPassing || Date.now() > deadline) throw error;
    }
  }
}

/** @throws Error when the port was asked for and is taken */
async function choosePort(wanted: number | undefined): Promise<number> {
  const port =
    (await findFreePort(wanted ?? DEFAULT_PORT)) ??
    (wanted === undefined && (await findFreePort(0)));
  if (port) return port;
  throw new Error(
    `Port ${wanted} of ${HOST}, wanted for the embedded PostgreSQL, is taken by another program: stop ` +
      "that program, or choose another port (0 takes any free one).",
  );
}

/** The port itself, or for 0 one that the system picks, when nobody listens on it. */
async function findFreePort(port: number): Promise<number | undefined> {
  const probe = createServer();
  try {
    probe.listen(port, HOST);
    await once(probe, "listening"); // rejects with the `error` that comes instead
    const address = probe.address();
    return typeof address === "object" ? address?.port : undefined;
  } catch (error) {
    if (errorCode(error) === "EADDRINUSE") return undefined;
    throw error;
  } finally {
    await new Promise((closed) => probe.close(closed));
  }
}

/**
 * Starts a server and waits until it accepts connections. It has a session of its own, so that Ctrl-C
 * in the terminal reaches this process alone and the API can finish its requests first.
 *
 * @throws Error with the end of its log when it ends instead, or takes more than READY_WITHIN_MS
 */
async function launchPostmaster(launch: Launch): Promise<Postmaster> {
  const { binaries, cluster, user, logPath } = launch;
  await dropPidOfAnother(cluster);
  // The server inherits the open file, so it can write a log that its user may not open.
  const log = await open(logPath, "w", 0o600);
  const settings = { ...launch.settings, port: `${launch.port}` };
  const child = spawn(
    join(binaries.folder, "bin", "postgres"),
    [
      "-D",
      cluster,
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
    {
      ...user,
      cwd: "/",
      env: SERVER_ENVIRONMENT,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    },
  );
  try {
    await once(child, "spawn"); // rejects with the `error` that comes instead
  } finally {
    await log.close();
  }
  child.unref();

  for (const deadline = Date.now() + READY_WITHIN_MS; ; await sleep(POLL_MS)) {
    const postmaster = await findPostmaster(cluster);
    if (postmaster?.isReady && postmaster.pid === child.pid) return postmaster;
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (!hasEnded && Date.now() < deadline) continue;
    child.kill("SIGQUIT");
    const end = hasEnded ? "ended" : `was not ready within ${READY_WITHIN_MS / 1000} s`;
    const said = lastLines((await readIfThere(logPath)) ?? "");
    throw new Error(`PostgreSQL ${end} at its start in ${cluster}. Its log (${logPath}):\n${said}`);
  }
}

/**
 * Removes a `postmaster.pid` whose pid belongs to another program by now, as happens when a container
 * starts again and counts its pids from one. PostgreSQL takes any process of its own user for a server
 * and would never start; files of dead processes it removes itself. A doubtful one is left for it to judge.
 */
async function dropPidOfAnother(cluster: string): Promise<void> {
  const path = join(cluster, "postmaster.pid");
  const pid = Number.parseInt((await readIfThere(path)) ?? "", 10);
  const found = await findProcess(pid);
  if (found && !/^(\S*\/)?postgres\b/.test(found.commandLine)) await rm(path, { force: true });
}

/**
 * Shuts a server down, its clients' transactions rolled back, and waits until it has ended. Does
 * nothing when it has. These are the signals of `pg_ctl stop`, sent to a process that is known to be
 * the server rather than to whatever pid stands in a file.
 * https://www.postgresql.org/docs/18/server-shutdown.html
 *
 * @throws Error when it outlives even an immediate shutdown
 */
export async function stopPostmaster(postmaster: ProcessIdentity): Promise<void> {
  if (await endsAfter("SIGINT", postmaster, FAST_SHUTDOWN_WITHIN_MS)) return;
  if (await endsAfter("SIGQUIT", postmaster, IMMEDIATE_SHUTDOWN_WITHIN_MS)) return;
  throw new Error(`PostgreSQL (process ${postmaster.pid}) does not stop: end it by hand.`);
}

async function endsAfter(
  signal: NodeJS.Signals,
  postmaster: ProcessIdentity,
  withinMs: number,
): Promise<boolean> {
  if (!(await isRunning(postmaster))) return true;
  try {
    process.kill(postmaster.pid, signal);
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error; // ESRCH: it has ended just now
  }
  for (const deadline = Date.now() + withinMs; Date.now() < deadline; await sleep(POLL_MS)) {
    if (!(await isRunning(postmaster))) return true;
  }
  return false;
}
