/** `npm run migrate`: the registry, then every tenant's schema. */
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { COMMON, parse, readSettings, runCommand, UsageError, withDatabase } from "./command.ts";
import { FLEET_HELP, FLEET_OPTIONS, fleetOptions, migrateOrPlan } from "./tenant-migrate.ts";

const HELP = `
Brings the database up to date: the registry, then every tenant's schema.

  npm run migrate                    registry and fleet
  npm run migrate -- --plan          what would run for which tenants; changes nothing
  npm run migrate -- --parallel 4    four tenants at a time
  npm run migrate -- --json          one JSON object at the end
${FLEET_HELP}

Needs DATABASE_MIGRATION_URL (or DATABASE_URL; with neither, the local embedded database). Makes the
role that DATABASE_URL names when it does not exist.
`;

await runCommand(async () => {
  const { values, positionals } = parse(process.argv.slice(2), { ...COMMON, ...FLEET_OPTIONS });
  if (values.help) {
    console.log(HELP.trim());
    return;
  }
  if (positionals.length > 0) throw new UsageError(HELP.trim());
  const options = fleetOptions(values);
  await withDatabase(readSettings(), async (database) => {
    const registry = values.plan ? [] : await migrateRegistry(database.migrationUrl, database.url);
    if (!values.json && !values.plan)
      console.log(`registry: ${registry.length} migrations applied`);
    const fleet = await migrateOrPlan(database, values, options);
    if (values.json) console.log(JSON.stringify({ registry, fleet }));
  });
});
