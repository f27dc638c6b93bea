import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { builtInPermissionRows } from "../access-control/catalogue.ts";
import { AppError } from "../errors.ts";
import { TENANT_MIGRATIONS_DIR } from "../paths.ts";

/**
 * One file of `tenant-migrations/`, in node-pg-migrate's format: its name is the version, the parts
 * stand under `-- Up Migration` and `-- Down Migration`. `{{tenant_role}}` stands for the role that
 * serves the tenant's requests: what it may do is written beside each table.
 * `{{built_in_permissions}}` stands for the rows of the catalogue that the code declares.
 */
export interface TenantMigration {
  readonly name: string;
  readonly up: string;
  readonly down: string;
}

const FILE_NAME = /^\d{13}_[a-z0-9-]+\.sql$/;
const UP = /^-- Up Migration$/m;
const DOWN = /^-- Down Migration$/m;

/**
 * Reads every tenant migration, oldest first.
 *
 * @throws Error naming the file whose name or parts are not as they should be
 */
export async function loadTenantMigrations(
  folder: string = TENANT_MIGRATIONS_DIR,
): Promise<readonly TenantMigration[]> {
  const names = (await readdir(folder)).filter((name) => !name.startsWith(".")).sort();
  return Promise.all(
    names.map(async (name) => {
      const file = path.join(folder, name);
      if (!FILE_NAME.test(name)) {
        throw new Error(`${file}: a migration is named <13 digits>_<words-with-dashes>.sql`);
      }
      const text = await readFile(file, "utf8");
      const [before, afterUp] = text.split(UP);
      const [up, down] = (afterUp ?? "").split(DOWN);
      if (before?.trim() !== "" || up === undefined || down === undefined) {
        throw new Error(`${file}: needs "-- Up Migration", then "-- Down Migration"`);
      }
      return { name: name.slice(0, -".sql".length), up, down };
    }),
  );
}

/** The SQL of a migration for one tenant. */
export function fillPlaceholders(text: string, tenantRole: string): string {
  return text
    .replaceAll("{{tenant_role}}", tenantRole)
    .replaceAll("{{built_in_permissions}}", () => builtInPermissionRows());
}

/** The version of a schema with every migration applied. */
export function newestVersion(migrations: readonly TenantMigration[]): string {
  return migrations.at(-1)?.name ?? "";
}

/** The table in each schema that says what has been applied there; node-pg-migrate's own. */
export const APPLIED_TABLE = `
create table pgmigrations (
  id     serial       primary key,
  name   varchar(255) not null,
  run_on timestamp    not null
);`;

/** What brings a schema from one version to another: some migrations forth, or some back. */
export interface MigrationSteps {
  readonly direction: "up" | "down";
  /** In the order in which they run. */
  readonly migrations: readonly TenantMigration[];
}

/**
 * The migrations between what was applied and a version.
 *
 * @param target a migration's name
 * @throws Error when what was applied is not where the list of migrations begins, or there is no such version
 */
export function stepsBetween(
  migrations: readonly TenantMigration[],
  applied: readonly string[],
  target: string,
): MigrationSteps {
  applied.forEach((name, index) => {
    if (migrations[index]?.name !== name) {
      throw new Error(`${name} was applied here but is not migration ${index + 1} of this release`);
    }
  });
  const length = migrations.findIndex(({ name }) => name === target) + 1;
  if (length === 0) throw new Error(`There is no migration ${target}`);
  return applied.length > length
    ? { direction: "down", migrations: migrations.slice(length, applied.length).toReversed() }
    : { direction: "up", migrations: migrations.slice(applied.length, length) };
}

/**
 * The statements of some steps, to be run in one transaction whose `search_path` is the schema. Empty when
 * there is nothing to do.
 */
export function stepsText({ direction, migrations }: MigrationSteps, tenantRole: string): string {
  return migrations
    .map((migration) =>
      direction === "up"
        ? `${fillPlaceholders(migration.up, tenantRole)};
        insert into pgmigrations (name, run_on) values ('${migration.name}', now());`
        : `${fillPlaceholders(migration.down, tenantRole)};
        delete from pgmigrations where name = '${migration.name}';`,
    )
    .join("\n");
}

/**
 * The statements that bring a schema from `applied` up to date.
 *
 * @throws Error when what was applied is not where the list of migrations begins
 */
export function upgradeText(
  migrations: readonly TenantMigration[],
  applied: readonly string[],
  tenantRole: string,
): string {
  if (migrations.length === 0) return "";
  return stepsText(stepsBetween(migrations, applied, newestVersion(migrations)), tenantRole);
}

/**
 * The migration that an operator names: its whole name, or the digits it begins with.
 *
 * @throws AppError `not_found`
 */
export function findVersion(migrations: readonly TenantMigration[], text: string): string {
  const found = migrations.find(({ name }) => name === text || name.startsWith(`${text}_`));
  if (found) return found.name;
  throw new AppError("not_found", `There is no tenant migration "${text}" in this release.`);
}
