import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import { denied, holdsAll, isVisibleTo, requireAccess } from "./access.ts";
import { findRole, holdRole } from "./roles.ts";
import type { NewRolePermission, RolePermission } from "./schemas.ts";

const FIELDS = sql`
  rp.id, rp.role, rp.permission, p.code as permission_code, rp.granted,
  rp.created_at, rp.updated_at, rp.deleted_at, rp.is_deleted`;

/** What the roles that the caller sees allow and deny, by role and code. */
export async function listRolePermissions(
  tenant: TenantConnection,
  userId: number,
  role: number | undefined,
  { limit, offset }: Range,
): Promise<Page<RolePermission>> {
  const roleId = role ?? null;
  const from = sql`
    from role_permissions rp
    join permissions p on p.id = rp.permission
    join roles r on r.id = rp.role and r.deleted_at is null
    join companies c on c.id = r.company and c.deleted_at is null
    where rp.deleted_at is null
      and ${isVisibleTo(userId, sql`c.id`)}
      and (${roleId}::bigint is null or rp.role = ${roleId}::bigint)`;
  return readPage<RolePermission>(
    tenant,
    sql`
      select ${FIELDS} ${from}
       order by rp.role, p.code
       limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    false,
  );
}

/** @throws AppError `not_found` also where the caller does not see the role's company */
export async function getRolePermission(
  run: RunSql,
  actor: Actor,
  id: number,
): Promise<RolePermission> {
  const row = await findRolePermission(run, id);
  const { company } = await findRole(run, row.role);
  if (company !== null) await requireAccess(run, actor, company, "member", noSuchRow);
  return row;
}

/**
 * Lets a role allow something, or deny it. Nobody decides on what they do not hold themselves. The
 * unique index `role_permissions_one` arbitrates.
 *
 * @throws AppError `not_found` for a role the caller does not see, `validation_error` for a permission
 *   that does not exist, `permission_denied`, `conflict` for a system role or a repeated permission
 */
export async function createRolePermission(
  tx: TenantSql,
  actor: Actor,
  { role: roleId, permission, granted }: NewRolePermission,
): Promise<RolePermission> {
  const { company, access } = await holdRole(tx, actor, roleId);
  const [known] = await tx<{ code: string }[]>`
    select code from permissions where id = ${permission} and deleted_at is null for share`;
  if (!known) {
    throw new AppError("validation_error", "The request body is invalid.", {
      errors: { permission: ["There is no such permission."] },
    });
  }
  if (!holdsAll(access, [known.code])) throw beyond();
  const [row] = await unlessRepeated(
    tx<{ id: number }[]>`
      insert into role_permissions (role, permission, granted)
      values (${roleId}, ${permission}, ${granted})
      returning id`,
  );
  if (!row) throw new Error("The role's permission was not created");
  const after = await findRolePermission(tx, row.id);
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "RolePermission",
    entityId: row.id,
    companyId: company,
    after,
  });
  return after;
}

/**
 * Takes what a role says of a permission. Taking a denial gives: nobody decides on what they do not
 * hold.
 *
 * @throws AppError `not_found`, `permission_denied`
 */
export async function deleteRolePermission(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { role } = await findRolePermission(tx, id);
  const { company, access } = await holdRole(tx, actor, role, noSuchRow);
  const before = await findRolePermission(tx, id);
  if (!holdsAll(access, [before.permission_code])) throw beyond();
  await tx`update role_permissions set deleted_at = now(), updated_at = now() where id = ${id}`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "RolePermission",
    entityId: id,
    companyId: company,
    before,
  });
}

async function findRolePermission(run: RunSql, id: number): Promise<RolePermission> {
  const [row] = await run<RolePermission[]>`
    select ${FIELDS}
      from role_permissions rp
      join permissions p on p.id = rp.permission
     where rp.id = ${id} and rp.deleted_at is null`;
  if (!row) throw noSuchRow();
  return row;
}

function noSuchRow(): AppError {
  return new AppError("not_found", "There is no such permission of a role.");
}

function beyond(): AppError {
  return denied("You do not hold this permission yourself.");
}

async function unlessRepeated<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "role_permissions_one") throw error;
    throw new AppError("conflict", "The role says something of this permission already.", {
      cause: error,
    });
  }
}
