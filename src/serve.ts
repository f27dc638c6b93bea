import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import closeWithGrace from "close-with-grace";
import type { FastifyInstance } from "fastify";
import { buildApp } from "./app.ts";
import { type Config, readConfig } from "./config.ts";
import { ConfigError } from "./config-error.ts";
import { withAdmin } from "./db/admin.ts";
import { openDatabase, type OpenDatabase } from "./db/open-database.ts";
import { migrateRegistry } from "./db/registry-migrations.ts";
import { findRoleGaps } from "./db/roles.ts";
import { loadTenantMigrations } from "./db/tenant-migrations.ts";
import { AppError } from "./errors.ts";
import { makeLogger } from "./logger.ts";
import { ROOT_DIR } from "./paths.ts";
import { ensureLocalOperator } from "./platform/local-operator.ts";
import { closeServices, makeServices, openServices, type Services } from "./services.ts";
import { ensureDemoTenant } from "./tenants/demo.ts";
import { migrateFleet } from "./tenants/fleet.ts";
import { startTracing } from "./tracing.ts";

/** How long requests under way may take to finish once the service is told to stop. */
const GRACE_MS = 10_000;

/**
 * The service, from its settings to its end: a start that fails says why and sets the process's exit code. Resolves
 * when it listens, or has failed.
 */
export async function serve(): Promise<void> {
  try {
    await start();
  } catch (error) {
    // Settings and a database that is away are the operator's to mend: a sentence, not a stack.
    if (error instanceof ConfigError) console.error(error.message);
    else if (error instanceof AppError) {
      const reason = error.cause instanceof Error ? ` (${error.cause.message})` : "";
      const hint =
        error.code === "not_ready" ? " Has npm run migrate made the role of DATABASE_URL?" : "";
      console.error(`${error.message}${reason}${hint}`);
    } else console.error(error);
    process.exitCode = 1;
  }
}

/** Reads the settings, checks the database, listens, and stops without losing a request. */
async function start(): Promise<void> {
  const envFile = path.join(ROOT_DIR, ".env");
  if (existsSync(envFile)) process.loadEnvFile(envFile);
  const config = readConfig(process.env);
  const log = makeLogger(config);
  const database = await openDatabase(config, (line) => log.debug(line));
  const tracing = await startTracing(config);
  const platformUrl = platformUrlOf(config, database);
  const services = makeServices(config, database.url, log, platformUrl, tracing);
  try {
    if (config.appEnv === "local") await prepareLocal(config, database, services, log);
    const app = await buildWhileOpening(config, database, services, log);
    const { close } = closeWithGrace({ delay: GRACE_MS, logger: log }, async ({ err }) => {
      if (err) log.error({ err }, "The service stops after an error");
      // Requests under way are finished first: they need everything below.
      await app.close();
      await closeServices(services);
      await database.stop();
    });
    // Started by another process with an IPC channel (npm run dev): nobody is left to stop this one
    // when that is gone.
    process.once("disconnect", close);
    await app.listen({ host: config.host, port: config.port });
    services.metrics.watchProcess();
    // Whoever asks before they are open opens the lane that is needed, and is not answered from memory.
    await openServices(services);
    await services.database.open();
  } catch (error) {
    await closeServices(services);
    await database.stop();
    throw error;
  }
}

/** Puts the routes together while the database answers, of which a start has to wait for both. */
async function buildWhileOpening(
  { appEnv }: Config,
  { url }: OpenDatabase,
  services: Services,
  log: ReturnType<typeof makeLogger>,
): Promise<FastifyInstance> {
  const open = async () => {
    await services.database.openRegistry();
    // Nothing works with a role that may do too much.
    if (appEnv === "production") await refuseUnfitRole(services, url);
  };
  const [opened, built] = await Promise.allSettled([open(), buildApp(services, log)]);
  if (built.status === "rejected") throw built.reason;
  if (opened.status === "rejected") {
    await built.value.close();
    throw opened.reason;
  }
  return built.value;
}

/**
 * What operators are served with: in production only where DATABASE_MIGRATION_URL is set, so that processes that
 * serve everybody need not have it.
 */
function platformUrlOf(
  { appEnv, databaseUrl, databaseMigrationUrl }: Config,
  { migrationUrl }: OpenDatabase,
): string | undefined {
  if (appEnv === "local") return migrationUrl;
  // Where it is not set it is the API's own, which owns nothing.
  return databaseMigrationUrl === databaseUrl ? undefined : databaseMigrationUrl;
}

/** A local database is brought up to date by the service itself and has a tenant and an operator to try. */
async function prepareLocal(
  config: Config,
  database: OpenDatabase,
  { passwords }: Services,
  log: ReturnType<typeof makeLogger>,
): Promise<void> {
  const migrations = await loadTenantMigrations();
  await migrateRegistry(database.migrationUrl, database.url);
  const { failed } = await migrateFleet(database.migrationUrl, migrations, {
    parallel: availableParallelism(),
    // Of several processes that start at once one migrates.
    onBusy: (message) => log.info(message),
  });
  for (const { subdomain, error } of failed) {
    throw new Error(`The tenant ${subdomain} could not be migrated: ${error}`);
  }
  await ensureDemoTenant(database, migrations, passwords, config.dataDir);
  await ensureLocalOperator(database.migrationUrl, passwords, config.dataDir);
}

/** In production the role that serves requests may be nothing but that. */
async function refuseUnfitRole({ database }: Services, url: string): Promise<void> {
  const gaps = await findRoleGaps(database.registry.query).catch(() =>
    // A registry that is not migrated has no role to ask with; a database that is away says so once more.
    withAdmin(url, ({ query }) => findRoleGaps(query)),
  );
  if (gaps.length > 0) throw new ConfigError(gaps);
}
