import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { builtProgram } from "../../test/built.ts";
import { hasRedisServer, startRedis, type TestRedis } from "../../test/redis.ts";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { ROOT_DIR } from "../paths.ts";

const PROCESSES = 4;
const CALLS_EACH = 25;
const LIMIT = 20;
const WAIT = { timeout: 60_000, interval: 20 };

interface Server {
  readonly child: ChildProcess;
  readonly url: string;
  readonly exited: Promise<unknown>;
}

let registry: TestRegistry;
let dataDir: string;
let redis: TestRedis | undefined;
let redisUrl: string;
const servers: Server[] = [];

/** The service as it is started for users, with one limit and Redis. */
async function startServer(): Promise<Server> {
  const child = spawn(process.execPath, [builtProgram("src/server")], {
    cwd: ROOT_DIR,
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      PATH: process.env["PATH"] ?? "",
      APP_ENV: "local",
      PORT: "0",
      DATA_DIR: dataDir,
      DATABASE_URL: registry.apiUrl,
      DATABASE_MIGRATION_URL: registry.url,
      DATABASE_LANES: "2",
      REDIS_URL: redisUrl,
      RATE_LIMIT_ANONYMOUS: "0",
      RATE_LIMIT_REFRESH: `${LIMIT}/hour`,
    },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const url = await vi.waitFor(() => {
    const address = /Server listening at (http:\/\/[^"]+)/.exec(output)?.[1];
    if (address === undefined) throw new Error(`The server does not listen: ${output}`);
    return address;
  }, WAIT);
  const server = { child, url, exited: once(child, "close") };
  servers.push(server);
  return server;
}

async function refresh({ url }: Server): Promise<number> {
  const response = await fetch(`${url}/api/auth/token/refresh/`, {
    method: "POST",
    headers: { "x-tenant": "demo", "content-type": "application/json" },
    body: JSON.stringify({ refresh: "not a token" }),
  });
  await response.arrayBuffer();
  return response.status;
}

describe.skipIf(!hasRedisServer && process.env["REDIS_URL"] === undefined)(
  `${PROCESSES} processes with one Redis`,
  () => {
    beforeAll(async () => {
      registry = await createRegistry();
      // A Redis that others use may know the tenant 1 from an earlier run.
      await registry.sql`
        select setval(pg_get_serial_sequence('public.tenants', 'id'), ${randomInt(2 ** 41, 2 ** 47)}::bigint)`;
      dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-limits-"));
      if (hasRedisServer) redis = await startRedis();
      redisUrl = redis?.url ?? process.env["REDIS_URL"] ?? "";
      // The first migrates and makes the tenant that the others find.
      await startServer();
      await Promise.all(Array.from({ length: PROCESSES - 1 }, startServer));
    }, 120_000);

    afterAll(async () => {
      for (const { child } of servers) child.kill("SIGTERM");
      await Promise.all(servers.map(({ exited }) => exited));
      await redis?.close();
      await registry.close();
      await rm(dataDir, { recursive: true, force: true });
    });

    test("a burst over all of them passes exactly the limit of one", async () => {
      const calls = servers.flatMap((server) => Array.from({ length: CALLS_EACH }, () => server));

      const answers = await Promise.all(calls.map(refresh));

      // What passes is refused for its token.
      expect(answers.filter((status) => status === 401)).toHaveLength(LIMIT);
      expect(answers.filter((status) => status === 429)).toHaveLength(calls.length - LIMIT);
    });

    test("all say that they are ready, and with Redis", async () => {
      for (const { url } of servers) {
        expect(await (await fetch(`${url}/readyz`)).json()).toMatchObject({ status: "ok" });
      }
    });

    test.skipIf(!hasRedisServer)("none of them fails a request when Redis dies", async () => {
      await redis?.kill();

      const calls = servers.flatMap((server) => Array.from({ length: CALLS_EACH }, () => server));
      const answers = await Promise.all(calls.map(refresh));

      // Each counts by itself now.
      expect(answers.filter((status) => status === 401)).toHaveLength(PROCESSES * LIMIT);
      expect(answers.filter((status) => status === 429)).toHaveLength(
        calls.length - PROCESSES * LIMIT,
      );
      for (const { url } of servers) {
        const response = await fetch(`${url}/readyz`);
        expect(response.status).toBe(200);
        expect(await response.json()).toMatchObject({ status: "degraded" });
      }
    });
  },
);
