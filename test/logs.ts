import { vi } from "vitest";
import { withAdmin } from "../src/db/admin.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { type VerificationReport, verifyLog } from "../src/audit/log-verification.ts";
import type { Log } from "../src/audit/seals.ts";
import type { TestApp, TestTenant } from "./app.ts";

/** Writes entries of the activity log, each in a transaction of its own; gives their ids. */
export async function writeEntries(tenant: TestTenant, count: number): Promise<number[]> {
  const ids: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const [row] = await tenant.sql<{ id: number }[]>`
      insert into activity_logs (
        user_display, entity_type, entity_id, action, old_values, new_values, ip_address
      )
      values (
        'ada@corp.test', 'Company', ${index + 1}, 'UPDATE', '{"name": "Acme"}',
        ${tenant.sql.json({ name: `Acme ${index}` })}, '203.0.113.7')
      returning id`;
    if (row) ids.push(row.id);
  }
  return ids;
}

/**
 * Seals everything there is, in one link of each log. What transactions of other tests hold up, anywhere
 * on the server, is waited for.
 */
export async function seal(app: TestApp, tenant: TestTenant): Promise<void> {
  await vi.waitFor(
    async () => {
      const open = await tenant.sql`
        select 1 from activity_logs where transaction_id >= pg_snapshot_xmin(pg_current_snapshot())
        union all
        select 1 from security_logs where transaction_id >= pg_snapshot_xmin(pg_current_snapshot())`;
      if (open.length > 0) throw new Error("A transaction is still open");
    },
    { timeout: 10_000, interval: 5 },
  );
  await sealOnce(app, tenant);
}

/** Seals what can be sealed now, as the service does from time to time. */
export async function sealOnce({ services }: TestApp, tenant: TestTenant): Promise<void> {
  services.logSealer.mark(tenant.id);
  // A round under way may have begun before the mark.
  await services.logSealer.sealMarked();
  await services.logSealer.sealMarked();
}

/** Checks a log as the operators' command does. */
export async function verify(
  { ownerUrl }: TestApp,
  tenant: TestTenant,
  log: Log = "activity",
): Promise<VerificationReport> {
  return withAdmin(ownerUrl, async (admin) => {
    await admin.execute(`set search_path to ${tenantSchema(tenant.id)}`);
    return verifyLog(admin.query, admin.query, tenant.id, log);
  });
}
