import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** Whom a program runs as; undefined in its place means as this process. */
export interface UnixUser {
  readonly uid: number;
  readonly gid: number;
}

/** The user PostgreSQL runs as when this process is root; distributions use the same name. */
export const SERVER_USER = "postgres";

/** How long another process may take to add SERVER_USER, in milliseconds: useradd takes about 100. */
const USER_ADDED_WITHIN_MS = 5_000;

/**
 * PostgreSQL sees nothing of the environment but this: `PG…` variables would change its settings, a
 * locale its messages, and the secrets of the API are not its business.
 */
export const SERVER_ENVIRONMENT: NodeJS.ProcessEnv = {
  PATH: process.env["PATH"],
  LC_ALL: "C",
  TZ: "UTC",
};

/** Whether a user can enter a folder: asked of the system, which knows ACLs and mounts too. */
export async function canEnter(folder: string, user: UnixUser): Promise<boolean> {
  const options = { ...user, cwd: "/", env: SERVER_ENVIRONMENT };
  return promisify(execFile)("/bin/sh", ["-c", 'test -x "$0"', folder], options).then(
    () => true,
    () => false,
  );
}

/**
 * Whom the server runs as: PostgreSQL refuses root, so root hands it to the user `postgres`, who is
 * added when missing. Any other user runs it as themselves (undefined).
 *
 * @throws Error when that user is missing and cannot be added
 */
export async function serverUser(): Promise<UnixUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const found = await findServerUser();
  if (found) return found;
  const failure = await addServerUser().catch((error: unknown) => error);
  // A failure may mean that another process is adding the same user: two embedded servers of a fresh
  // machine, started by two test runs at once.
  for (const deadline = Date.now() + USER_ADDED_WITHIN_MS; Date.now() < deadline; await sleep(50)) {
    const added = await findServerUser();
    if (added) return added;
  }
  throw new Error(
    `PostgreSQL does not run as root, and the user "${SERVER_USER}" could not be added: add it, run ` +
      "as a normal user, or set DATABASE_URL.",
    { cause: failure },
  );
}

async function addServerUser(): Promise<void> {
  await promisify(execFile)("groupadd", ["--system", "--force", SERVER_USER]);
  const options = [
    "--no-create-home",
    "--home-dir",
    "/nonexistent",
    "--shell",
    "/usr/sbin/nologin",
  ];
  const args = ["--system", "--gid", SERVER_USER, ...options, SERVER_USER];
  await promisify(execFile)("useradd", args);
}

async function findServerUser(): Promise<UnixUser | undefined> {
  try {
    const [uid, gid] = await Promise.all(
      ["-u", "-g"].map((option) => promisify(execFile)("id", [option, SERVER_USER])),
    );
    return uid && gid && { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined; // `id` fails when there is no such user
  }
}
