import { LogSealer } from "./audit/log-sealer.ts";
import { PRINCIPALS_CHANNEL } from "./auth/sessions.ts";
import { Principals } from "./auth/principals.ts";
import { PasswordHasher } from "./auth/passwords.ts";
import type { Config } from "./config.ts";
import { AdminPool } from "./db/admin-pool.ts";
import { Notifications } from "./db/notifications.ts";
import { apiRoleOf } from "./db/roles.ts";
import { SlowStatements } from "./db/slow-statements.ts";
import { TenantDatabase } from "./db/tenant-database.ts";
import { loadTenantMigrations } from "./db/tenant-migrations.ts";
import { Keys } from "./keys.ts";
import { Metrics } from "./metrics.ts";
import type { WorkerLog } from "./messaging/deliveries.ts";
import { Outbox } from "./messaging/outbox.ts";
import { MessageQueue } from "./messaging/queue.ts";
import { makeTransports } from "./messaging/transports.ts";
import { Turnstile } from "./messaging/turnstile.ts";
import { MessageWorker } from "./messaging/worker.ts";
import type { Platform } from "./platform/context.ts";
import type { Tracing } from "./tracing.ts";
import { TENANTS_CHANNEL, TenantDirectory } from "./tenants/directory.ts";
import { getFleetGroups } from "./tenants/fleet-status.ts";

/** What routes work with: made once per process, closed with it. */
export interface Services {
  readonly config: Config;
  readonly keys: Keys;
  readonly passwords: PasswordHasher;
  readonly database: TenantDatabase;
  readonly notifications: Notifications;
  readonly directory: TenantDirectory;
  readonly principals: Principals;
  readonly metrics: Metrics;
  /** Seals what is written to the tenants' logs. */
  readonly logSealer: LogSealer;
  /** Where e-mails and SMS are put, in the transaction of what they tell of. */
  readonly messageQueue: MessageQueue;
  /** What operators are served with; undefined where this process may not act as the tables' owner. */
  readonly platform: Platform | undefined;
  /** Undefined: no captcha is asked for. */
  readonly turnstile: Turnstile | undefined;
  /** The console transports' messages; undefined in production. */
  readonly outbox: Outbox | undefined;
  /** Undefined: nothing is traced. */
  readonly tracing: Tracing | undefined;
  /** Sends what is queued; undefined where nothing can send: messages then stay queued, sealed. */
  readonly messages: MessageWorker | undefined;
}

/**
 * Makes the services; nothing is connected before {@link openServices}.
 *
 * @param migrationUrl of the role that owns the tables; without it operators are not served
 */
export function makeServices(
  config: Config,
  databaseUrl: string,
  log: ServiceLog,
  migrationUrl?: string,
  tracing?: Tracing,
): Services {
  const keys = new Keys(config);
  const metrics = new Metrics();
  const database = new TenantDatabase({
    url: databaseUrl,
    lanes: config.databaseLanes,
    transactionConnections: config.databaseTransactionConnections,
    preparedPerLaneMax: config.databasePreparedPerLane,
    trace: tracing?.statements,
    ...(config.slowQueryMs > 0 ? { slow: slowStatements(config.slowQueryMs, metrics, log) } : {}),
  });
  const notifications: Notifications = new Notifications({
    url: config.databaseListenUrl ?? databaseUrl,
    channels: {
      [TENANTS_CHANNEL]: () => directory.clear(),
      [PRINCIPALS_CHANNEL]: (key) => principals.revoke(key),
    },
    onGap: () => {
      directory.clear();
      principals.clear();
    },
  });
  const directory = new TenantDirectory(database.registry, notifications);
  const principals = new Principals(database, notifications);
  const outbox =
    config.appEnv === "local" ? new Outbox(config.dataDir, (line) => log.info(line)) : undefined;
  const transports = makeTransports(config, outbox);
  const messages = transports && new MessageWorker({ database, keys, transports, metrics, log });
  const messageQueue = new MessageQueue({
    keys,
    registry: database.registry,
    wake: (tenantId, channel) => void messages?.wake(tenantId, channel),
  });
  const passwords = new PasswordHasher({ pepper: config.passwordPepper, cost: config.bcryptCost });
  metrics.watchLoad({
    passwords,
    database,
    notifications,
    caches: { tenants: directory.cache, principals: principals.cache },
  });
  metrics.watchFleet(() => getFleetGroups(database.registry.query));
  return {
    tracing,
    platform: migrationUrl === undefined ? undefined : makePlatform(databaseUrl, migrationUrl),
    metrics,
    logSealer: new LogSealer({ database, log }),
    turnstile: config.turnstile && new Turnstile(config.turnstile),
    messageQueue,
    config,
    keys,
    passwords,
    database,
    notifications,
    directory,
    principals,
    outbox,
    messages,
  };
}

function slowStatements(fromMs: number, metrics: Metrics, log: ServiceLog): SlowStatements {
  return new SlowStatements(fromMs, (slow) => {
    metrics.slowStatements.inc();
    log.warn({ ...slow }, "A statement took long");
  });
}

function makePlatform(databaseUrl: string, migrationUrl: string): Platform {
  let migrations: ReturnType<Platform["migrations"]> | undefined;
  return {
    pool: new AdminPool({ url: migrationUrl }),
    apiRole: apiRoleOf(databaseUrl).name,
    migrations: () => (migrations ??= loadTenantMigrations()),
  };
}

export interface ServiceLog extends WorkerLog {
  info(message: string): void;
  info(details: object, message: string): void;
}

/** Connects the database and the notifications; nothing works by itself yet. */
export async function connectServices(services: Services): Promise<void> {
  await Promise.all([services.database.openRegistry(), services.notifications.open()]);
}

/** Connects, then starts those that work by themselves. */
export async function openServices(services: Services): Promise<void> {
  await connectServices(services);
  services.messages?.start();
  services.logSealer.start();
}

/** Ends them in the order that loses nothing: messages under way, then connections. */
export async function closeServices(services: Services): Promise<void> {
  await Promise.all([services.messages?.stop(), services.logSealer.stop()]);
  await services.platform?.pool.close();
  await services.notifications.close();
  await services.database.close();
  await services.passwords.close();
  await services.tracing?.stop();
}
