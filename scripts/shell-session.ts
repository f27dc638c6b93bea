import type { FastifyInstance } from "fastify";
import { buildApp } from "../src/app.ts";
import type { Config } from "../src/config.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { sql } from "../src/db/sql.ts";
import type { TenantConnection } from "../src/db/tenant-database.ts";
import { AppError } from "../src/errors.ts";
import { makeLogger } from "../src/logger.ts";
import { closeServices, connectServices, makeServices, type Services } from "../src/services.ts";

/** Connections of a shell: one for single statements, two for transactions. */
const LANES = 1;
const TRANSACTION_CONNECTIONS = 2;

/** What a shell works with, put where what is typed finds it. */
export interface ShellSession {
  /** Where one is, in a line. */
  readonly place: string;
  readonly prompt: string;
  /** Makes a tenant the one that `tenant` leads to. @throws AppError `tenant_not_found` */
  use(subdomain: string): Promise<ChosenTenant>;
  /** Called after each {@link use}. */
  onUse(callback: () => void): void;
  close(): Promise<void>;
}

interface ChosenTenant {
  readonly id: number;
  readonly subdomain: string;
  readonly name: string;
  readonly status: string;
}

/**
 * Connects, builds the service without a port, and makes `app`, `services`, `registry`, `sql`, `use` and `tenant` global.
 * What works in the background is not started.
 */
export async function openShellSession(
  config: Config,
  { url, migrationUrl }: OpenDatabase,
): Promise<ShellSession> {
  const quiet: Config = {
    ...config,
    // Answers are on standard output; what the log has to say that is worse goes beside them.
    logLevel: "warn",
    databaseLanes: LANES,
    databaseTransactionConnections: TRANSACTION_CONNECTIONS,
  };
  const log = makeLogger(quiet, { write: (line) => void process.stderr.write(line) });
  const platformUrl = config.appEnv === "local" || migrationUrl !== url ? migrationUrl : undefined;
  const services = makeServices(quiet, url, log, platformUrl);
  let app: FastifyInstance;
  try {
    await connectServices(services);
    app = await buildApp(services, log);
    await app.ready();
  } catch (error) {
    await closeServices(services);
    throw error;
  }
  return makeSession(app, services, placeOf(config, url));
}

function makeSession(app: FastifyInstance, services: Services, where: string): ShellSession {
  const { registry } = services.database;
  let chosen: ChosenTenant | undefined;
  let afterUse: () => void = () => undefined;
  const use = async (subdomain: string): Promise<ChosenTenant> => {
    const [tenant] = await registry.query<ChosenTenant[]>`
      select id, subdomain, name, status from public.tenants where subdomain = ${subdomain.toLowerCase()}`;
    if (!tenant) throw new AppError("tenant_not_found", `There is no tenant "${subdomain}".`);
    chosen = tenant;
    afterUse();
    return tenant;
  };
  const getTenant = (): TenantConnection => {
    if (!chosen)
      throw new Error('No tenant is chosen: await use("acme"), or start with --tenant acme.');
    return services.database.tenant(chosen.id);
  };
  const globals = { app, services, registry, sql, use };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, {
      value,
      writable: true,
      configurable: true,
      enumerable: true,
    });
  }
  Object.defineProperty(globalThis, "tenant", {
    get: getTenant,
    configurable: true,
    enumerable: false,
  });
  return {
    get place() {
      return chosen
        ? `${where}, tenant ${chosen.subdomain} (t_${chosen.id}, ${chosen.status})`
        : where;
    },
    get prompt() {
      return `${chosen?.subdomain ?? "ouvira"}> `;
    },
    use,
    onUse: (callback) => {
      afterUse = callback;
    },
    close: async () => {
      await app.close();
      await closeServices(services);
    },
  };
}

/** Without the password. */
function placeOf({ appEnv }: Config, url: string): string {
  const { hostname, port, pathname, username } = new URL(url);
  return `APP_ENV=${appEnv}, database ${pathname.slice(1)} of ${hostname}:${port || "5432"} as ${decodeURIComponent(username)}`;
}
