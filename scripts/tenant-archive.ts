/** `npm run tenant -- export | import | clone`: a tenant as one file, and back. */
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Config } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { AppError } from "../src/errors.ts";
import { Keys } from "../src/keys.ts";
import { exportTenant, partialOf } from "../src/tenants/archive-export.ts";
import {
  type ImportedTenant,
  type ImportOptions,
  importTenant,
  openArchive,
} from "../src/tenants/archive-import.ts";
import type { ArchiveSecrets } from "../src/tenants/archive-keys.ts";
import type { Manifest } from "../src/tenants/archive-manifest.ts";
import { COMMON, parse, readSettings, showHelp, STRING, table, withDatabase } from "./command.ts";
import { Progress } from "./progress.ts";

const EXPORT_HELP = `
Writes a tenant into one file: a ZIP archive of its tables, as they are at one moment, with their digests. Logins,
codes on their way and queued messages are not in it. Secrets of authenticator apps are encrypted with
ARCHIVE_KEY; everything else in it can be read by whoever has the file.

  npm run tenant -- export acme                       writes acme-2026-11-24.zip
  npm run tenant -- export acme --out /backup/acme.zip [--json]

A file that exists is not overwritten.
`;

const IMPORT_HELP = `
Makes a tenant of an archive, with an id of its own: all of it, or nothing.

  npm run tenant -- import acme-2026-11-24.zip
  npm run tenant -- import acme-2026-11-24.zip --subdomain acme-restored --name "Acme (restored)"

  --subdomain        default: the one it had
  --name             default: the one it had
  --read-only        it can be read, not changed, until npm run tenant -- activate
  --no-messages      no e-mail and no SMS of it is ever sent (npm run tenant -- messages changes that)
  --with-domains     takes its verified domains along; they may not belong to another tenant here
  --reset-passwords  where PASSWORD_PEPPER is another: everybody sets a new password

An archive that is damaged, of a newer release, or of another installation is refused. For one of another
installation set ARCHIVE_KEY to what it was made with there.
`;

const CLONE_HELP = `
Makes a copy of a tenant beside it, to try things out: same people, same passwords, no logins, and no e-mail or SMS
of it is ever sent (npm run tenant -- messages changes that).

  npm run tenant -- clone acme acme-staging [--name "Acme (staging)"] [--json]
`;

/** Tables of millions of rows take their time; nobody waits for these transactions but the operator. */
export const ARCHIVE_CONNECTION = {
  statementTimeoutMs: 3_600_000,
  idleInTransactionTimeoutMs: 3_600_000,
  applicationName: "ouvira archive",
} as const;

export async function exportToFile(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { ...COMMON, out: STRING });
  const [subdomain, ...more] = positionals;
  if (values.help || subdomain === undefined || more.length > 0) {
    return showHelp(EXPORT_HELP, values.help);
  }
  const config = readSettings();
  const day = new Date().toISOString().slice(0, 10);
  const file = path.resolve(values.out ?? `${subdomain.toLowerCase()}-${day}.zip`);
  return withDatabase(config, async (database) => {
    const progress = new Progress({ isQuiet: values.json });
    const manifest = await removedWhenStopped(partialOf(file), () =>
      exportWith(config, database, subdomain, file, progress),
    );
    const rows = manifest.tables.reduce((sum, one) => sum + one.rows, 0);
    for (const { log, is_intact: isIntact } of manifest.logs) {
      if (!isIntact)
        progress.say(`The ${log} log is not what was sealed: npm run tenant -- verify-audit`);
    }
    if (values.json) console.log(JSON.stringify({ file, manifest }));
    else console.log(`Wrote ${rows} rows of ${manifest.tables.length} tables to ${file}`);
  });
}

export async function importFromFile(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    ...COMMON,
    subdomain: STRING,
    name: STRING,
    "read-only": { type: "boolean", default: false },
    "no-messages": { type: "boolean", default: false },
    "with-domains": { type: "boolean", default: false },
    "reset-passwords": { type: "boolean", default: false },
  });
  const [file, ...more] = positionals;
  if (values.help || file === undefined || more.length > 0) {
    return showHelp(IMPORT_HELP, values.help);
  }
  const config = readSettings();
  return withDatabase(config, async (database) => {
    const progress = new Progress({ isQuiet: values.json });
    const imported = await importWith(config, database, file, progress, {
      ...(values.subdomain === undefined ? {} : { subdomain: values.subdomain }),
      ...(values.name === undefined ? {} : { name: nameOf(values.name) }),
      status: values["read-only"] ? "read_only" : "active",
      sendsMessages: !values["no-messages"],
      withDomains: values["with-domains"],
      resetsPasswords: values["reset-passwords"],
    });
    if (values.json) console.log(JSON.stringify(imported));
    else console.log(describe("Restored", imported));
  });
}

export async function clone(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { ...COMMON, name: STRING });
  const [subdomain, copy, ...more] = positionals;
  if (values.help || subdomain === undefined || copy === undefined || more.length > 0) {
    return showHelp(CLONE_HELP, values.help);
  }
  const config = readSettings();
  return withDatabase(config, async (database) => {
    const progress = new Progress({ isQuiet: values.json });
    const imported = await withTemporaryFile(async (file) => {
      const { tenant } = await exportWith(config, database, subdomain, file, progress);
      return importWith(config, database, file, progress, {
        subdomain: copy,
        name: nameOf(values.name ?? `${tenant.name} (copy)`.slice(0, NAME_LENGTH_MAX)),
        sendsMessages: false,
      });
    });
    if (values.json) console.log(JSON.stringify(imported));
    else console.log(`${describe("Copied", imported)}\nNo message of it is sent.`);
  });
}

/** Exports over a connection that has time, with a step of the progress for each table. */
export function exportWith(
  config: Config,
  { migrationUrl }: Pick<OpenDatabase, "migrationUrl">,
  subdomain: string,
  file: string,
  progress: Progress,
): Promise<Manifest> {
  const context = { keys: new Keys(config), secrets: secretsOf(config) };
  return withAdmin(
    migrationUrl,
    (admin) =>
      exportTenant(admin, context, subdomain, file, {
        onTable: ({ name, rows }, done, total) =>
          progress.step(done, total, `${name}: ${rows} rows read`),
      }),
    ARCHIVE_CONNECTION,
  ).finally(() => progress.end());
}

/** Imports over a connection that has time, with a step of the progress for each table. */
export async function importWith(
  config: Config,
  { url, migrationUrl }: Pick<OpenDatabase, "url" | "migrationUrl">,
  file: string,
  progress: Progress,
  options: ImportOptions,
): Promise<ImportedTenant> {
  const archive = await openArchive(file, secretsOf(config));
  try {
    const context = {
      migrations: await loadTenantMigrations(),
      apiRole: apiRoleOf(url).name,
      keys: new Keys(config),
      secrets: secretsOf(config),
    };
    return await withAdmin(
      migrationUrl,
      (admin) =>
        importTenant(admin, context, archive, {
          ...options,
          onTable: ({ name, rows }, done, total) =>
            progress.step(done, total, `${name}: ${rows} rows restored`),
        }),
      ARCHIVE_CONNECTION,
    );
  } finally {
    progress.end();
    archive.close();
  }
}

/** A file that nobody else can read and that is gone afterwards, whatever happens. */
export async function withTemporaryFile<T>(
  work: (file: string) => Promise<T>,
  onStop?: () => void,
): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), "ouvira-archive-"));
  try {
    return await removedWhenStopped(folder, () => work(path.join(folder, "tenant.zip")), onStop);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Exit code of a command that Ctrl-C ended, as shells have it: 128 and the signal's number. */
const EXIT_STOPPED = 130;

/**
 * Runs `work`; told to stop meanwhile, nothing of a person stays behind in a file. What was under way in the
 * database is undone by it when the connection ends.
 *
 * @param onStop instead of ending at once: for work that has to undo something itself
 */
async function removedWhenStopped<T>(
  file: string,
  work: () => Promise<T>,
  onStop: () => void = () => {
    rmSync(file, { recursive: true, force: true });
    process.exit(EXIT_STOPPED);
  },
): Promise<T> {
  process.once("SIGINT", onStop);
  process.once("SIGTERM", onStop);
  try {
    return await work();
  } finally {
    process.off("SIGINT", onStop);
    process.off("SIGTERM", onStop);
  }
}

function secretsOf(config: Config): ArchiveSecrets {
  const { archiveKey, encryptionKey, encryptionKeyPrevious, passwordPepper } = config;
  return { archiveKey, encryptionKey, encryptionKeyPrevious, passwordPepper };
}

/** Longest name of a tenant. */
const NAME_LENGTH_MAX = 200;

function nameOf(text: string): string {
  const name = text.trim();
  if (name !== "" && name.length <= NAME_LENGTH_MAX) return name;
  throw new AppError("validation_error", `A name has 1 to ${NAME_LENGTH_MAX} characters.`);
}

function describe(verb: string, { id, subdomain, schema, status, rows }: ImportedTenant): string {
  return `${verb} ${rows} rows.\n${table([
    ["subdomain", subdomain],
    ["id", String(id)],
    ["schema", schema],
    ["status", status],
  ])}`;
}
