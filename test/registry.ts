import postgres from "postgres";
import { withAdmin } from "../src/db/admin.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { createTenant, type CreatedTenant } from "../src/tenants/provisioning.ts";
import { createDatabase, type TestDatabase } from "./cluster.ts";

/** A migrated registry in a database of its own, without a tenant. */
export interface TestRegistry {
  readonly database: TestDatabase;
  /** The superuser, who migrates here. */
  readonly url: string;
  /** The API's role of this database alone. */
  readonly apiUrl: string;
  readonly apiRole: string;
  /** The superuser's connection, to look at rows; int8 as numbers. */
  readonly sql: postgres.Sql<{ bigint: number }>;
  /** Makes a tenant as the command does, without a password for its owner. */
  createTenant(subdomain: string): Promise<CreatedTenant>;
  /** The settings of a command that works on this registry. */
  environment(dataDir: string): Record<string, string>;
  close(): Promise<void>;
}

/** @param serverUrl the superuser's, of a server of its own; default: that of the run */
export async function createRegistry(serverUrl?: string): Promise<TestRegistry> {
  const database = await createDatabase(serverUrl);
  const apiRole = `api_${database.name}`;
  const api = new URL(database.url);
  api.username = apiRole;
  api.password = "secret of a test";
  await migrateRegistry(database.url, api.href);
  const sql = postgres(database.url, {
    max: 2,
    onnotice: () => undefined,
    types: { bigint: { to: 20, from: [20], serialize: String, parse: Number } },
  });
  return {
    createTenant: async (subdomain) => {
      const migrations = await loadTenantMigrations();
      return withAdmin(database.url, (admin) =>
        createTenant(admin, migrations, apiRole, {
          name: `The ${subdomain}`,
          subdomain,
          owner: { fullName: "Ada", email: `ada@${subdomain}.test`, phone: "+201001234567" },
        }),
      );
    },
    environment: (dataDir) => ({
      APP_ENV: "local",
      DATA_DIR: dataDir,
      DATABASE_URL: api.href,
      DATABASE_MIGRATION_URL: database.url,
    }),
    database,
    url: database.url,
    apiUrl: api.href,
    apiRole,
    sql,
    close: async () => {
      await sql.end();
      await database.drop();
    },
  };
}
