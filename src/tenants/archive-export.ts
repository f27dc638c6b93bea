import { createWriteStream } from "node:fs";
import { constants, copyFile, link, rm, unlink } from "node:fs/promises";
import { finished, pipeline } from "node:stream/promises";
import yazl from "yazl";
import { type Log, LOGS, findHead } from "../audit/seals.ts";
import { verifyLog } from "../audit/log-verification.ts";
import { type AdminConnection, identifier } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { type ArchiveKey, type ArchiveSecrets, pepperId, writingKey } from "./archive-keys.ts";
import {
  type ArchivedTableSummary,
  type Manifest,
  MANIFEST_ENTRY,
  MANIFEST_HEAD,
  writeManifest,
} from "./archive-manifest.ts";
import { digesting, resealing, RowDigest, SEALED_COLUMNS } from "./archive-rows.ts";
import { type ArchivedTable, listArchivedTables, listSequences } from "./archive-tables.ts";

/** What an export needs of the installation. */
export interface ExportContext {
  /** Opens what is sealed in the tenant's schema. */
  readonly keys: Keys;
  readonly secrets: ArchiveSecrets;
}

export interface ExportOptions {
  /** Waits for writes that are under way, and keeps others waiting until all is read. */
  readonly isExclusive?: boolean;
  readonly onTable?: (table: ArchivedTableSummary, done: number, total: number) => void;
}

interface SourceTenant {
  id: number;
  name: string;
  subdomain: string;
  log_retention_days: number | null;
  paid_until: Date | null;
  on_trial: boolean;
  rate_limits: Record<string, string>;
  version: string;
  state: string;
}

/**
 * Writes a tenant into one archive: a ZIP file with each table as COPY writes it and a signed manifest with
 * their digests. All of it is as at one moment, whatever is written meanwhile. TOTP secrets are encrypted
 * with ARCHIVE_KEY; the rest is as readable as the database: the file is made for its owner alone (0600).
 *
 * @param admin with a `statement_timeout` that the largest table has time in
 * @param file must not exist; it is there when the archive is whole, never before
 * @throws AppError `tenant_not_found`, `conflict` when the file exists or a migration is under way
 */
export async function exportTenant(
  admin: AdminConnection,
  { keys, secrets }: ExportContext,
  subdomain: string,
  file: string,
  { isExclusive = false, onTable }: ExportOptions = {},
): Promise<Manifest> {
  const partial = partialOf(file);
  const key = writingKey(secrets);
  const zip = new yazl.ZipFile();
  // `wx`: a file of that name was not made by this run.
  const written = pipeline(
    zip.outputStream,
    createWriteStream(partial, { flags: "wx", mode: 0o600 }),
  );
  // Waited for below; until then its failure is that of what is being added.
  written.catch(() => undefined);
  try {
    const locks = isExclusive ? await findLocks(admin, subdomain) : "";
    const manifest = await admin.transaction(async () => {
      const tenant = await findSource(admin, subdomain);
      const schema = tenantSchema(tenant.id);
      await admin.execute(`set local search_path to ${identifier(schema)}`);
      const logs = [];
      for (const log of LOGS) logs.push(await logState(admin, tenant.id, log));
      const tables = await listArchivedTables(admin.query, schema);
      const summaries: ArchivedTableSummary[] = [];
      for (const table of tables) {
        const summary = await addTable(admin, zip, written, table, { tenant, keys, key });
        summaries.push(summary);
        onTable?.(summary, summaries.length, tables.length);
      }
      return {
        ...MANIFEST_HEAD,
        exported_at: new Date().toISOString(),
        key_id: key.id,
        pepper_id: pepperId(secrets),
        version: tenant.version,
        tenant: {
          id: tenant.id,
          name: tenant.name,
          subdomain: tenant.subdomain,
          log_retention_days: tenant.log_retention_days,
          paid_until: tenant.paid_until?.toISOString() ?? null,
          on_trial: tenant.on_trial,
          rate_limits: tenant.rate_limits,
          domains: await listVerifiedDomains(admin, tenant.id),
        },
        tables: summaries,
        sequences: await listSequences(admin.query, schema),
        logs,
      };
    }, `begin isolation level repeatable read read only${locks}`);
    zip.addBuffer(writeManifest(manifest, key), MANIFEST_ENTRY);
    zip.end();
    await written;
    await publish(partial, file);
    return manifest;
  } catch (error) {
    throw unwritten(error, file);
  } finally {
    await rm(partial, { force: true });
  }
}

/**
 * What locks a tenant's tables against writing, as the first of a transaction: what that sees is decided by the
 * first query after it. https://www.postgresql.org/docs/18/sql-lock.html
 */
async function findLocks(admin: AdminConnection, subdomain: string): Promise<string> {
  const { id } = await findSource(admin, subdomain);
  const schema = tenantSchema(id);
  const tables = await listArchivedTables(admin.query, schema);
  const names = tables.map(({ name }) => `${identifier(schema)}.${identifier(name)}`);
  return `; lock table ${names.join(", ")} in share mode`;
}

async function findSource(admin: AdminConnection, subdomain: string): Promise<SourceTenant> {
  const [tenant] = await admin.query<SourceTenant[]>`
    select t.id, t.name, t.subdomain, t.log_retention_days, t.paid_until, t.on_trial, t.rate_limits,
           m.version, m.state
      from public.tenants t
      join public.tenant_migrations m on m.tenant_id = t.id
     where t.subdomain = ${subdomain.toLowerCase()}`;
  if (!tenant) throw new AppError("tenant_not_found", `There is no tenant "${subdomain}".`);
  if (tenant.state === "running") {
    throw new AppError("conflict", "The tenant is being migrated. Try again when that is over.");
  }
  return tenant;
}

async function listVerifiedDomains(
  admin: AdminConnection,
  tenantId: number,
): Promise<Manifest["tenant"]["domains"]> {
  return admin.query<Manifest["tenant"]["domains"]>`
    select domain, is_primary
      from public.tenant_domains
     where tenant_id = ${tenantId} and verified_at is not null
     order by domain`;
}

async function logState(
  admin: AdminConnection,
  tenantId: number,
  log: Log,
): Promise<Manifest["logs"][number]> {
  const report = await verifyLog(admin.query, admin.query, tenantId, log);
  const head = await findHead(admin.query, log);
  return {
    log,
    seals: head?.number ?? 0,
    digest: head?.digest.toString("hex") ?? null,
    is_intact: report.findings.length === 0,
  };
}

/** Puts one table into the archive; resolves when all its rows are on their way to the file. */
async function addTable(
  admin: AdminConnection,
  zip: yazl.ZipFile,
  written: Promise<void>,
  table: ArchivedTable,
  { tenant, keys, key }: { tenant: SourceTenant; keys: Keys; key: ArchiveKey },
): Promise<ArchivedTableSummary> {
  const columns = table.columns.map(identifier).join(", ");
  const order = table.key.map(identifier).join(", ");
  const rows = await admin.copyOut(
    `copy (select ${columns} from ${identifier(table.name)} order by ${order}) to stdout`,
  );
  const digest = new RowDigest();
  const sealed = SEALED_COLUMNS[table.name];
  const through = sealed
    ? resealing(table.columns, sealed, digest, (bytes, owner) => {
        const context = sealed.context(tenant.id, owner);
        if (!keys.canOpen(bytes)) {
          throw new AppError(
            "conflict",
            `A secret in ${table.name} was sealed with a key that is neither ENCRYPTION_KEY nor ENCRYPTION_KEY_PREVIOUS.`,
          );
        }
        const clear = keys.open(bytes, context);
        return { clear, sealed: key.seal(clear, context) };
      })
    : digesting(digest);
  try {
    const passed = Promise.all([pipeline(rows, through), finished(through)]);
    zip.addReadStream(through, tableEntry(table.name));
    // A full disk ends the file, and with it the wait for rows that nobody takes any more.
    await Promise.race([passed, written.then(() => passed)]);
  } catch (error) {
    // Rows are still on their way: nothing else can be said on this connection.
    admin.abandon(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
  return { name: table.name, columns: [...table.columns], rows: digest.rows, sha256: digest.hex() };
}

/** Where an archive is written until it is whole. */
export function partialOf(file: string): string {
  return `${file}.${process.pid}.partial`;
}

/** Where a table's rows stand in the archive. */
export function tableEntry(table: string): string {
  return `tables/${table}.copy`;
}

/** Gives a file its name, unless that is taken: `link` fails then, `rename` would replace. */
async function publish(partial: string, file: string): Promise<void> {
  try {
    await link(partial, file).catch(async (error: unknown) => {
      // Some file systems have no second names.
      if (!NO_LINKS.has(codeOf(error))) throw error;
      await copyFile(partial, file, constants.COPYFILE_EXCL);
    });
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    throw new AppError("conflict", `${file} exists already.`, { cause: error });
  }
  await unlink(partial);
}

const NO_LINKS: ReadonlySet<string> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** What the file system says becomes a sentence; anything else stays what it is. */
function unwritten(error: unknown, file: string): unknown {
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  return new AppError("conflict", `The archive cannot be written to ${file}: ${error.message}.`, {
    cause: error,
  });
}
