import {
  chmod,
  chown,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rmdir,
  stat,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Binaries, makeSharedFolder, runProgram } from "./embedded-binaries.ts";
import {
  errorCode,
  isRunning,
  ownIdentity,
  type ProcessIdentity,
  readIfThere,
  removeFolder,
  writeWhole,
} from "./embedded-process.ts";
import { findPostmaster, stopPostmaster } from "./embedded-postmaster.ts";
import { canEnter, type UnixUser } from "./embedded-user.ts";

/**
 * Where the files of the embedded server are. Usually the cluster is the folder `postgres` in DATA_DIR.
 * Where PostgreSQL's user cannot reach that, it is `<sharedDir>/clusters/<random>/postgres`, DATA_DIR
 * has a link to it, and the file `data-dir` beside it names that DATA_DIR.
 */
export interface ClusterPlace {
  /** Real path of DATA_DIR. */
  readonly dataDir: string;
  readonly sharedDir: string;
}

/**
 * How long a cluster outside DATA_DIR is kept, counted from its last start, when not only its DATA_DIR
 * but also the folder around that is gone: a project that was moved links to it again as soon as it is
 * started in its new place, and a week should see that.
 */
const KEPT_FOR_MOVED_MS = 7 * 24 * 3_600_000;

/**
 * Finds the cluster of a DATA_DIR and gives its real path; undefined when there is none yet.
 *
 * @throws Error when something else is in its place, or another user's cluster
 */
export async function findCluster(dataDir: string): Promise<string | undefined> {
  const place = join(dataDir, "postgres");
  try {
    const path = await realpath(place);
    const names = await readdir(path);
    if (names.includes("PG_VERSION")) return path;
    if (names.length === 0) return undefined;
    throw new Error(
      `${place} holds files that are not a PostgreSQL cluster: move them away, or set DATA_DIR to ` +
        "another folder.",
    );
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") return undefined;
    if (code === "ENOTDIR") {
      throw new Error(
        `${place} is a file, but the database cluster's folder belongs there: move it away, or set ` +
          "DATA_DIR to another folder.",
        { cause: error },
      );
    }
    if (code === "EACCES") {
      throw new Error(
        `The database cluster ${place} belongs to another user: run as that user (root, if it was ` +
          "made by root), or set DATA_DIR to another folder.",
        { cause: error },
      );
    }
    throw error;
  }
}

/**
 * Checks that a cluster is of the release that is about to run it.
 *
 * @throws Error when it is of another one: only pg_upgrade or a dump takes data across major versions
 */
export async function checkClusterVersion(cluster: string, binaries: Binaries): Promise<void> {
  const version = (await readFile(join(cluster, "PG_VERSION"), "utf8")).trim();
  const expected = binaries.version.split(".")[0];
  if (version === expected) return;
  throw new Error(
    `The database cluster ${cluster} was made by PostgreSQL ${version} and the embedded server is ` +
      `${expected}: export its tenants with the earlier release of this project and import them ` +
      "again, or set DATA_DIR to another folder.",
  );
}

/**
 * Whom an existing cluster belongs to, for root to run the server as: PostgreSQL demands its owner.
 * Undefined when this process is not root.
 *
 * @throws Error when that user cannot reach it any more
 */
export async function clusterOwner(cluster: string): Promise<UnixUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = await stat(cluster);
  if (await canEnter(cluster, { uid, gid })) return { uid, gid };
  throw new Error(
    `The database cluster ${cluster} is in a folder that its owner (user ${uid}) cannot enter: move ` +
      "the project back to where it was made, or to a folder that everybody can enter.",
  );
}

/**
 * Makes the cluster of a DATA_DIR that has none, and gives its real path. A process killed in the
 * middle leaves a draft that the next start removes, never half a cluster.
 *
 * @throws Error when it cannot, saying what to do
 */
export async function createCluster(
  { dataDir, sharedDir }: ClusterPlace,
  binaries: Binaries,
  user: UnixUser | undefined,
  password: string,
): Promise<string> {
  const link = join(dataDir, "postgres");
  await dropLinkToNothing(link, sharedDir);
  // An empty folder may be there already, perhaps behind a link of the user's own.
  const near = await realpath(link).catch(() => link);
  if (user === undefined || (await canEnter(dirname(near), user))) {
    await initialize(near, binaries, user, password);
    return near;
  }

  const clusters = join(sharedDir, "clusters");
  await makeSharedFolder(sharedDir);
  await makeSharedFolder(clusters);
  const home = await mkdtemp(`${await realpath(clusters)}/`);
  const far = join(home, "postgres");
  try {
    await recordStarter(far, await ownIdentity()); // shows that it is being made, not forgotten
    await writeFile(join(home, "data-dir"), dataDir);
    await chmod(home, 0o755);
    await initialize(far, binaries, user, password);
    await rmdir(link).catch(() => undefined);
    await symlink(far, link);
    return far;
  } catch (error) {
    await removeFolder(home);
    throw error;
  }
}

/**
 * Removes a link to a cluster under `sharedDir` that is gone, as in a container that kept only
 * DATA_DIR: nothing is left to lose. What another link points to may come back with its disk.
 */
async function dropLinkToNothing(link: string, sharedDir: string): Promise<void> {
  const entry = await lstat(link).catch(() => undefined);
  if (!entry?.isSymbolicLink() || (await exists(link))) return;
  const target = await readlink(link);
  if (!(await isShared(target, sharedDir))) {
    throw new Error(
      `${link} is a link to ${target}, which is not there: bring it back or remove the link.`,
    );
  }
  await unlink(link);
}

/** Runs initdb in a draft folder beside the cluster's place, then puts the result there in one step. */
async function initialize(
  path: string,
  binaries: Binaries,
  user: UnixUser | undefined,
  password: string,
): Promise<void> {
  const prefix = `${basename(path)}.new-`;
  for (const name of await readdir(dirname(path))) {
    // The caller holds DATA_DIR's lock, so whoever made this draft is dead.
    if (name.startsWith(prefix)) await removeFolder(join(dirname(path), name));
  }
  const draft = await mkdtemp(join(dirname(path), prefix));
  const passwordFile = join(draft, "password");
  const made = join(draft, "cluster");
  try {
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (user)
      await Promise.all([draft, passwordFile].map((each) => chown(each, user.uid, user.gid)));
    await runProgram(
      binaries,
      "initdb",
      [
        `--pgdata=${made}`,
        "--username=postgres",
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        // The built-in provider sorts and folds case the same on every machine, whatever its libc.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        // Not waiting for the disk: seconds on a slow one. A power cut in the half minute until the
        // kernel has written it costs a database that old.
        "--no-sync",
        "--no-instructions",
        // On Linux parallel queries share memory in /dev/shm otherwise, 64 MB in a container, and fail
        // with "No space left on device". macOS has no such folder, and little memory of this kind.
        ...(process.platform === "linux" ? ["--set=dynamic_shared_memory_type=sysv"] : []),
      ],
      user,
    );
    await rename(made, path);
  } finally {
    await removeFolder(draft);
  }
}

/**
 * Notes that this DATA_DIR uses a cluster under `sharedDir`, which a DATA_DIR that was moved needs.
 *
 * @throws Error when another DATA_DIR uses it too: this one is a copy, link included, of that one
 */
export async function claimCluster(
  cluster: string,
  { dataDir, sharedDir }: ClusterPlace,
): Promise<void> {
  if (!(await isShared(cluster, sharedDir))) return;
  const marker = join(dirname(cluster), "data-dir");
  const owner = await readIfThere(marker);
  if (owner !== undefined && owner !== dataDir && (await linksTo(owner, cluster))) {
    throw new Error(
      `${join(dataDir, "postgres")} is a copy of a link to the database of ${owner}: remove it and ` +
        "postgres-password beside it to start with an empty database.",
    );
  }
  await writeFile(marker, dataDir);
}

/**
 * Frees what nobody needs of the clusters under `sharedDir`. Where no DATA_DIR links to one any more
 * and no living process has started its server, or is making it just now, the server is stopped and
 * the files are removed, those of a project that may have been moved after KEPT_FOR_MOVED_MS.
 *
 * @returns the folders that are gone
 */
export async function removeForgottenClusters(place: ClusterPlace): Promise<string[]> {
  const clusters = join(place.sharedDir, "clusters");
  const removed: string[] = [];
  for (const name of await readdir(clusters).catch(() => [])) {
    const home = await realpath(join(clusters, name));
    const cluster = join(home, "postgres");
    const owner = await readIfThere(join(home, "data-dir"));
    if (owner !== undefined && (await linksTo(owner, cluster))) continue;

    const postmaster = await findPostmaster(cluster);
    // None is being made for our own DATA_DIR, whose lock we hold: its starter has only stopped it.
    const isStoppedOfOurs = owner === place.dataDir && !postmaster;
    if (!isStoppedOfOurs && (await hasLivingStarter(cluster))) continue;
    if (postmaster) await stopPostmaster(postmaster);
    if (await mayBeMoved(home, owner)) continue;
    await removeFolder(home);
    removed.push(home);
  }
  return removed;
}

/** Whether the project of a cluster that its DATA_DIR `owner` does not link to may come back elsewhere. */
async function mayBeMoved(home: string, owner: string | undefined): Promise<boolean> {
  if (owner !== undefined && (await exists(dirname(owner)))) return false;
  const { mtimeMs } = await stat(owner === undefined ? home : join(home, "data-dir"));
  return Date.now() - mtimeMs < KEPT_FOR_MOVED_MS;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function linksTo(dataDir: string, cluster: string): Promise<boolean> {
  return realpath(join(dataDir, "postgres")).then(
    (path) => path === cluster,
    () => false,
  );
}

/** Whether a path is that of a cluster in `<sharedDir>/clusters/<random>/postgres`. */
async function isShared(cluster: string, sharedDir: string): Promise<boolean> {
  const clusters = join(sharedDir, "clusters");
  return dirname(dirname(cluster)) === (await realpath(clusters).catch(() => clusters));
}

/** Records, beside the cluster, the process that answers for stopping its server. */
export async function recordStarter(cluster: string, starter: ProcessIdentity): Promise<void> {
  await writeWhole(`${cluster}-starter.json`, JSON.stringify(starter), 0o644);
}

/** Whether the process that started a cluster's server, or took it over, is still there to stop it. */
export async function hasLivingStarter(cluster: string): Promise<boolean> {
  const text = await readIfThere(`${cluster}-starter.json`);
  if (text === undefined) return false;
  // Written by recordStarter, whole.
  const starter: ProcessIdentity = JSON.parse(text);
  return isRunning(starter);
}
