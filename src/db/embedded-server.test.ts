import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type EmbeddedServer,
  type EmbeddedServerOptions,
  findEmbeddedServer,
  startEmbeddedServer,
} from "./embedded-server.ts";

const isRoot = process.getuid?.() === 0;

/** Everything these tests make is in here. Everybody can enter it, so root's clusters lie in their DATA_DIR. */
let folder: string;
/** A DATA_DIR whose cluster is made once: its tests start and stop their own server on it. */
let dataDir: string;

const servers: EmbeddedServer[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "ouvira-embedded-")));
  await chmod(folder, 0o755);
  dataDir = join(folder, "shared", ".data");
});

afterEach(async () => {
  for (const child of children.splice(0)) await endGroup(child, "SIGKILL");
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Starts a server on any free port, without waiting for the disk, that ends with the test. */
async function start(options: Partial<EmbeddedServerOptions> = {}): Promise<EmbeddedServer> {
  const server = await startEmbeddedServer({
    dataDir,
    port: 0,
    sharedDir: join(folder, "lib"),
    ...options,
    settings: {
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      ...options.settings,
    },
  });
  servers.push(server);
  return server;
}

/** Runs one statement on a connection of its own, without parameters. */
async function query(url: string, statement: string): Promise<postgres.Row[]> {
  const sql = postgres(url, { max: 1, fetch_types: false, onnotice: () => undefined });
  try {
    return await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function answers({ url }: { url: string }): Promise<boolean> {
  return query(url, "select 1").then(
    () => true,
    () => false,
  );
}

/** A node process of its own, in a process group of its own, that starts the server and stays. */
async function startInChild(
  at: string,
  sharedDir?: string,
): Promise<{ child: ChildProcess; server: Omit<EmbeddedServer, "stop"> }> {
  const child = spawnStarter(at, sharedDir);
  const [line] = await once(child.stdout ?? child, "data");
  return { child, server: JSON.parse(String(line)) };
}

function spawnStarter(at: string, sharedDir?: string): ChildProcess {
  const options = {
    dataDir: at,
    port: 0,
    settings: { fsync: "off" },
    ...(sharedDir && { sharedDir }),
  };
  const code = `
    import { startEmbeddedServer } from ${JSON.stringify(new URL("./embedded-server.ts", import.meta.url).href)};
    console.log(JSON.stringify(await startEmbeddedServer(${JSON.stringify(options)})));
    setInterval(() => {}, 1000);
  `;
  const args = ["--import", "tsx", "--input-type=module", "--eval", code];
  const child = spawn(process.execPath, args, {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  return child;
}

/** Signals a child and whatever it has in its process group, as a terminal does on Ctrl-C. */
async function endGroup(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  process.kill(-child.pid, signal);
  await ended;
}

async function serverPid(at = dataDir): Promise<number> {
  return Number.parseInt(await readFile(join(at, "postgres", "postmaster.pid"), "utf8"), 10);
}

/** The random name of the folder that holds the cluster of a DATA_DIR which links to it. */
async function homeOf(at: string): Promise<string> {
  return basename(dirname(await readlink(join(at, "postgres"))));
}

/** Waits, in small steps, until something is so. The runner's time-out is the limit. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5);
}

describe("startEmbeddedServer", () => {
  test("makes a UTF-8 cluster with checksums that sorts the same on every machine", async () => {
    const { url } = await start();

    const [database] = await query(
      url,
      `select pg_encoding_to_char(encoding) as encoding, datlocprovider as provider, datlocale as locale,
         current_setting('data_checksums') as checksums, current_setting('server_version_num')::int / 10000 as major,
         upper('é') as upper
       from pg_database where datname = 'template1'`,
    );

    expect(database).toEqual({
      encoding: "UTF8",
      provider: "b",
      locale: "C.UTF-8",
      checksums: "on",
      major: 18,
      upper: "É",
    });
  });

  test.skipIf(process.platform !== "linux")(
    "keeps the memory of parallel queries out of /dev/shm (skipped where there is none)",
    async () => {
      const { url } = await start();

      expect(await query(url, "show dynamic_shared_memory_type")).toEqual([
        { dynamic_shared_memory_type: "sysv" },
      ]);
    },
  );

  test("listens on 127.0.0.1 and nowhere else", async () => {
    const { url, host } = await start();

    const [listens] = await query(
      url,
      `select current_setting('listen_addresses') as addresses,
         current_setting('unix_socket_directories') as sockets`,
    );

    expect(host).toBe("127.0.0.1");
    expect(listens).toEqual({ addresses: "127.0.0.1", sockets: "" });
  });

  test("lets in who knows the password, which only the owner of DATA_DIR can read", async () => {
    const { url } = await start();
    const password = join(dataDir, "postgres-password");
    const stranger = url.replace(await readFile(password, "utf8"), "guess");

    expect(await query(url, "select current_user::text as name")).toEqual([{ name: "postgres" }]);
    await expect(query(stranger, "select 1")).rejects.toMatchObject({ code: "28P01" });
    expect((await stat(password)).mode & 0o777).toBe(0o600);
  });

  test("keeps the data from run to run", async () => {
    const first = await start();
    await query(first.url, "create table kept as select 'here' as word");
    await first.stop();

    const second = await start();

    expect(await query(second.url, "select word from kept")).toEqual([{ word: "here" }]);
  });

  test("adopts a server that runs, and leaves stopping it to who started it", async () => {
    const first = await start();
    const second = await start();

    expect(second).toMatchObject({ port: first.port, url: first.url, startedHere: false });
    await second.stop();
    expect(await answers(first)).toBe(true);
    await first.stop();
    expect(await answers(first)).toBe(false);
  });

  test("stops only the server it started, however often it is asked", async () => {
    const first = await start();
    await first.stop();
    const second = await start();

    await first.stop();

    expect(await answers(second)).toBe(true);
  });

  test("applies settings to one run, and not to the next", async () => {
    const tuned = await start({ settings: { work_mem: "9MB", max_connections: "17" } });
    const shown =
      "select current_setting('work_mem') as work_mem, current_setting('max_connections') as connections";
    expect(await query(tuned.url, shown)).toEqual([{ work_mem: "9MB", connections: "17" }]);
    await tuned.stop();

    const plain = await start();

    expect(await query(plain.url, shown)).toEqual([{ work_mem: "4MB", connections: "100" }]);
  });

  test("takes any free port when its usual one is taken", async () => {
    const other = createServer();
    // When the usual port is in use on this machine already, that is just as good.
    const settled = new Promise((done) => other.once("listening", done).once("error", done));
    other.listen(54329, "127.0.0.1");
    await settled;
    try {
      const server = await startEmbeddedServer({ dataDir, settings: { fsync: "off" } });
      servers.push(server);

      expect(server.port).not.toBe(54329);
      expect(await answers(server)).toBe(true);
    } finally {
      other.close();
    }
  });

  test("takes a port it was asked for when it is free, and refuses in a sentence when it is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = other.address();
    const port = typeof address === "object" && address ? address.port : 0;

    await expect(start({ port })).rejects.toThrow(
      `Port ${port} of 127.0.0.1, wanted for the embedded PostgreSQL, is taken by another program: stop ` +
        "that program, or choose another port (0 takes any free one).",
    );
    expect(await findEmbeddedServer(dataDir)).toBeUndefined();

    other.close();
    await once(other, "close");
    expect(await start({ port })).toMatchObject({ port, startedHere: true });
  });

  test("recovers committed rows after kill -9 of the server with a client at work", async () => {
    // Switched off, it lets PostgreSQL answer a commit some tenths of a second before it writes it.
    const killed = await start({ settings: { synchronous_commit: "on" } });
    await query(killed.url, "create table survivors as select 1 as id");
    const busy = query(killed.url, "select pg_sleep(600)").catch(() => "lost");
    await until(async () => {
      const active =
        "select from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
      return (await query(killed.url, active)).length === 1;
    });
    process.kill(await serverPid(), "SIGKILL");

    const next = await start();

    expect(next.startedHere).toBe(true);
    expect(await query(next.url, "select id from survivors")).toEqual([{ id: 1 }]);
    expect(await busy).toBe("lost");
  });

  test.each(["SIGKILL", "SIGINT"] as const)(
    "outlives %s to its starter's process group; the next start takes it over and can stop it",
    async (signal) => {
      const { child, server } = await startInChild(dataDir);
      expect(server.startedHere).toBe(true);
      expect(await start()).toMatchObject({ port: server.port, startedHere: false });
      await endGroup(child, signal);

      const next = await start();

      expect(next).toMatchObject({ port: server.port, startedHere: true });
      expect(await start()).toMatchObject({ port: server.port, startedHere: false });
      await next.stop();
      expect(await answers(next)).toBe(false);
    },
  );

  test("of starts at once in several processes one makes the cluster, and the others adopt it", async () => {
    const at = join(folder, "raced", ".data");

    const started = await Promise.all([
      startInChild(at).then(({ server }) => server),
      startInChild(at).then(({ server }) => server),
      start({ dataDir: at }),
      start({ dataDir: at }),
    ]);

    expect(started.filter(({ startedHere }) => startedHere)).toHaveLength(1);
    expect(new Set(started.map(({ url }) => url)).size).toBe(1);
    const names = await readdir(at);
    expect(names.filter((name) => /\.(new|lock)/.test(name))).toEqual([]);
    // A child may be the starter: once it is dead, this process is, and its afterEach stops the server.
    for (const child of children.splice(0)) await endGroup(child, "SIGKILL");
    await start({ dataDir: at });
  });

  test("starts whole after kill -9 in the middle of initdb", async () => {
    const at = join(folder, "interrupted", ".data");
    const child = spawnStarter(at);
    const isInitializing = async () =>
      (await readdir(at).catch(() => [])).some((name) => name.startsWith("postgres.new-"));
    await until(isInitializing);
    await endGroup(child, "SIGKILL");
    expect(await readdir(at)).not.toContain("postgres");

    const server = await start({ dataDir: at });

    expect(server.startedHere).toBe(true);
    expect(await answers(server)).toBe(true);
    expect(await isInitializing()).toBe(false);
  });

  test("is not misled by a postmaster.pid whose pid another program has by now", async () => {
    await (await start()).stop();
    const cluster = join(dataDir, "postgres");
    const { uid, gid } = await stat(cluster);
    const bystander = spawn("sleep", ["600"], { ...(isRoot && { uid, gid }) });
    try {
      await once(bystander, "spawn");
      await writeFile(
        join(cluster, "postmaster.pid"),
        `${bystander.pid}\n${cluster}\n0\n5432\n\n\n`,
      );

      const server = await start();

      expect(server.startedHere).toBe(true);
      expect(await answers(server)).toBe(true);
      expect(bystander.exitCode).toBeNull();
    } finally {
      bystander.kill();
    }
  });

  test("says what the server said when it does not start", async () => {
    await expect(start({ settings: { work_mem: "plenty" } })).rejects.toThrow(
      /^PostgreSQL ended at its start in .*\n.*invalid value for parameter "work_mem": "plenty"/,
    );
    expect(await findEmbeddedServer(dataDir)).toBeUndefined();
    expect((await start()).startedHere).toBe(true);
  });
});

describe("startEmbeddedServer refuses in a sentence, and changes nothing,", () => {
  test("a DATA_DIR that is a file", async () => {
    const at = join(folder, "a-file");
    await writeFile(at, "mine");

    await expect(start({ dataDir: at })).rejects.toThrow(
      `DATA_DIR ${at} is a file, or inside one, not a folder: set DATA_DIR to a folder of your own.`,
    );
    await expect(start({ dataDir: join(at, ".data") })).rejects.toThrow(/is a file, or inside one/);
    expect(await readFile(at, "utf8")).toBe("mine");
  });

  test.skipIf(isRoot)("a DATA_DIR it may not write to (skipped as root, who may)", async () => {
    const at = join(folder, "read-only");
    await mkdir(at, { mode: 0o555 });

    await expect(start({ dataDir: at })).rejects.toThrow(
      /cannot be written \(EACCES\): set DATA_DIR/,
    );
  });

  test("a file in the cluster's place", async () => {
    const at = join(folder, "blocked");
    await mkdir(at);
    await writeFile(join(at, "postgres"), "mine");

    await expect(start({ dataDir: at })).rejects.toThrow(
      /postgres is a file, but the database cluster/,
    );
    expect(await readdir(at)).toEqual(["postgres"]);
  });

  test("foreign files in the cluster's place; an empty folder there is used", async () => {
    const at = join(folder, "foreign");
    const file = join(at, "postgres", "notes.txt");
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, "mine");

    await expect(start({ dataDir: at })).rejects.toThrow(
      /holds files that are not a PostgreSQL cluster/,
    );
    expect(await readFile(file, "utf8")).toBe("mine");

    await rm(file);
    expect(await start({ dataDir: at })).toMatchObject({ startedHere: true });
  });

  test("a cluster of another major version", async () => {
    await (await start()).stop();
    const version = join(dataDir, "postgres", "PG_VERSION");
    await writeFile(version, "17\n");
    try {
      await expect(start()).rejects.toThrow(
        /was made by PostgreSQL 17 and the embedded server is 18: export its tenants/,
      );
    } finally {
      await writeFile(version, "18\n");
    }
    expect(await start()).toMatchObject({ startedHere: true });
  });

  test("a cluster whose password is lost or replaced", async () => {
    await (await start()).stop();
    const path = join(dataDir, "postgres-password");
    const aside = `${path}.aside`;
    await rename(path, aside);
    try {
      await expect(start()).rejects.toThrow(/postgres-password is missing/);
      await writeFile(path, "another");
      await expect(start()).rejects.toThrow(/is not the one its database was made with/);
    } finally {
      await rename(aside, path);
    }
    expect(await findEmbeddedServer(dataDir)).toBeUndefined();
    expect(await start()).toMatchObject({ startedHere: true });
  });
});

describe.skipIf(!isRoot)(
  "startEmbeddedServer as root where PostgreSQL's user cannot go (skipped otherwise)",
  () => {
    let locked: string;
    let sharedDir: string;
    let at: string;

    beforeAll(async () => {
      locked = join(folder, "locked");
      await mkdir(locked, { mode: 0o700 });
      sharedDir = join(folder, "lib");
      at = join(locked, ".data");
    });

    const homes = async () => readdir(join(sharedDir, "clusters"));

    test("keeps the cluster elsewhere, linked from DATA_DIR, and the data from run to run", async () => {
      const first = await start({ dataDir: at });
      await query(first.url, "create table kept as select 'here' as word");
      await first.stop();

      const second = await start({ dataDir: at });

      expect(await query(second.url, "select word from kept")).toEqual([{ word: "here" }]);
      const cluster = await readlink(join(at, "postgres"));
      expect(dirname(dirname(cluster))).toBe(join(sharedDir, "clusters"));
      expect(await readFile(join(dirname(cluster), "data-dir"), "utf8")).toBe(at);
    });

    test("follows a DATA_DIR that was moved, and refuses a copy of one", async () => {
      const moved = join(locked, "moved");
      await rename(at, moved);
      await (await start({ dataDir: moved })).stop();
      await mkdir(at);
      await rename(join(moved, "postgres-password"), join(at, "postgres-password"));
      await rename(join(moved, "postgres"), join(at, "postgres"));
      await (await start({ dataDir: at })).stop();
      await symlink(await readlink(join(at, "postgres")), join(moved, "postgres"));

      await expect(start({ dataDir: moved })).rejects.toThrow(
        `${join(moved, "postgres")} is a copy of a link to the database of ${at}`,
      );
      await rm(moved, { recursive: true });
    });

    test("starts empty when DATA_DIR was deleted, and frees the old cluster and its orphaned server", async () => {
      const { child, server: old } = await startInChild(at, sharedDir);
      await endGroup(child, "SIGKILL");
      expect(await homes()).toHaveLength(1);
      await rm(at, { recursive: true });

      const server = await start({ dataDir: at });

      expect(await query(server.url, "select to_regclass('kept') as kept")).toEqual([
        { kept: null },
      ]);
      expect(await answers(old)).toBe(false);
      expect(await homes()).toEqual([await homeOf(at)]);
    });

    test("frees another DATA_DIR's cluster when that was deleted and its process is dead", async () => {
      const gone = join(locked, "gone");
      const { child, server } = await startInChild(gone, sharedDir);
      const home = await homeOf(gone);
      await rm(gone, { recursive: true });

      await (await start({ dataDir: at })).stop();
      expect(await homes()).toContain(home);
      expect(await answers(server)).toBe(true);

      await endGroup(child, "SIGKILL");
      await (await start({ dataDir: at })).stop();
      expect(await homes()).not.toContain(home);
      expect(await answers(server)).toBe(false);
    });

    test("of a project that may have been moved, stops the orphaned server and keeps the cluster for a week", async () => {
      const before = join(locked, "before");
      const { child, server } = await startInChild(join(before, ".data"), sharedDir);
      const home = await homeOf(join(before, ".data"));
      await endGroup(child, "SIGKILL");
      await rename(before, join(locked, "after"));

      await (await start({ dataDir: at })).stop();
      expect(await homes()).toContain(home);
      expect(await answers(server)).toBe(false);

      const eightDaysAgo = Date.now() / 1000 - 8 * 24 * 3600;
      await utimes(join(sharedDir, "clusters", home, "data-dir"), eightDaysAgo, eightDaysAgo);
      await (await start({ dataDir: at })).stop();
      expect(await homes()).not.toContain(home);
    });

    test("starts empty when only DATA_DIR was kept; refuses when its link led to a disk that is away", async () => {
      const kept = join(locked, "kept");
      const lost = join(folder, "lost");
      await mkdir(kept);
      await symlink(join(lost, "clusters", "abcdef", "postgres"), join(kept, "postgres"));

      await expect(start({ dataDir: kept })).rejects.toThrow(
        /which is not there: bring it back or remove the link/,
      );
      expect(await start({ dataDir: kept, sharedDir: lost })).toMatchObject({ startedHere: true });
    });

    test("refuses a cluster that its owner cannot reach any more", async () => {
      const open = join(folder, "open");
      await (await start({ dataDir: join(open, ".data") })).stop();
      await chmod(open, 0o700);

      await expect(start({ dataDir: join(open, ".data") })).rejects.toThrow(
        /cannot enter: move the project back to where it was made/,
      );
    });

    test("refuses in a sentence when there is no place elsewhere either", async () => {
      const blocked = join(folder, "blocked-lib");
      await writeFile(blocked, "");

      await expect(start({ dataDir: join(locked, "other"), sharedDir: blocked })).rejects.toThrow(
        /blocked-lib cannot be written \(EEXIST\): move the project to a folder that everybody can enter/,
      );
    });
  },
);

describe("findEmbeddedServer", () => {
  test("finds a running server and does not stop it; finds none when none runs", async () => {
    const server = await start();

    const found = await findEmbeddedServer(dataDir);

    expect(found).toMatchObject({ port: server.port, url: server.url, startedHere: false });
    await found?.stop();
    expect(await answers(server)).toBe(true);
    await server.stop();
    expect(await findEmbeddedServer(dataDir)).toBeUndefined();
  });

  test("makes nothing where there is no data folder", async () => {
    const at = join(folder, "nowhere");

    expect(await findEmbeddedServer(at)).toBeUndefined();
    await expect(stat(at)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
