import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbeddedServer } from "../src/db/embedded-server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** The superuser's URL of the run's own PostgreSQL server. Tests take it from `test/cluster.ts`. */
    adminUrl: string;
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

/** Starts the one PostgreSQL server of a test run and removes it afterwards. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "ouvira-test-"));
  // As root the server runs as the user `postgres`: what that one can reach stays in this folder, and
  // goes with it, instead of in /var/lib/ouvira.
  await chmod(dataDir, 0o711);
  const remove = () => rm(dataDir, { recursive: true, force: true });
  try {
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
