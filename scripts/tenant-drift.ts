/** `npm run tenant -- drift`: are the schemas what the migrations make? */
import { withAdmin } from "../src/db/admin.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { findDrift } from "../src/tenants/drift.ts";
import { getTenant } from "../src/tenants/life-cycle.ts";
import { COMMON, parse, readSettings, UsageError, withDatabase } from "./command.ts";

const HELP = `
Compares each schema's tables, columns, indexes, constraints and grants with what the migrations of its
version make, and the ledger with the schema's own record. Changes nothing.

  npm run tenant -- drift          every tenant
  npm run tenant -- drift acme     one
  npm run tenant -- drift --json   one JSON object a tenant and line

Exit code 0: everything is as it should be. 1: something is not.
`;

export async function drift(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  const [subdomain, ...more] = positionals;
  if (values.help) {
    console.log(HELP.trim());
    return;
  }
  if (more.length > 0) throw new UsageError(HELP.trim());
  await withDatabase(readSettings(), ({ migrationUrl }) =>
    withAdmin(migrationUrl, async (admin) => {
      const name = subdomain && (await getTenant(admin.query, subdomain)).subdomain;
      await findDrift(admin, await loadTenantMigrations(), name, (report) => {
        const { differences, version } = report;
        if (differences.length > 0) process.exitCode = 1;
        if (values.json) {
          console.log(JSON.stringify(report));
          return;
        }
        const noun = differences.length === 1 ? "difference" : "differences";
        const verdict =
          differences.length === 0
            ? `as ${version} makes it`
            : `${differences.length} ${noun} from ${version || "nothing"}`;
        console.log(`${report.subdomain}: ${verdict}`);
        for (const { object, expected, actual } of differences) {
          console.log(`  ${object}: should be ${expected ?? "absent"}, is ${actual ?? "absent"}`);
        }
      });
    }),
  );
}
