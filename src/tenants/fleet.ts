import { type AdminConnection, withAdmin } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { newestVersion, type TenantMigration, upgradeText } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import { tellProcesses } from "./life-cycle.ts";

export interface FleetReport {
  /** The version of this release. */
  version: string;
  /** Tenants there are. */
  total: number;
  migrated: FleetResult[];
  failed: FleetResult[];
}

export interface FleetResult {
  id: number;
  subdomain: string;
  durationMs: number;
  error?: string;
}

export interface FleetOptions {
  /** Tenants migrated at a time; DDL is work for the server's cores. */
  readonly parallel: number;
  readonly onResult?: (result: FleetResult, done: number, total: number) => void;
}

/** Lets one fleet migration run at a time, whatever it is started from. */
const FLEET_LOCK = "ouvira fleet migration";

/**
 * Brings every tenant's schema up to date. One query finds who is behind; each tenant is one
 * transaction with its ledger row, so that a run that is killed leaves every tenant on one version
 * or the next, and the run after it does the rest. A tenant that fails stays where it is, with its
 * error in the ledger, and keeps no other waiting.
 *
 * @throws AppError `conflict` while another fleet migration runs
 */
export async function migrateFleet(
  url: string,
  migrations: readonly TenantMigration[],
  { parallel, onResult }: FleetOptions,
): Promise<FleetReport> {
  const version = newestVersion(migrations);
  return withAdmin(url, async (admin) => {
    const [lock] = await admin.query<{ is_held: boolean }[]>`
      select pg_try_advisory_lock(hashtext(${FLEET_LOCK})) as is_held`;
    if (!lock?.is_held)
      throw new AppError("conflict", "Another migration of the fleet is running.");
    const behind = await admin.query<{ id: number; subdomain: string }[]>`
      select t.id, t.subdomain
        from public.tenants t
        join public.tenant_migrations m on m.tenant_id = t.id
       where m.version <> ${version} or m.state <> 'applied'
       order by t.id`;
    const [count] = await admin.query<
      { total: number }[]
    >`select count(*) as total from public.tenants`;
    const report: FleetReport = { version, total: count?.total ?? 0, migrated: [], failed: [] };
    const queue = [...behind];
    const workers = Array.from({ length: Math.min(parallel, queue.length) }, () =>
      withAdmin(url, async (worker) => {
        for (let tenant = queue.shift(); tenant; tenant = queue.shift()) {
          const result = await migrateTenant(worker, migrations, tenant);
          (result.error === undefined ? report.migrated : report.failed).push(result);
          onResult?.(result, report.migrated.length + report.failed.length, behind.length);
        }
      }),
    );
    await Promise.all(workers);
    return report;
  });
}

async function migrateTenant(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  { id, subdomain }: { id: number; subdomain: string },
): Promise<FleetResult> {
  const startedAt = performance.now();
  const durationMs = () => Math.round(performance.now() - startedAt);
  const schema = tenantSchema(id);
  await admin.query`
    update public.tenant_migrations
       set state = 'running', attempts = attempts + 1, updated_at = now()
     where tenant_id = ${id}`;
  try {
    await admin.transaction(async () => {
      await admin.execute(`set local search_path to ${schema}`);
      const applied = await admin.query<
        { name: string }[]
      >`select name from pgmigrations order by id`;
      const text = upgradeText(
        migrations,
        applied.map(({ name }) => name),
        schema,
      );
      if (text !== "") await admin.execute(text);
      await admin.query`
        update public.tenant_migrations
           set version = ${newestVersion(migrations)}, state = 'applied', last_error = null,
               duration_ms = ${durationMs()}, updated_at = now()
         where tenant_id = ${id}`;
      // Processes that refuse the tenant for its version look again.
      await tellProcesses(admin.query, id);
    });
    return { id, subdomain, durationMs: durationMs() };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    await admin.query`
      update public.tenant_migrations
         set state = 'failed', last_error = ${message}, duration_ms = ${durationMs()}, updated_at = now()
       where tenant_id = ${id}`;
    return { id, subdomain, durationMs: durationMs(), error: message };
  }
}
