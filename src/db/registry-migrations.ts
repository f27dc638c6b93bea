import { REGISTRY_MIGRATIONS_DIR } from "../paths.ts";
import { withAdmin } from "./admin.ts";
import { apiRoleOf, ensureRoles, grantTenantRoles } from "./roles.ts";

/**
 * Brings the registry (schema `public`) up to date, with the roles it needs and what the API's may act as. Safe to run again; of
 * two runs at once the second waits for the first.
 *
 * @param apiUrl names the role that the API logs in as
 * @returns the names of the migrations that were applied
 */
export async function migrateRegistry(
  migrationUrl: string,
  apiUrl: string,
  direction: "up" | "down" = "up",
): Promise<string[]> {
  await withAdmin(migrationUrl, (admin) => ensureRoles(admin, apiRoleOf(apiUrl)));
  // Loaded when it is needed: a service in production starts without it.
  const { runner } = await import("node-pg-migrate");
  const applied = await runner({
    databaseUrl: migrationUrl,
    dir: REGISTRY_MIGRATIONS_DIR,
    direction,
    migrationsTable: "pgmigrations",
    schema: "public",
    advisoryLockMode: "wait",
    checkOrder: true,
    log: () => undefined,
  });
  if (direction === "up") {
    await withAdmin(migrationUrl, (admin) => grantTenantRoles(admin, apiRoleOf(apiUrl)));
  }
  return applied.map(({ name }) => name);
}
