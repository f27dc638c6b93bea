import { withAdmin } from "../db/admin.ts";
import { AppError } from "../errors.ts";
import { exportTenant, type ExportContext } from "./archive-export.ts";
import {
  type ImportContext,
  type ImportedTenant,
  importTenant,
  openArchive,
} from "./archive-import.ts";
import type { ArchivedTableSummary } from "./archive-manifest.ts";
import { eraseTenant, scheduleErasure } from "./erasure.ts";
import { getTenant, setTenantStatus } from "./life-cycle.ts";
import { findTenant, type TenantRecord } from "./tenants.ts";

/** An installation that a tenant moves from or to. */
export interface Installation {
  /** Of the role that owns the tables. */
  readonly migrationUrl: string;
}

export type SourceInstallation = Installation & ExportContext;
export type TargetInstallation = Installation & ImportContext;

export interface RelocationOptions {
  /** A file that does not exist; the archive is left there. */
  readonly file: string;
  /** Where PASSWORD_PEPPER is another: everybody sets a new password. */
  readonly resetsPasswords?: boolean;
  /** How long to leave the processes of the source time to hear that nothing is to be written any more. */
  readonly settleMs?: number;
  /** Waited for before the step begins. */
  readonly onStep?: (step: string) => void | Promise<void>;
}

export interface Relocation {
  readonly source: TenantRecord;
  readonly target: ImportedTenant;
  /** Tables whose digests were compared on both sides. */
  readonly compared: number;
}

/** Every process hears of a change of the registry within a second: twice that. */
const SETTLE_MS = 2_000;

/** Large tables take their time to be read and written. */
const CONNECTION = {
  statementTimeoutMs: 3_600_000,
  idleInTransactionTimeoutMs: 3_600_000,
  lockTimeoutMs: 30_000,
  applicationName: "ouvira move",
} as const;

/** What a tenant without passwords has in another way. */
const PASSWORD_TABLES = new Set(["users", "password_history"]);

/**
 * Moves a tenant to another installation: it is read-only from now on, is archived, restored there with its
 * domains, compared table by table on both sides, and begins to work there. Here it stays, read-only: the way
 * back is to activate it here and delete it there. When something fails it is here what it was before, and
 * there is nothing of it there.
 *
 * @throws AppError `tenant_not_found`; `conflict` when the target has one of its name or is not prepared, or
 *   the two are not the same
 */
export async function moveTenant(
  source: SourceInstallation,
  target: TargetInstallation,
  subdomain: string,
  options: RelocationOptions,
): Promise<Relocation> {
  const { settleMs = SETTLE_MS, onStep = () => undefined } = options;
  await requireRoom(target, subdomain);
  const before = await withAdmin(source.migrationUrl, (admin) => getTenant(admin.query, subdomain));
  if (before.status === "suspended") {
    throw new AppError("conflict", `"${before.subdomain}" is suspended: activate it first.`);
  }
  await onStep("read-only here");
  await setStatus(source, subdomain, "read_only");
  try {
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    await onStep("archived here");
    const tables = await digestsOf(source, source, subdomain, options.file);
    await onStep("restored there");
    const imported = await restore(source, target, options);
    try {
      await onStep("compared");
      const compared = await compare(source, target, imported, tables, options);
      await onStep("active there");
      await setStatus(target, imported.subdomain, "active");
      const after = await withAdmin(source.migrationUrl, (admin) =>
        getTenant(admin.query, subdomain),
      );
      return { source: after, target: { ...imported, status: "active" }, compared };
    } catch (error) {
      await withAdmin(target.migrationUrl, async (admin) => {
        await scheduleErasure(admin.query, imported.subdomain, 0);
        await eraseTenant(admin, imported.subdomain);
      });
      throw error;
    }
  } catch (error) {
    await setStatus(source, subdomain, before.status);
    throw error;
  }
}

/** Whether the target can take it, asked before anything is changed. */
async function requireRoom(
  { migrationUrl, apiRole }: TargetInstallation,
  subdomain: string,
): Promise<void> {
  await withAdmin(migrationUrl, async (admin) => {
    const [state] = await admin.query<{ has_registry: boolean; has_role: boolean }[]>`
      select to_regclass('public.erased_tenants') is not null as has_registry,
             exists (select 1 from pg_roles where rolname = ${apiRole}) as has_role`;
    if (!state?.has_registry || !state.has_role) {
      throw new AppError(
        "conflict",
        "The target is not prepared: run npm run migrate there first.",
      );
    }
    if (await findTenant(admin.query, subdomain)) {
      throw new AppError("conflict", `The target has a tenant "${subdomain}" already.`);
    }
  });
}

async function setStatus(
  { migrationUrl }: Installation,
  subdomain: string,
  status: TenantRecord["status"],
): Promise<void> {
  await withAdmin(migrationUrl, (admin) => setTenantStatus(admin.query, subdomain, status));
}

/** Archives a tenant that nobody writes to; gives the digests of its tables. */
async function digestsOf(
  { migrationUrl }: Installation,
  context: ExportContext,
  subdomain: string,
  file: string,
): Promise<readonly ArchivedTableSummary[]> {
  const { tables } = await withAdmin(
    migrationUrl,
    (admin) => exportTenant(admin, context, subdomain, file, { isExclusive: true }),
    CONNECTION,
  );
  return tables;
}

async function restore(
  { secrets }: SourceInstallation,
  target: TargetInstallation,
  { file, resetsPasswords = false }: RelocationOptions,
): Promise<ImportedTenant> {
  const archive = await openArchive(file, {
    ...target.secrets,
    archiveKey: secrets.archiveKey ?? secrets.encryptionKey,
  });
  try {
    return await withAdmin(
      target.migrationUrl,
      (admin) =>
        importTenant(admin, target, archive, {
          status: "read_only",
          withDomains: true,
          resetsPasswords,
        }),
      CONNECTION,
    );
  } finally {
    archive.close();
  }
}

/**
 * Archives both sides once more. A version of the schema that is newer there has other tables: those are
 * compared that both have with the same columns.
 */
async function compare(
  source: SourceInstallation,
  target: TargetInstallation,
  { subdomain }: ImportedTenant,
  archived: readonly ArchivedTableSummary[],
  { file, resetsPasswords = false }: RelocationOptions,
): Promise<number> {
  const here = await digestsOf(source, source, subdomain, `${file}.here`);
  if (JSON.stringify(here) !== JSON.stringify(archived)) {
    throw new AppError("conflict", "Something was written to the tenant while it was moved.");
  }
  const there = await digestsOf(target, target, subdomain, `${file}.there`);
  let compared = 0;
  for (const table of archived) {
    if (resetsPasswords && PASSWORD_TABLES.has(table.name)) continue;
    const other = there.find(({ name }) => name === table.name);
    if (JSON.stringify(other?.columns) !== JSON.stringify(table.columns)) continue;
    if (other?.rows !== table.rows || other.sha256 !== table.sha256) {
      throw new AppError("conflict", `The table ${table.name} is not the same on both sides.`);
    }
    compared += 1;
  }
  return compared;
}
