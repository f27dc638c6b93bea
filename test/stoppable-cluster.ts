import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vi } from "vitest";
import { findCluster } from "../src/db/embedded-cluster.ts";
import { findPostmaster } from "../src/db/embedded-postmaster.ts";
import { isRunning } from "../src/db/embedded-process.ts";
import { type EmbeddedServer, startEmbeddedServer } from "../src/db/embedded-server.ts";

/** How PostgreSQL is told to stop: `immediate` leaves what the next start has to recover, as a crash does. */
export type StopMode = "fast" | "immediate";

/** A PostgreSQL server of the test's own, which comes back at the same address with what it held. */
export interface StoppableCluster {
  /** The superuser's URL, database `postgres`. */
  readonly url: string;
  stop(mode: StopMode): Promise<void>;
  start(): Promise<void>;
  /** Stops it and removes its files. */
  close(): Promise<void>;
}

/**
 * The disk is not waited for, the kernel is: what has been committed outlives the server's processes,
 * which is all that ends here.
 */
const SETTINGS = { fsync: "off", synchronous_commit: "on", full_page_writes: "off" };

export async function startStoppableCluster(): Promise<StoppableCluster> {
  const dataDir = await mkdtemp(join(tmpdir(), "ouvira-cluster-"));
  // As in test/global-setup.ts: the user `postgres` is to reach it here.
  await chmod(dataDir, 0o711);
  let server: EmbeddedServer = await startEmbeddedServer({ dataDir, port: 0, settings: SETTINGS });
  const { port, url } = server;
  return {
    url,
    stop: (mode) => (mode === "fast" ? server.stop() : stopImmediately(dataDir)),
    async start() {
      server = await startEmbeddedServer({ dataDir, port, settings: SETTINGS });
    },
    async close() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** https://www.postgresql.org/docs/18/server-shutdown.html */
async function stopImmediately(dataDir: string): Promise<void> {
  const cluster = await findCluster(dataDir);
  const postmaster = cluster === undefined ? undefined : await findPostmaster(cluster);
  if (!postmaster) throw new Error("The server does not run");
  process.kill(postmaster.pid, "SIGQUIT");
  await vi.waitUntil(async () => !(await isRunning(postmaster)), { timeout: 15_000, interval: 10 });
}
