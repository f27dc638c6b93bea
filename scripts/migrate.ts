/** `npm run migrate`: the registry, then every tenant's schema. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { migrateFleet } from "../src/tenants/fleet.ts";
import { readSettings, runCommand, UsageError, withDatabase } from "./command.ts";

const HELP = `
Brings the database up to date: the registry, then every tenant's schema.

  npm run migrate                    registry and fleet
  npm run migrate -- --parallel 4    four tenants at a time (default: the cores of this machine)
  npm run migrate -- --json          one JSON object at the end

Needs DATABASE_MIGRATION_URL (or DATABASE_URL; with neither, the local embedded database). Makes the
role that DATABASE_URL names when it does not exist. A tenant whose migration fails stays on its
version and keeps no other waiting; run it again when the cause is mended. Exit code 0: all are up to
date.
`;

await runCommand(async () => {
  const { values } = parseOptions();
  if (values.help) {
    console.log(HELP.trim());
    return;
  }
  const parallel = Number(values.parallel ?? availableParallelism());
  if (!Number.isInteger(parallel) || parallel < 1)
    throw new UsageError("--parallel takes a whole number from 1.");
  await withDatabase(readSettings(), async ({ url, migrationUrl }) => {
    const registry = await migrateRegistry(migrationUrl, url);
    if (!values.json) console.log(`registry: ${registry.length} migrations applied`);
    const report = await migrateFleet(migrationUrl, await loadTenantMigrations(), {
      parallel,
      onResult: ({ subdomain, durationMs, error }, done, total) => {
        if (values.json) return;
        console.log(`${done}/${total} ${subdomain}: ${error ?? `done in ${durationMs} ms`}`);
      },
    });
    if (values.json) console.log(JSON.stringify({ registry, fleet: report }));
    else {
      console.log(
        `fleet: ${report.total} tenants, ${report.migrated.length} migrated, ${report.failed.length} failed, version ${report.version}`,
      );
    }
    if (report.failed.length > 0) process.exitCode = 1;
  });
});

function parseOptions() {
  try {
    return parseArgs({
      options: {
        parallel: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
