import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { FastifyInstance, InjectOptions } from "fastify";
import { pino } from "pino";
import { z } from "zod";
import { buildApp } from "../src/app.ts";
import { type Config, readConfig } from "../src/config.ts";
import { openDatabase, type OpenDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { closeServices, makeServices, openServices } from "../src/services.ts";
import { type DemoLogin, ensureDemoTenant } from "../src/tenants/demo.ts";
import { addLimitedRoutes, NO_LIMITS } from "../test/limits.ts";
import type { Request } from "./load.ts";

/** More than any run sends: what is measured is counting, not refusing. */
const NEVER = { count: 1_000_000_000, windowMs: 3_600_000 };
export const COUNTING: Config["rateLimits"] = {
  anonymous: NEVER,
  authenticated: NEVER,
  login: NEVER,
  otpSend: NEVER,
  otpVerify: NEVER,
  finalize: NEVER,
  refresh: NEVER,
};
/** Nearly everything is refused. */
export const REFUSING: Config["rateLimits"] = {
  ...NO_LIMITS,
  anonymous: { count: 1, windowMs: 3_600_000 },
};

/** One process of the service, called without a socket. */
export interface LimitedService {
  /** One limit: an address. */
  readonly open: Request;
  /** One limit: a user; with a token, whose login is remembered. */
  readonly own: Request;
  /** Three limits: an address twice, and an identifier. */
  readonly login: Request;
}

/** A database with one tenant, and as many processes of the service on it as are asked for. */
export interface Ground {
  start(rateLimits: Config["rateLimits"], redisUrl?: string): Promise<LimitedService>;
  readonly adminUrl: string;
  remove(): Promise<void>;
}

/** @param callers how many addresses the requests come from, in turn */
export async function prepareGround(callers: number): Promise<Ground> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const base = readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" });
  const database = await openDatabase(base);
  const removals: (() => Promise<void>)[] = [
    () => rm(dataDir, { recursive: true, force: true }),
    () => database.stop(),
  ];
  const login = await makeDemoTenant(base, database);
  return {
    adminUrl: database.migrationUrl,
    async start(rateLimits, redisUrl) {
      const config: Config = { ...base, rateLimits, redisUrl, databaseLanes: 2 };
      const log = pino({ level: "silent" });
      const services = makeServices(config, database.url, log);
      await openServices(services);
      const app = await buildApp(services, log);
      await addLimitedRoutes(app, services);
      await app.ready();
      removals.push(async () => {
        await app.close();
        await closeServices(services);
      });
      return requestsTo(app, login, callers);
    },
    async remove() {
      for (const step of removals.toReversed()) await step();
    },
  };
}

async function makeDemoTenant(config: Config, database: OpenDatabase): Promise<DemoLogin> {
  const { passwords } = makeServices(config, database.url, pino({ level: "silent" }));
  await migrateRegistry(database.migrationUrl, database.url);
  const migrations = await loadTenantMigrations();
  const login = await ensureDemoTenant(database, migrations, passwords, config.dataDir);
  if (!login) throw new Error("The demo tenant was there before it was made");
  return login;
}

const Answer = z.object({ tokens: z.object({ access: z.string() }) });

async function requestsTo(
  app: FastifyInstance,
  { subdomain, email, password }: DemoLogin,
  callers: number,
): Promise<LimitedService> {
  const answer = await app.inject({
    method: "POST",
    url: "/api/auth/login/",
    headers: { "x-tenant": subdomain },
    body: { identifier: email, password },
  });
  let sent = 0;
  const request =
    (options: (caller: number) => InjectOptions): Request =>
    () => {
      sent += 1;
      const caller = sent % callers;
      const { headers, ...others } = options(caller);
      return app.inject({
        ...others,
        headers: { "x-tenant": subdomain, ...headers },
        remoteAddress: `10.${(caller >> 16) & 255}.${(caller >> 8) & 255}.${caller & 255}`,
      });
    };
  // A service that refuses logins too is only asked for what needs none.
  const access = answer.statusCode === 200 ? Answer.parse(answer.json()).tokens.access : "";
  return {
    open: request(() => ({ method: "POST", url: "/test/open/" })),
    own: request(() => ({
      method: "GET",
      url: "/test/own/",
      headers: { authorization: `Bearer ${access}` },
    })),
    login: request((caller) => ({
      method: "POST",
      url: "/test/login/",
      body: { identifier: `user${caller}@corp.test` },
    })),
  };
}
