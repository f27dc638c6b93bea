import { randomBytes } from "node:crypto";
import { access, constants, mkdir, realpath, rename } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { type Binaries, loadBinaries, reachableBinaries, SHARED_DIR } from "./embedded-binaries.ts";
import {
  type ClusterPlace,
  checkClusterVersion,
  claimCluster,
  clusterOwner,
  createCluster,
  findCluster,
  hasLivingStarter,
  recordStarter,
  removeForgottenClusters,
} from "./embedded-cluster.ts";
import {
  HOST,
  launchPatiently,
  type Postmaster,
  settledPostmaster,
  stopPostmaster,
} from "./embedded-postmaster.ts";
import { errorCode, ownIdentity, readIfThere, withLock, writeWhole } from "./embedded-process.ts";
import { serverUser, type UnixUser } from "./embedded-user.ts";

/** A PostgreSQL server of this machine that runs on the cluster of one DATA_DIR. */
export interface EmbeddedServer {
  /** Always 127.0.0.1: the server listens nowhere else, and on no Unix socket. */
  readonly host: string;
  readonly port: number;
  /** Connection URL of the superuser `postgres` and the database `postgres`, password included: a secret. */
  readonly url: string;
  /**
   * Whether this handle answers for the server: it started it, or took it over from a process that
   * died without stopping it. False when another living process does.
   */
  readonly startedHere: boolean;
  /**
   * Stops the server, rolling back open transactions, and resolves when it has ended. Does nothing to
   * a server that was adopted (`startedHere` false), nor when called again.
   */
  stop(): Promise<void>;
}

export interface EmbeddedServerOptions {
  /** DATA_DIR, made when missing. Holds the cluster, the superuser's password and the server's log. */
  dataDir: string;
  /**
   * The port to listen on; 0 takes any free one. Left out: 54329, or any free one when that is taken.
   * A server that is adopted keeps the port it has.
   */
  port?: number;
  /**
   * Settings of postgresql.conf for this run, such as `{ fsync: "off" }` in tests. A server that is
   * adopted keeps those it has.
   */
  settings?: Readonly<Record<string, string>>;
  /** Told in a line what takes a while or deserves notice. */
  log?: (line: string) => void;
  /** Instead of /var/lib/ouvira: where root puts what the user `postgres` cannot reach in DATA_DIR. */
  sharedDir?: string;
}

/** Settings that a run may change. Everything else is PostgreSQL's default. */
const DEFAULT_SETTINGS: Readonly<Record<string, string>> = {
  shared_buffers: "128MB",
  max_connections: "100",
  // After a crash the server looks at every file it has, 157 a tenant: of 5,000 tenants that took longer than a start
  // is waited for. Where the system can, it is asked once for all of them.
  ...(process.platform === "linux" ? { recovery_init_sync_method: "syncfs" } : {}),
};

/** Settings that adopting a server and refusing strangers rest on. */
const FIXED_SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: HOST,
  unix_socket_directories: "",
};

/**
 * How long a start waits for another one of the same DATA_DIR: as long as the other may take, 60 s for
 * initdb and 300 s to get ready.
 */
const LOCK_WAIT_MS = 360_000;

/** How long a server that calls itself ready may take to answer, and the pause between two questions. */
const ANSWER_WITHIN_MS = 10_000;
const ANSWER_PAUSE_MS = 100;

/**
 * Gives a running server on the cluster of a DATA_DIR: adopts the one that runs, or starts one,
 * making the cluster first when there is none. Data are kept from run to run, and recovered when the
 * server or the process that started it was killed. Of several starts at once, in one process or in
 * many, one starts the server and the others adopt it.
 *
 * Works as root and as a normal user, wherever the project lies. The files in DATA_DIR: `postgres` (the
 * cluster, or a link to it, see ClusterPlace), `postgres-password` (mode 0600), `postgres.log` and that
 * of the run before, and beside the cluster `postgres-starter.json`.
 *
 * @throws Error whose message says in a sentence what is in the way and what to do about it
 */
export async function startEmbeddedServer(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const { sharedDir = SHARED_DIR, log = () => undefined } = options;
  const dataDir = await makeDataDir(options.dataDir);
  return withLock(join(dataDir, "postgres.lock"), LOCK_WAIT_MS, async () => {
    const cluster = await findCluster(dataDir);
    if (cluster !== undefined) {
      await claimCluster(cluster, { dataDir, sharedDir });
      const password = await readPassword(dataDir);
      const running = await findAnswering(cluster, password, dataDir);
      if (running) return adopt(cluster, running, password, log);
    }
    return start({ dataDir, sharedDir }, cluster, { ...options, log });
  });
}

/**
 * Finds the server that runs on the cluster of a DATA_DIR, waiting for one that is just starting.
 * Starts nothing, changes nothing, and leaves stopping it to whoever started it.
 *
 * @returns undefined when none runs
 * @throws Error when something else is in the cluster's place, or the password file does not fit
 */
export async function findEmbeddedServer(dataDir: string): Promise<EmbeddedServer | undefined> {
  const cluster = await findCluster(dataDir);
  if (cluster === undefined) return undefined;
  const password = await readPassword(dataDir);
  const running = await findAnswering(cluster, password, dataDir);
  return running && serverHandle(running, password, false);
}

/** A handle of a running server, which becomes its starter when the one it had is dead. */
async function adopt(
  cluster: string,
  running: Postmaster,
  password: string,
  log: (line: string) => void,
): Promise<EmbeddedServer> {
  const isOrphan = !(await hasLivingStarter(cluster));
  if (isOrphan) await recordStarter(cluster, await ownIdentity());
  const note = isOrphan ? ", left by a process that was killed" : "";
  log(`PostgreSQL runs already, on port ${running.port}${note}`);
  return serverHandle(running, password, isOrphan);
}

/** Starts the server on a cluster that none runs on, or on a new one. The caller holds the lock. */
async function start(
  place: ClusterPlace,
  existing: string | undefined,
  options: EmbeddedServerOptions & { log: (line: string) => void },
): Promise<EmbeddedServer> {
  const { dataDir } = place;
  const user = existing === undefined ? await serverUser() : await clusterOwner(existing);
  const binaries = await reachableBinaries(await loadBinaries(), user, place.sharedDir);
  if (existing !== undefined) await checkClusterVersion(existing, binaries);
  // Only root has clusters there, and only root can remove them.
  if (user) await forgetClusters(place, options.log);
  const cluster = existing ?? (await makeCluster(place, binaries, user, options.log));
  const password = await readPassword(dataDir);

  const logPath = join(dataDir, "postgres.log");
  await keepPreviousLog(logPath);
  // Before the launch: killed in between, this process leaves a server that has a dead starter, and
  // whoever comes next takes it over.
  await recordStarter(cluster, await ownIdentity());
  const settings = { ...DEFAULT_SETTINGS, ...options.settings, ...FIXED_SETTINGS };
  const launch = { binaries, cluster, user, settings, logPath };
  const postmaster = await launchPatiently(launch, options.port);
  try {
    if (!(await findAnswering(cluster, password, dataDir))) {
      throw new Error(`PostgreSQL ended right after its start. Its log is ${logPath}.`);
    }
  } catch (error) {
    await stopPostmaster(postmaster);
    throw error;
  }
  options.log(`PostgreSQL ${binaries.version} started on port ${postmaster.port}`);
  return serverHandle(postmaster, password, true);
}

/** Makes a cluster and the password of its superuser, the password first: without it no cluster is of use. */
async function makeCluster(
  place: ClusterPlace,
  binaries: Binaries,
  user: UnixUser | undefined,
  log: (line: string) => void,
): Promise<string> {
  log(`Making a PostgreSQL cluster in ${join(place.dataDir, "postgres")}`);
  const password = randomBytes(24).toString("base64url");
  await writeWhole(passwordPath(place.dataDir), password, 0o600);
  return createCluster(place, binaries, user, password);
}

/** Frees the space of deleted DATA_DIRs. That it fails is no reason not to start. */
async function forgetClusters(place: ClusterPlace, log: (line: string) => void): Promise<void> {
  try {
    for (const home of await removeForgottenClusters(place)) {
      log(`Removed ${home}: no data folder links to it any more`);
    }
  } catch (error) {
    log(`Could not remove a cluster that no data folder links to: ${String(error)}`);
  }
}

/**
 * Waits for the server of a cluster to be ready or gone, and asks it for an answer with our password:
 * that proves it is ours and not stopping.
 */
async function findAnswering(
  cluster: string,
  password: string,
  dataDir: string,
): Promise<Postmaster | undefined> {
  for (const deadline = Date.now() + ANSWER_WITHIN_MS; ; await sleep(ANSWER_PAUSE_MS)) {
    const postmaster = await settledPostmaster(cluster);
    if (!postmaster || (await answers(postmaster.port, password, dataDir))) return postmaster;
    if (Date.now() > deadline) {
      throw new Error(
        `PostgreSQL (process ${postmaster.pid}) runs on ${cluster} but does not answer on port ` +
          `${postmaster.port}: end it, and try again.`,
      );
    }
  }
}

/**
 * Whether a server takes connections.
 *
 * @throws Error when it refuses the password of this DATA_DIR
 */
async function answers(port: number, password: string, dataDir: string): Promise<boolean> {
  const sql = postgres(superuserUrl(port, password), {
    max: 1,
    fetch_types: false,
    connect_timeout: ANSWER_WITHIN_MS / 1000,
  });
  try {
    await sql`select 1`;
    return true;
  } catch (error) {
    const code = errorCode(error);
    if (code === "28P01") {
      throw new Error(
        `The password in ${passwordPath(dataDir)} is not the one its database was made with: bring the ` +
          "file back, or remove DATA_DIR to start with an empty database.",
        { cause: error },
      );
    }
    return code === "53300"; // too_many_connections: there, and busy
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function serverHandle(
  { pid, startedAt, port }: Postmaster,
  password: string,
  startedHere: boolean,
): EmbeddedServer {
  let stopping: Promise<void> | undefined;
  return {
    host: HOST,
    port,
    url: superuserUrl(port, password),
    startedHere,
    async stop() {
      if (startedHere) await (stopping ??= stopPostmaster({ pid, startedAt }));
    },
  };
}

function superuserUrl(port: number, password: string): string {
  return `postgres://postgres:${password}@${HOST}:${port}/postgres`;
}

function passwordPath(dataDir: string): string {
  return join(dataDir, "postgres-password");
}

/** @throws Error when a cluster's password is gone: nothing but the cluster's own files could let us in */
async function readPassword(dataDir: string): Promise<string> {
  const path = passwordPath(dataDir);
  const password = await readIfThere(path);
  if (password !== undefined) return password;
  throw new Error(
    `${path} is missing, and without it nobody can log in to the database beside it: bring the file ` +
      "back, or remove DATA_DIR to start with an empty database.",
  );
}

/**
 * Makes DATA_DIR when missing, and gives its real path.
 *
 * @throws Error when it cannot be a folder that this process writes to
 */
async function makeDataDir(dataDir: string): Promise<string> {
  try {
    await mkdir(dataDir, { recursive: true });
    await access(dataDir, constants.W_OK | constants.X_OK);
    return await realpath(dataDir);
  } catch (error) {
    const code = errorCode(error) ?? "";
    const reason = ["EEXIST", "ENOTDIR"].includes(code)
      ? "is a file, or inside one, not a folder"
      : `cannot be written (${code})`;
    throw new Error(
      `DATA_DIR ${resolve(dataDir)} ${reason}: set DATA_DIR to a folder of your own.`,
      {
        cause: error,
      },
    );
  }
}

/** Keeps the log of the run before: it tells why that one ended. Older ones go, or they would only grow. */
async function keepPreviousLog(path: string): Promise<void> {
  try {
    await rename(path, path.replace(/\.log$/, ".previous.log"));
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
