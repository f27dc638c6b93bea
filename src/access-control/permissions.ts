import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage, searchPattern } from "../pages.ts";
import { requireTenantAdmin } from "./access.ts";
import type { NewPermission, Permission, PermissionChange } from "./schemas.ts";

const FIELDS = sql`
  id, code, module, description, is_built_in, created_at, updated_at, deleted_at, is_deleted`;

/** The tenant's catalogue, by code. */
export async function listPermissions(
  tenant: TenantConnection,
  { search, module }: { search: string | undefined; module: string | undefined },
  { limit, offset }: Range,
): Promise<Page<Permission>> {
  const pattern = searchPattern(search);
  const from = sql`
    from permissions
    where deleted_at is null
      and (${pattern}::text is null or code ilike ${pattern} or description ilike ${pattern})
      and (${module ?? null}::text is null or module = ${module ?? null})`;
  return readPage<Permission>(
    tenant,
    sql`select ${FIELDS} ${from} order by code limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    search === undefined && offset === 0,
  );
}

/** @throws AppError `not_found` */
export async function getPermission(run: RunSql, id: number): Promise<Permission> {
  const [permission] = await run<Permission[]>`
    select ${FIELDS} from permissions where id = ${id} and deleted_at is null`;
  if (!permission) throw new AppError("not_found", "There is no such permission.");
  return permission;
}

/**
 * Adds a permission that applications ask for. The unique index `permissions_one_code` arbitrates.
 *
 * @throws AppError `permission_denied` unless the caller is an admin of the tenant, `conflict`
 */
export async function createPermission(
  tx: TenantSql,
  actor: Actor,
  { code, module, description }: NewPermission,
): Promise<Permission> {
  await requireTenantAdmin(tx, actor);
  const [permission] = await unlessCodeTaken(
    tx<Permission[]>`
      insert into permissions (code, module, description)
      values (${code}, ${module}, ${description})
      returning ${FIELDS}`,
  );
  if (!permission) throw new Error("The permission was not created");
  await record(tx, actor, "CREATE", permission.id, undefined, permission);
  return permission;
}

/** @throws AppError `permission_denied`, `not_found`, `conflict` for a built-in one or a taken code */
export async function changePermission(
  tx: TenantSql,
  actor: Actor,
  id: number,
  change: PermissionChange,
): Promise<Permission> {
  const before = await holdOwnPermission(tx, actor, id);
  const [after] = await unlessCodeTaken(
    tx<Permission[]>`
      update permissions set
        code = ${change.code ?? before.code}, module = ${change.module ?? before.module},
        description = ${change.description ?? before.description}, updated_at = now()
      where id = ${id}
      returning ${FIELDS}`,
  );
  if (!after) throw new Error("The permission was not changed");
  await record(tx, actor, "UPDATE", id, before, after);
  return after;
}

/**
 * Deletes a permission, and what roles say of it: one of the same code made later is another one.
 *
 * @throws AppError `permission_denied`, `not_found`, `conflict` for a built-in one
 */
export async function deletePermission(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const before = await holdOwnPermission(tx, actor, id);
  await tx`update permissions set deleted_at = now(), updated_at = now() where id = ${id}`;
  await tx`
    update role_permissions set deleted_at = now(), updated_at = now()
     where permission = ${id} and deleted_at is null`;
  await record(tx, actor, "DELETE", id, before, undefined);
}

/** A permission that the tenant added, held for the transaction. */
async function holdOwnPermission(tx: TenantSql, actor: Actor, id: number): Promise<Permission> {
  await requireTenantAdmin(tx, actor);
  await tx`select 1 from permissions where id = ${id} for update`;
  const permission = await getPermission(tx, id);
  if (permission.is_built_in) {
    throw new AppError("conflict", "A built-in permission cannot be changed or deleted.");
  }
  return permission;
}

async function record(
  tx: TenantSql,
  actor: Actor,
  action: "CREATE" | "UPDATE" | "DELETE",
  entityId: number,
  before: Permission | undefined,
  after: Permission | undefined,
): Promise<void> {
  recordActivity(tx, actor, {
    action,
    entity: "Permission",
    entityId,
    companyId: null,
    ...(before && { before }),
    ...(after && { after }),
  });
}

async function unlessCodeTaken<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "permissions_one_code") throw error;
    throw new AppError("conflict", "There is a permission of this code.", { cause: error });
  }
}
