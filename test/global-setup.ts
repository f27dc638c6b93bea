import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { build } from "../scripts/build.ts";
import { startEmbeddedServer } from "../src/db/embedded-server.ts";
import { ROOT_DIR } from "../src/paths.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** The superuser's URL of the run's own PostgreSQL server. Tests take it from `test/cluster.ts`. */
    adminUrl: string;
    /** Where the service and the commands are built. Tests take them from `test/built.ts`. */
    builtDir: string;
  }
}

/** Nothing here has to survive a crash, so nothing waits for the disk. */
const SETTINGS = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  // 2 workers, each with a few databases of up to 30 connections, and as many again while they close.
  max_connections: "300",
};

/** Where packages are found as from the sources, and nothing is committed. */
const CACHE_DIR = join(ROOT_DIR, "node_modules", ".cache");

/** Starts the one PostgreSQL server of a test run and builds its programs; removes both afterwards. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  await mkdir(CACHE_DIR, { recursive: true });
  const builtDir = await mkdtemp(join(CACHE_DIR, "ouvira-test-"));
  const dataDir = await mkdtemp(join(tmpdir(), "ouvira-test-"));
  // As root the server runs as the user `postgres`: what that one can reach stays in this folder, and
  // goes with it, instead of in /var/lib/ouvira.
  await chmod(dataDir, 0o711);
  const remove = async () => {
    for (const folder of [dataDir, builtDir]) await rm(folder, { recursive: true, force: true });
  };
  try {
    await build({ outdir: builtDir });
    project.provide("builtDir", builtDir);
    const server = await startEmbeddedServer({ dataDir, port: 0, settings: SETTINGS });
    project.provide("adminUrl", server.url);
    return async () => {
      await server.stop();
      await remove();
    };
  } catch (error) {
    await remove();
    throw error;
  }
}
