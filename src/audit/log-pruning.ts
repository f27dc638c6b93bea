import type { AdminConnection } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { findReceipt } from "./log-checkpoints.ts";
import { type Finding, verifyLog } from "./log-verification.ts";
import { deleteUntil, findLastBefore, type Log, LOGS, readSeals } from "./seals.ts";

/** Links pruned in one transaction: at 1,000 entries each 50,000 rows. */
const SEALS_PER_TRANSACTION = 50;

export interface PruningOptions {
  /** Only what was written and sealed before this. */
  readonly cutoff: Date;
  /** Prunes although the part to be pruned is not what was sealed. The receipt says so. */
  readonly isForced: boolean;
}

export interface PruningReport {
  readonly log: Log;
  /** Entries deleted. */
  readonly entries: number;
  /** The link that everything was pruned up to; null when nothing was. */
  readonly through: number | null;
}

/**
 * Deletes a tenant's log entries that were written and sealed before a moment, whole links at a time, each step with
 * its receipt in one transaction. What is not sealed is kept. The part is verified first: pruning must not
 * be how a change is hidden. Stopped at any point, it goes on from there.
 *
 * @throws AppError `conflict` when the part to be pruned is not what was sealed, unless forced
 */
export async function pruneLogs(
  admin: AdminConnection,
  tenantId: number,
  options: PruningOptions,
): Promise<PruningReport[]> {
  await admin.execute(`set search_path to ${tenantSchema(tenantId)}`);
  try {
    const reports: PruningReport[] = [];
    for (const log of LOGS) reports.push(await pruneLog(admin, tenantId, log, options));
    return reports;
  } finally {
    await admin.execute("reset search_path");
  }
}

async function pruneLog(
  admin: AdminConnection,
  tenantId: number,
  log: Log,
  { cutoff, isForced }: PruningOptions,
): Promise<PruningReport> {
  const pruned = (await findReceipt(admin.query, tenantId, log))?.throughNumber ?? 0;
  const through = await findLastBefore(admin.query, log, cutoff);
  if (through <= pruned) return { log, entries: 0, through: null };
  const findings = await findingsUntil(admin, tenantId, log, through);
  if (findings.length > 0 && !isForced) {
    const [first] = findings;
    throw new AppError(
      "conflict",
      `The ${log} log is not what was sealed (${first?.detail ?? ""}) Nothing was pruned: see verify-audit.`,
    );
  }
  let entries = 0;
  for (let from = pruned; from < through; from += SEALS_PER_TRANSACTION) {
    const to = Math.min(through, from + SEALS_PER_TRANSACTION);
    entries += await admin.transaction(() =>
      pruneStep(admin, tenantId, log, to, { cutoff, isForced: findings.length > 0 }),
    );
  }
  return { log, entries, through };
}

async function findingsUntil(
  admin: AdminConnection,
  tenantId: number,
  log: Log,
  through: number,
): Promise<readonly Finding[]> {
  const { findings } = await verifyLog(admin.query, admin.query, tenantId, log, {
    before: through + 1,
  });
  return findings;
}

async function pruneStep(
  admin: AdminConnection,
  tenantId: number,
  log: Log,
  through: number,
  { cutoff, isForced }: PruningOptions,
): Promise<number> {
  const anchor = (await readSeals(admin.query, log, through, through)).get(through);
  if (!anchor) throw new AppError("conflict", `Seal ${through} of the ${log} log is missing.`);
  const entries = await deleteUntil(admin.query, log, anchor.place);
  await admin.query`delete from log_seals where log = ${log} and number < ${through}`;
  await admin.query`
    delete from public.log_checkpoints
     where tenant_id = ${tenantId} and log = ${log} and number < ${through}`;
  await admin.query`
    insert into public.log_receipts (
      tenant_id, log, through_number, digest, entries, cutoff, is_forced
    )
    values (${tenantId}, ${log}, ${through}, ${anchor.digest}, ${entries}, ${cutoff}, ${isForced})`;
  return entries;
}
