import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { lockCompany } from "../company/companies.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage, searchPattern } from "../pages.ts";
import { denied, isVisibleTo, requireAccess } from "./access.ts";
import { covers, weightOfRole } from "./delegation.ts";
import type { NewRole, Role, RoleChange } from "./schemas.ts";

const FIELDS = sql`
  r.id, r.role, r."desc", r.company, r.is_system_role,
  r.created_at, r.updated_at, r.deleted_at, r.is_deleted`;

/** The system roles and those of the companies that the caller sees; system roles first, by name. */
export async function listRoles(
  tenant: TenantConnection,
  userId: number,
  { search, company }: { search: string | undefined; company: number | undefined },
  { limit, offset }: Range,
): Promise<Page<Role>> {
  const pattern = searchPattern(search);
  const companyId = company ?? null;
  const from = sql`
    from roles r
    left join companies c on c.id = r.company
    where r.deleted_at is null
      and (r.company is null or (c.deleted_at is null and ${isVisibleTo(userId, sql`c.id`)}))
      and (${pattern}::text is null or r.role ilike ${pattern})
      and (${companyId}::bigint is null or r.company is null or r.company = ${companyId}::bigint)`;
  return readPage<Role>(
    tenant,
    sql`
      select ${FIELDS} ${from}
       order by r.company nulls first, lower(r.role), r.id
       limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    search === undefined && offset === 0,
  );
}

/** @throws AppError `not_found` also for a role of a company that the caller does not see */
export async function getRole(run: RunSql, actor: Actor, id: number): Promise<Role> {
  const role = await findRole(run, id);
  if (role.company !== null) {
    await requireAccess(run, actor, role.company, "member", noSuchRole);
  }
  return role;
}

/**
 * Makes a role of a company, which allows nothing yet. The unique index `roles_one_name` arbitrates.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied`, `conflict`
 */
export async function createRole(
  tx: TenantSql,
  actor: Actor,
  { role: name, desc, company }: NewRole,
): Promise<Role> {
  await lockCompany(tx, company);
  await requireAccess(tx, actor, company, "roles.manage");
  await requireFreeName(tx, name);
  const [role] = await unlessNameTaken(
    tx<Role[]>`
      insert into roles as r (role, "desc", company)
      values (${name}, ${desc}, ${company})
      returning ${FIELDS}`,
  );
  if (!role) throw new Error("The role was not created");
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "Role",
    entityId: role.id,
    companyId: company,
    after: role,
  });
  return role;
}

/**
 * Renames a role or describes it anew.
 *
 * @throws AppError `not_found`, `permission_denied`, `conflict` for a system role, a taken name, or
 *   another company than its own
 */
export async function changeRole(
  tx: TenantSql,
  actor: Actor,
  id: number,
  change: RoleChange,
): Promise<Role> {
  const { role: before } = await holdRole(tx, actor, id);
  if (change.company !== undefined && change.company !== before.company) {
    throw new AppError("conflict", "A role stays in its company.");
  }
  if (change.role !== undefined) await requireFreeName(tx, change.role);
  const [after] = await unlessNameTaken(
    tx<Role[]>`
      update roles r set
        role = ${change.role ?? before.role}, "desc" = ${change.desc ?? before.desc},
        updated_at = now()
      where r.id = ${id}
      returning ${FIELDS}`,
  );
  if (!after) throw new Error("The role was not changed");
  recordActivity(tx, actor, {
    action: "UPDATE",
    entity: "Role",
    entityId: id,
    companyId: before.company,
    before,
    after,
  });
  return after;
}

/**
 * Deletes a role that nobody has and nobody is invited to.
 *
 * @throws AppError `not_found`, `permission_denied` also when the role allows or denies what the caller
 *   does not hold, `conflict` for a system role or one in use
 */
export async function deleteRole(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { role: before, access } = await holdRole(tx, actor, id);
  const weight = await weightOfRole(tx, id);
  if (!covers(access, weight, [...weight.granted, ...weight.denied])) {
    throw denied("This role says more than you hold.");
  }
  const [use] = await tx<{ is_used: boolean }[]>`
    select
      exists (
        select 1
          from user_company_roles ur
          join user_companies m on m.id = ur.user_company and m.deleted_at is null
         where ur.role = ${id} and ur.deleted_at is null)
      or exists (
        select 1 from invitations
         where role = ${id} and status = 'pending' and expires_at > now()) as is_used`;
  if (use?.is_used) {
    throw new AppError("conflict", "Members have this role, or are invited to it.");
  }
  await tx`update roles set deleted_at = now(), updated_at = now() where id = ${id}`;
  await tx`
    update role_permissions set deleted_at = now(), updated_at = now()
     where role = ${id} and deleted_at is null`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "Role",
    entityId: id,
    companyId: before.company,
    before,
  });
}

/**
 * A company's own role, its company held for the transaction and the caller allowed to manage roles
 * there.
 *
 * @param unseen what is thrown when the caller does not see the company
 * @throws AppError `not_found`, `permission_denied`, `conflict` for a system role
 */
export async function holdRole(
  tx: TenantSql,
  actor: Actor,
  id: number,
  unseen: () => AppError = noSuchRole,
) {
  const { company } = await findRole(tx, id);
  if (company === null) throw new AppError("conflict", "A system role cannot be changed.");
  await lockCompany(tx, company);
  const access = await requireAccess(tx, actor, company, "roles.manage", unseen);
  return { role: await findRole(tx, id), company, access };
}

/** @throws AppError `not_found` */
export async function findRole(run: RunSql, id: number): Promise<Role> {
  const [role] = await run<Role[]>`
    select ${FIELDS} from roles r where r.id = ${id} and r.deleted_at is null`;
  if (!role) throw noSuchRole();
  return role;
}

export function noSuchRole(): AppError {
  return new AppError("not_found", "There is no such role.");
}

/** A role of a company that is called as a system role is would be taken for it. */
async function requireFreeName(tx: TenantSql, name: string): Promise<void> {
  const taken = await tx`
    select 1 from roles where is_system_role and lower(role) = lower(${name}::text)`;
  if (taken.length > 0) throw new AppError("conflict", "A system role has this name.");
}

async function unlessNameTaken<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "roles_one_name") throw error;
    throw new AppError("conflict", "The company has a role of this name.", { cause: error });
  }
}
