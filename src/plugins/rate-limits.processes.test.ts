import { randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasRedisServer, startRedis, type TestRedis } from "../../test/redis.ts";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { type ServerProcess, startServer } from "../../test/server-process.ts";

const PROCESSES = 4;
const CALLS_EACH = 25;
const LIMIT = 20;

let registry: TestRegistry;
let dataDir: string;
let redis: TestRedis | undefined;
let redisUrl: string;
let servers: ServerProcess[] = [];

/** The service with one limit and Redis. */
const start = () =>
  startServer({
    ...registry.environment(dataDir),
    DATABASE_LANES: "2",
    REDIS_URL: redisUrl,
    RATE_LIMIT_ANONYMOUS: "0",
    RATE_LIMIT_REFRESH: `${LIMIT}/hour`,
  });

async function refresh({ url }: ServerProcess): Promise<number> {
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
      // One of them migrates and makes the tenant, which the others wait for.
      servers = await Promise.all(Array.from({ length: PROCESSES }, start));
    }, 120_000);

    afterAll(async () => {
      await Promise.all(servers.map((server) => server.stop()));
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
