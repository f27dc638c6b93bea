/** `npm run tenant -- verify-audit | prune-logs`: what operators do with tenants' logs. */
import { pruneLogs } from "../src/audit/log-pruning.ts";
import { type VerificationReport, verifyLog } from "../src/audit/log-verification.ts";
import { LOGS } from "../src/audit/seals.ts";
import { type AdminConnection, withAdmin } from "../src/db/admin.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { AppError } from "../src/errors.ts";
import { COMMON, parse, readSettings, STRING, UsageError, withDatabase } from "./command.ts";

const VERIFY_HELP = `
Checks tenants' logs against the seals made of them and the checkpoints in the registry, and names each
entry that was edited, deleted, inserted, reordered or cut off.

  npm run tenant -- verify-audit          every tenant
  npm run tenant -- verify-audit acme     one
  npm run tenant -- verify-audit --json   one JSON object a tenant and line

Exit code 0: everything is what was written. 1: something is not.
`;

const PRUNE_HELP = `
Deletes log entries that are old enough, and leaves a receipt, by which verify-audit knows that they were
pruned and not cut off. Entries go with the seal they belong to; what is not sealed yet stays.

  npm run tenant -- prune-logs                           every tenant that has a number of days
  npm run tenant -- prune-logs acme                      one, by its own number of days
  npm run tenant -- prune-logs acme --keep-days 400      gives it that number, and prunes
  npm run tenant -- prune-logs acme --keep-days forever  takes the number away; prunes nothing

  --force   prune although the part to be pruned is not what was sealed; the receipt says so

Can be stopped and run again.
`;

interface TenantRow {
  id: number;
  subdomain: string;
  log_retention_days: number | null;
}

export async function verifyTenantLogs(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  if (values.help) {
    console.log(VERIFY_HELP.trim());
    return;
  }
  await withDatabase(readSettings(), async ({ migrationUrl }) =>
    withAdmin(migrationUrl, async (admin) => {
      for (const tenant of await findTenants(admin, positionals)) {
        const reports = await verifyTenant(admin, tenant);
        const findings = reports.flatMap((report) => report.findings);
        if (findings.length > 0) process.exitCode = 1;
        if (values.json) {
          const { id, subdomain } = tenant;
          const status = findings.length > 0 ? "broken" : "intact";
          console.log(JSON.stringify({ id, subdomain, status, logs: reports }));
          continue;
        }
        const entries = reports.reduce((sum, report) => sum + report.checked_entries, 0);
        const verdict = findings.length > 0 ? `BROKEN, ${findings.length} findings` : "intact";
        console.log(`${tenant.subdomain}: ${verdict} (${entries} sealed entries)`);
        for (const { log, kind, detail } of findings)
          console.log(`  ${log} log, ${kind}: ${detail}`);
      }
    }),
  );
}

async function verifyTenant(
  admin: AdminConnection,
  { id }: TenantRow,
): Promise<VerificationReport[]> {
  await admin.execute(`set search_path to ${tenantSchema(id)}`);
  const reports: VerificationReport[] = [];
  for (const log of LOGS) reports.push(await verifyLog(admin.query, admin.query, id, log));
  return reports;
}

export async function pruneTenantLogs(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    ...COMMON,
    "keep-days": STRING,
    force: { type: "boolean", default: false },
  });
  if (values.help) {
    console.log(PRUNE_HELP.trim());
    return;
  }
  const keepDays = parseKeepDays(values["keep-days"]);
  if (keepDays !== undefined && positionals.length === 0) {
    throw new UsageError("--keep-days is for one tenant: name it.");
  }
  await withDatabase(readSettings(), async ({ migrationUrl }) =>
    withAdmin(migrationUrl, async (admin) => {
      for (const found of await findTenants(admin, positionals)) {
        const tenant = keepDays === undefined ? found : await setKeepDays(admin, found, keepDays);
        await pruneTenant(admin, tenant, values);
      }
    }),
  );
}

async function pruneTenant(
  admin: AdminConnection,
  { id, subdomain, log_retention_days: days }: TenantRow,
  { json, force }: { json: boolean; force: boolean },
): Promise<void> {
  const tell = (result: object, line: string) =>
    console.log(json ? JSON.stringify({ id, subdomain, keep_days: days, ...result }) : line);
  if (days === null) {
    tell({ logs: [] }, `${subdomain}: keeps its logs for ever`);
    return;
  }
  try {
    const cutoff = new Date(Date.now() - days * 86_400_000);
    const logs = await pruneLogs(admin, id, { cutoff, isForced: force });
    const entries = logs.reduce((sum, log) => sum + log.entries, 0);
    tell({ logs }, `${subdomain}: ${entries} entries older than ${days} days deleted`);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    // The next tenant's logs are not the worse for it.
    process.exitCode = 1;
    tell({ error: { code: error.code, detail: error.message } }, `${subdomain}: ${error.message}`);
  }
}

/** Days, null for ever, undefined when nothing was said. */
function parseKeepDays(text: string | undefined): number | null | undefined {
  if (text === undefined) return undefined;
  if (text === "forever") return null;
  const days = Number(text);
  if (Number.isInteger(days) && days >= 1 && days <= 36_500) return days;
  throw new UsageError("--keep-days takes a whole number of days from 1, or forever.");
}

async function setKeepDays(
  admin: AdminConnection,
  tenant: TenantRow,
  days: number | null,
): Promise<TenantRow> {
  await admin.query`
    update public.tenants set log_retention_days = ${days}, updated_at = now() where id = ${tenant.id}`;
  return { ...tenant, log_retention_days: days };
}

/** One tenant by its subdomain, or all, oldest first. */
async function findTenants(
  admin: AdminConnection,
  [subdomain, ...more]: readonly string[],
): Promise<TenantRow[]> {
  if (more.length > 0) throw new UsageError("Name one tenant, or none for all.");
  const tenants = await admin.query<TenantRow[]>`
    select id, subdomain, log_retention_days
      from public.tenants
     where ${subdomain ?? null}::text is null or subdomain = lower(${subdomain ?? null})
     order by id`;
  if (subdomain !== undefined && tenants.length === 0) {
    throw new AppError("tenant_not_found", `There is no tenant "${subdomain}".`);
  }
  return tenants;
}
