import { createHmac } from "node:crypto";
import postgres from "postgres";
import type { Config } from "../config.ts";
import { withAdmin } from "./admin.ts";
import { startEmbeddedServer } from "./embedded-server.ts";

/** Where the database is, for as long as it is needed. */
export interface OpenDatabase {
  /** The API's role: takes on tenants' roles, owns nothing. */
  readonly url: string;
  /** The role that owns tables and creates tenants. */
  readonly migrationUrl: string;
  /** Whether it is the embedded server of APP_ENV=local. */
  readonly isEmbedded: boolean;
  /** Stops what was started for this process; somebody else's server goes on. */
  stop(): Promise<void>;
}

const LOCAL_DATABASE = "ouvira";
const LOCAL_API_ROLE = "ouvira_api";

/** SQLSTATE of `create database` when another process was first. */
const DUPLICATE_DATABASE = new Set(["42P04", "23505"]);

/**
 * The database of the configuration: the one it names, or an embedded server under DATA_DIR, that of
 * a running `npm run dev` when there is one.
 *
 * @param settings of an embedded server that is started, by their names in postgresql.conf
 */
export async function openDatabase(
  config: Config,
  log: (line: string) => void = () => undefined,
  settings: Readonly<Record<string, string>> = {},
): Promise<OpenDatabase> {
  if (config.databaseUrl !== undefined) {
    return {
      url: config.databaseUrl,
      migrationUrl: config.databaseMigrationUrl ?? config.databaseUrl,
      isEmbedded: false,
      stop: () => Promise.resolve(),
    };
  }
  const server = await startEmbeddedServer({ dataDir: config.dataDir, log, settings });
  try {
    await withAdmin(server.url, async (admin) => {
      const rows = await admin.query`select 1 from pg_database where datname = ${LOCAL_DATABASE}`;
      if (rows.length > 0) return;
      await admin.execute(`create database ${LOCAL_DATABASE}`).catch((error: unknown) => {
        const isMade =
          error instanceof postgres.PostgresError && DUPLICATE_DATABASE.has(error.code);
        if (!isMade) throw error;
      });
    });
  } catch (error) {
    await server.stop();
    throw error;
  }
  const migrationUrl = new URL(server.url);
  migrationUrl.pathname = LOCAL_DATABASE;
  const url = new URL(migrationUrl);
  url.username = LOCAL_API_ROLE;
  url.password = createHmac("sha256", config.secretKey).update(LOCAL_API_ROLE).digest("base64url");
  return {
    url: url.href,
    migrationUrl: migrationUrl.href,
    isEmbedded: true,
    stop: () => server.stop(),
  };
}
