import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import yauzl from "yauzl";
import { type AdminConnection, identifier } from "../db/admin.ts";
import { json } from "../db/sql.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import {
  newestVersion,
  stepsBetween,
  stepsText,
  type TenantMigration,
} from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { tableEntry } from "./archive-export.ts";
import { type ArchiveKey, type ArchiveSecrets, pepperId } from "./archive-keys.ts";
import {
  type ArchivedTableSummary,
  type Manifest,
  MANIFEST_ENTRY,
  readManifest,
  refusal,
} from "./archive-manifest.ts";
import { digesting, resealing, RowDigest, SEALED_COLUMNS } from "./archive-rows.ts";
import { listArchivedTables } from "./archive-tables.ts";
import { tellProcesses } from "./life-cycle.ts";
import { createSchema, withFreshId } from "./provisioning.ts";
import { parseSubdomain } from "./subdomains.ts";
import type { TenantStatus } from "./tenants.ts";

/** Where an archive is restored, and with which secrets. */
export interface ImportContext {
  readonly migrations: readonly TenantMigration[];
  /** The role that serves requests there. */
  readonly apiRole: string;
  /** Seals what belongs to the new tenant. */
  readonly keys: Keys;
  readonly secrets: ArchiveSecrets;
}

export interface ImportOptions {
  /** Default: the one it had. */
  readonly subdomain?: string;
  readonly name?: string;
  /** Default: active. */
  readonly status?: TenantStatus;
  /** False: nothing that is queued there is ever sent. Default: true. */
  readonly sendsMessages?: boolean;
  /** Takes its verified domains along. Default: no; they may still name the tenant it was made of. */
  readonly withDomains?: boolean;
  /** Where PASSWORD_PEPPER is another: no password is taken along, everybody sets a new one. */
  readonly resetsPasswords?: boolean;
  readonly onTable?: (table: ArchivedTableSummary, done: number, total: number) => void;
}

export interface ImportedTenant {
  readonly id: number;
  readonly subdomain: string;
  readonly schema: string;
  readonly version: string;
  readonly status: TenantStatus;
  readonly rows: number;
}

/** Largest manifest: some 100 bytes for each table and domain; more is not one. */
const MANIFEST_BYTES_MAX = 4 * 1_024 * 1_024;

/** An archive that was opened and whose manifest was believed. */
export interface OpenArchive {
  readonly manifest: Manifest;
  readonly key: ArchiveKey;
  /** The rows of a table. @throws AppError `conflict` when they are not there */
  read(table: string): Promise<Readable>;
  close(): void;
}

/**
 * Opens an archive and believes its manifest or refuses it; no row has been looked at yet.
 *
 * @throws AppError `not_found` without the file; `conflict` for what is no archive, damaged or foreign
 */
export async function openArchive(file: string, secrets: ArchiveSecrets): Promise<OpenArchive> {
  const zip = await openZip(file);
  try {
    const entries = new Map<string, yauzl.Entry>();
    for await (const entry of zip.eachEntry()) entries.set(entry.fileName, entry);
    const head = entries.get(MANIFEST_ENTRY);
    if (!head || head.uncompressedSize > MANIFEST_BYTES_MAX) {
      throw refusal("This is not an archive of a tenant.");
    }
    const { manifest, key } = readManifest(
      await buffer(await zip.openReadStreamPromise(head)),
      secrets,
    );
    return {
      manifest,
      key,
      async read(table) {
        const entry = entries.get(tableEntry(table));
        if (!entry) throw refusal(`The archive is damaged: the table ${table} is missing.`);
        try {
          return await zip.openReadStreamPromise(entry);
        } catch (error) {
          throw refusal(`The archive is damaged: the table ${table} cannot be read.`, error);
        }
      },
      close: () => zip.close(),
    };
  } catch (error) {
    zip.close();
    if (error instanceof AppError) throw error;
    throw refusal("The archive is damaged: it cannot be read.", error);
  }
}

async function openZip(file: string): Promise<yauzl.ZipFile> {
  try {
    return await yauzl.openPromise(file, { lazyEntries: true, autoClose: false });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") throw new AppError("not_found", `There is no file ${file}.`);
    throw refusal(`${file} is not an archive of a tenant, or not a whole one.`, error);
  }
}

/**
 * Makes a tenant of an archive, with an id of its own: all of it, or nothing. Every table is compared with its
 * digest before anything is committed. An archive of an older release is brought up to date. Secrets are
 * encrypted anew; logins, codes and queued messages are not in it. Its logs are sealed from here on.
 *
 * @param admin with a `statement_timeout` that the largest table has time in
 * @throws AppError `conflict` when the archive is damaged or of a newer release, was made with another
 *   PASSWORD_PEPPER, or the subdomain or a domain is taken; `validation_error` for a bad subdomain
 */
export async function importTenant(
  admin: AdminConnection,
  context: ImportContext,
  archive: OpenArchive,
  options: ImportOptions = {},
): Promise<ImportedTenant> {
  const { manifest } = archive;
  const subdomain = parseSubdomain(options.subdomain ?? manifest.tenant.subdomain);
  if (!context.migrations.some(({ name }) => name === manifest.version)) {
    throw refusal(
      `The archive was made by a newer release: it has ${manifest.version}, which this one does not know.`,
    );
  }
  if (manifest.pepper_id !== pepperId(context.secrets) && !options.resetsPasswords) {
    throw refusal(
      "The passwords in the archive were hashed with another PASSWORD_PEPPER. Use the same here, or let everybody set a new password (--reset-passwords).",
    );
  }
  return withFreshId(admin, () =>
    importInTransaction(admin, context, archive, { ...options, subdomain }),
  );
}

async function importInTransaction(
  admin: AdminConnection,
  context: ImportContext,
  archive: OpenArchive,
  options: ImportOptions & { readonly subdomain: string },
): Promise<ImportedTenant> {
  const startedAt = performance.now();
  const { manifest } = archive;
  const status = options.status ?? "active";
  const id = await insertTenant(admin, manifest, status, options);
  const { migrations } = context;
  const before = stepsBetween(migrations, [], manifest.version);
  const text = stepsText(before, tenantSchema(id));
  const schema = await createSchema(admin, id, context.apiRole, text);
  await restoreTables(admin, context, archive, id, options);
  if (options.resetsPasswords) await resetPasswords(admin);
  const applied = before.migrations.map(({ name }) => name);
  const version = newestVersion(migrations);
  const after = stepsText(stepsBetween(migrations, applied, version), schema);
  if (after !== "") await admin.execute(after);
  await admin.query`
    insert into public.tenant_migrations (tenant_id, version, state, attempts, duration_ms)
    values (${id}, ${version}, 'applied', 1, ${Math.round(performance.now() - startedAt)})`;
  await tellProcesses(admin.query, id);
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
  return { id, subdomain: options.subdomain, schema, version, status, rows };
}

async function insertTenant(
  admin: AdminConnection,
  manifest: Manifest,
  status: TenantStatus,
  { subdomain, name, sendsMessages = true, withDomains }: ImportOptions & { subdomain: string },
): Promise<number> {
  const { tenant, exported_at: exportedAt, logs, key_id: keyId } = manifest;
  const origin = {
    exported_at: exportedAt,
    key_id: keyId,
    tenant_id: tenant.id,
    subdomain: tenant.subdomain,
    manifest_sha256: createHash("sha256").update(JSON.stringify(manifest)).digest("hex"),
    logs,
  };
  const [row] = await admin.query<{ id: number }[]>`
    insert into public.tenants (
      name, subdomain, status, log_retention_days, paid_until, on_trial, rate_limits, sends_messages, origin
    )
    values (
      ${name ?? tenant.name}, ${subdomain}, ${status}, ${tenant.log_retention_days},
      ${tenant.paid_until}, ${tenant.on_trial}, ${json(tenant.rate_limits)}, ${sendsMessages},
      ${json(origin)}
    )
    on conflict (subdomain) do nothing
    returning id`;
  if (!row) throw new AppError("conflict", `The subdomain "${subdomain}" is taken.`);
  if (withDomains) {
    for (const { domain, is_primary: isPrimary } of tenant.domains) {
      await admin.query`
        insert into public.tenant_domains (tenant_id, domain, is_primary, verified_at)
        values (${row.id}, ${domain}, ${isPrimary}, now())`;
    }
  }
  return row.id;
}

async function restoreTables(
  admin: AdminConnection,
  context: ImportContext,
  archive: OpenArchive,
  tenantId: number,
  { onTable }: ImportOptions,
): Promise<void> {
  const { manifest } = archive;
  const tables = await listArchivedTables(admin.query, tenantSchema(tenantId));
  const described = (list: readonly { name: string; columns: readonly string[] }[]) =>
    JSON.stringify(list.map(({ name, columns }) => [name, columns]));
  if (described(tables) !== described(manifest.tables)) {
    throw refusal("The archive is damaged: its tables are not those of its version.");
  }
  // What the migrations themselves put in is in the archive as it became.
  await admin.execute(`truncate ${tables.map(({ name }) => identifier(name)).join(", ")} cascade`);
  let done = 0;
  for (const table of manifest.tables) {
    await restoreTable(admin, context, archive, tenantId, table);
    done += 1;
    onTable?.(table, done, manifest.tables.length);
  }
  for (const { name, last_value: value, is_called: isCalled } of manifest.sequences) {
    await admin.query`
      select setval(format('%I.%I', ${tenantSchema(tenantId)}::text, ${name}::text)::regclass, ${value}, ${isCalled})`;
  }
}

async function restoreTable(
  admin: AdminConnection,
  { keys }: ImportContext,
  archive: OpenArchive,
  tenantId: number,
  table: ArchivedTableSummary,
): Promise<void> {
  const digest = new RowDigest();
  const sealed = SEALED_COLUMNS[table.name];
  const through = sealed
    ? resealing(table.columns, sealed, digest, (bytes, owner) => {
        const clear = archive.key.open(bytes, sealed.context(archive.manifest.tenant.id, owner));
        return { clear, sealed: keys.seal(clear, sealed.context(tenantId, owner)) };
      })
    : digesting(digest);
  const columns = table.columns.map(identifier).join(", ");
  const into = await admin.copyIn(`copy ${identifier(table.name)} (${columns}) from stdin`);
  // Until the pipeline listens.
  into.once("error", () => undefined);
  try {
    await pipeline(await archive.read(table.name), through, into);
  } catch (error) {
    // The copy may still be waited for: nothing else can be said on this connection.
    admin.abandon(error instanceof Error ? error : new Error(String(error)));
    if (!isAboutRows(error)) throw error;
    throw refusal(`The archive is damaged: the rows of ${table.name} cannot be restored.`, error);
  }
  if (digest.rows !== table.rows || digest.hex() !== table.sha256) {
    throw refusal(`The archive is damaged: ${table.name} is not what its digest says.`);
  }
}

/**
 * Whether the rows are to blame, and not the server or the disk: a ZIP entry that does not inflate or has
 * another checksum, a secret that does not open, values that the table refuses (SQLSTATE classes 22 and 23).
 */
function isAboutRows(error: unknown): boolean {
  if (error instanceof postgres.PostgresError) return /^2[23]/.test(error.code);
  if (error instanceof AppError) return false;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code === "" || code.startsWith("Z_");
}

async function resetPasswords(admin: AdminConnection): Promise<void> {
  await admin.execute(`
    update users set password_hash = null where password_hash is not null;
    delete from password_history`);
}
