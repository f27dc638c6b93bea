import { type Actor, OPERATOR_USER_ID } from "../audit/actor.ts";
import { type RunSql, sql, type Statement } from "../db/sql.ts";
import { AppError } from "../errors.ts";
import type { PermissionCode } from "./catalogue.ts";

/** What one user may do in one company. */
export interface Access {
  /** Passes everywhere in the tenant. */
  readonly isTenantAdmin: boolean;
  readonly isOwner: boolean;
  readonly isAdmin: boolean;
  /**
   * What the user may do there: what the roles grant, less what one of them denies; for those who
   * pass, everything.
   */
  readonly codes: ReadonlySet<string>;
}

export interface AccessRow {
  is_tenant_admin: boolean;
  is_member: boolean;
  is_owner: boolean;
  is_admin: boolean;
  codes: string[];
}

/** Where a caller's row is found: an operator of the platform acts as an admin of the tenant, without one. */
export function callersOf(userId: number): Statement {
  return userId === OPERATOR_USER_ID
    ? sql`(select ${OPERATOR_USER_ID}::bigint as id, true as is_active, true as is_tenant_admin)`
    : sql`users`;
}

/**
 * What a user may do in a company, in one statement over indexes: no row, or one that is neither a
 * tenant admin's nor a member's, when they do not see it. Nothing is remembered between calls, so a
 * change shows on the next request of every replica.
 */
export function accessStatement(userId: number, companyId: number): Statement<AccessRow> {
  return sql`
    select
      u.is_tenant_admin,
      m.id is not null            as is_member,
      coalesce(s.is_owner, false) as is_owner,
      coalesce(s.is_admin, false) as is_admin,
      case when u.is_tenant_admin or s.is_owner or s.is_admin
        then (select coalesce(jsonb_agg(code order by code), '[]') from permissions
               where deleted_at is null)
        else (
          select coalesce(jsonb_agg(code order by code), '[]') from (
            select p.code
              from user_company_roles ur
              join roles r on r.id = ur.role and r.deleted_at is null
              join role_permissions rp on rp.role = r.id and rp.deleted_at is null
              join permissions p on p.id = rp.permission and p.deleted_at is null
             where ur.user_company = m.id and ur.deleted_at is null
             group by p.code
            having bool_and(rp.granted)) as granted)
      end as codes
    from companies c
    join ${callersOf(userId)} u on u.id = ${userId} and u.is_active
    left join user_companies m
      on m.company = c.id and m."user" = u.id and m.is_active and m.deleted_at is null
    left join lateral (
      select bool_or(r.is_system_role and r.role = 'Owner') as is_owner,
             bool_or(r.is_system_role and r.role = 'Admin') as is_admin
        from user_company_roles ur
        join roles r on r.id = ur.role
       where ur.user_company = m.id and ur.deleted_at is null) s on true
    where c.id = ${companyId} and c.deleted_at is null`;
}

/** What the row of {@link accessStatement} says; undefined when the user does not see the company. */
export function accessFrom(row: AccessRow | undefined): Access | undefined {
  if (!row || !(row.is_tenant_admin || row.is_member)) return undefined;
  return {
    isTenantAdmin: row.is_tenant_admin,
    isOwner: row.is_owner,
    isAdmin: row.is_admin,
    codes: new Set(row.codes),
  };
}

/** What a user may do in a company; undefined when they do not see it. */
export async function findAccess(
  run: RunSql,
  userId: number,
  companyId: number,
): Promise<Access | undefined> {
  const [row] = await run<AccessRow[]>`${accessStatement(userId, companyId)}`;
  return accessFrom(row);
}

/**
 * What the caller may do in the company of the row they touch, when it allows what they ask.
 *
 * @param unseen what is thrown when the caller does not see the company: for a row of a company, what
 *   is thrown for one that does not exist, so that the answer does not tell which ids there are
 * @throws AppError `not_found` when the caller does not see the company, `permission_denied` when what
 *   they hold there does not allow it
 */
export async function requireAccess(
  run: RunSql,
  actor: Actor,
  companyId: number,
  permission: PermissionCode | "member" | "owner",
  unseen: () => AppError = noSuchCompany,
): Promise<Access> {
  actor.asked.add(permission);
  const access = await findAccess(run, actor.userId, companyId);
  if (!access) throw unseen();
  if (!allows(access, permission)) throw denied();
  return access;
}

/** Whether access to a company is enough for this. */
export function allows(access: Access, permission: PermissionCode | "member" | "owner"): boolean {
  if (permission === "member") return true;
  if (permission === "owner") return access.isTenantAdmin || access.isOwner;
  return access.codes.has(permission);
}

/** Whether somebody holds all of these; who passes everywhere in the company holds what there is. */
export function holdsAll(access: Access, codes: Iterable<string>): boolean {
  if (access.isTenantAdmin || access.isOwner || access.isAdmin) return true;
  for (const code of codes) if (!access.codes.has(code)) return false;
  return true;
}

/**
 * The companies in which the caller has a permission; "all" for the tenant's admins. One statement.
 * For lists, whose other filters narrow it further.
 */
export async function companiesWith(
  run: RunSql,
  actor: Actor,
  permission: PermissionCode,
): Promise<readonly number[] | "all"> {
  actor.asked.add(permission);
  const [row] = await run<{ is_tenant_admin: boolean; companies: number[] }[]>`
    select
      u.is_tenant_admin,
      coalesce((
        select jsonb_agg(held.company)
          from (
            select m.company
              from user_companies m
              join companies c on c.id = m.company and c.deleted_at is null
              join user_company_roles ur on ur.user_company = m.id and ur.deleted_at is null
              join roles r on r.id = ur.role and r.deleted_at is null
              left join permissions p on p.code = ${permission} and p.deleted_at is null
              left join role_permissions rp
                on rp.role = r.id and rp.permission = p.id and rp.deleted_at is null
             where m."user" = u.id and m.is_active and m.deleted_at is null
             group by m.company
            having bool_or(r.is_system_role and r.role in ('Owner', 'Admin'))
                or coalesce(bool_and(rp.granted), false)) as held), '[]') as companies
    from ${callersOf(actor.userId)} u
    where u.id = ${actor.userId} and u.is_active`;
  if (!row) return [];
  return row.is_tenant_admin ? "all" : row.companies;
}

/**
 * Whether a row's company is among those of {@link companiesWith}, as a condition of SQL.
 *
 * @param column the row's company
 */
export function isOneOf(companies: readonly number[] | "all", column: Statement): Statement {
  return companies === "all" ? sql`true` : sql`${column} = any(${companies}::bigint[])`;
}

/**
 * Whether a user sees a company: its active members do, and the tenant's admins.
 *
 * @param column the id of the company
 */
export function isVisibleTo(userId: number, column: Statement): Statement {
  return sql`(
    exists (select 1 from ${callersOf(userId)} u where u.id = ${userId} and u.is_tenant_admin)
    or exists (
      select 1 from user_companies m
       where m.company = ${column} and m."user" = ${userId} and m.is_active and m.deleted_at is null))`;
}

/** @throws AppError `permission_denied` unless the caller is an active admin of the tenant */
export async function requireTenantAdmin(run: RunSql, actor: Actor): Promise<void> {
  const rows = await run`
    select 1 from ${callersOf(actor.userId)} u where u.id = ${actor.userId} and u.is_active and u.is_tenant_admin`;
  if (rows.length === 0) throw denied("Only an admin of this tenant may do this.");
}

function noSuchCompany(): AppError {
  return new AppError("not_found", "There is no such company.");
}

export function denied(detail = "You may not do this here."): AppError {
  return new AppError("permission_denied", detail);
}
