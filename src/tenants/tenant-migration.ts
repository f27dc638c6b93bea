import postgres from "postgres";
import { type AdminConnection, identifier } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { stepsBetween, stepsText, type TenantMigration } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import type { BehindTenant } from "./fleet-plan.ts";
import { tellProcesses } from "./life-cycle.ts";

/** What became of one try to migrate a tenant. */
export interface Try {
  readonly error: string | undefined;
  /** Whether the same may succeed a moment later: somebody held a lock, the connection was lost. */
  readonly isWorthRetrying: boolean;
}

/**
 * SQLSTATEs that pass by themselves: lock_not_available, deadlock_detected, serialization_failure,
 * query_canceled (statement_timeout), too_many_connections, out of memory for locks.
 * https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
const PASSING_CODES = new Set(["55P03", "40P01", "40001", "57014", "53300", "53200"]);

/**
 * Tries once to bring a tenant's schema to a version, up or down, in one transaction with its ledger row. The
 * row is held: of two who try the second finds it done. A tenant that fails stays as it was, with the error
 * in the ledger. A tenant that was deleted meanwhile counts as done.
 */
export async function tryMigration(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  target: string,
  { id }: Pick<BehindTenant, "id">,
): Promise<Try> {
  const startedAt = performance.now();
  const durationMs = () => Math.round(performance.now() - startedAt);
  try {
    // Outside of the transaction: seen while it runs, and after it was killed.
    await admin.query`
      update public.tenant_migrations
         set state = 'running', updated_at = now(),
             attempts = case when state = 'applied' then 1 else attempts + 1 end
       where tenant_id = ${id}`;
    await admin.transaction(async () => {
      const [held] = await admin.query`
        select 1 from public.tenant_migrations where tenant_id = ${id} for update`;
      if (!held) return;
      await applySteps(admin, migrations, target, tenantSchema(id));
      await admin.query`
        update public.tenant_migrations
           set version = ${target}, state = 'applied', last_error = null,
               duration_ms = ${durationMs()}, updated_at = now()
         where tenant_id = ${id}`;
      // Processes that refuse the tenant for its version look again.
      await tellProcesses(admin.query, id);
    });
    return { error: undefined, isWorthRetrying: false };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // When it cannot be written down the tenant stays `running`, which is behind as well.
    if (admin.isOpen) await writeDown(admin, id, message, durationMs()).catch(() => undefined);
    return { error: message, isWorthRetrying: isPassing(error) };
  }
}

async function applySteps(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  target: string,
  schema: string,
): Promise<void> {
  await admin.execute(`set local search_path to ${identifier(schema)}`);
  const applied = await admin.query<{ name: string }[]>`
    select name from pgmigrations order by id`;
  const steps = stepsBetween(
    migrations,
    applied.map(({ name }) => name),
    target,
  );
  const text = stepsText(steps, schema);
  if (text !== "") await admin.execute(text);
}

async function writeDown(
  admin: AdminConnection,
  id: number,
  message: string,
  durationMs: number,
): Promise<void> {
  await admin.query`
    update public.tenant_migrations
       set state = 'failed', last_error = ${message}, duration_ms = ${durationMs}, updated_at = now()
     where tenant_id = ${id} and state = 'running'`;
}

function isPassing(error: unknown): boolean {
  if (error instanceof AppError) return error.code === "not_ready";
  return error instanceof postgres.PostgresError && PASSING_CODES.has(error.code);
}
