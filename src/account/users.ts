import { companiesWith, denied, requireAccess } from "../access-control/access.ts";
import type { Actor } from "../audit/actor.ts";
import { recordSecurity, type SecurityAction } from "../audit/security-log.ts";
import type { Context } from "../auth/context.ts";
import { tellUser } from "../auth/notices.ts";
import { forgetWrongCodes, removeSecondFactor } from "../auth/second-factor-settings.ts";
import { endSessions, notifyPrincipal } from "../auth/sessions.ts";
import { displayOf } from "../auth/users.ts";
import { sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { type Notice, NOTICES } from "../messaging/messages.ts";
import { type Page, type Range, readPage, searchPattern } from "../pages.ts";
import type { ManagedUser, UserChange } from "./schemas.ts";

interface ManagedRow extends ManagedUser {
  email_verified: boolean;
}

export interface UserFilter {
  readonly search: string | undefined;
  /** Only its members. */
  readonly company: number | undefined;
}

/**
 * The users of the tenant, for its admins; the members of a company, for whoever may see them. By name;
 * `search` finds parts of names, addresses and numbers.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied`
 */
export async function listUsers(
  tenant: TenantConnection,
  actor: Actor,
  { search, company }: UserFilter,
  { limit, offset }: Range,
): Promise<Page<ManagedUser>> {
  if (company !== undefined) await requireAccess(tenant.query, actor, company, "members.view");
  else await requireEveryCompany(tenant, actor);
  const pattern = searchPattern(search);
  const companyId = company ?? null;
  const from = sql`
    from users
    where (
        ${pattern}::text is null
        or full_name ilike ${pattern} or email ilike ${pattern}
        or username ilike ${pattern} or primary_mobile like ${pattern})
      and (${companyId}::bigint is null or id in (
        select "user" from user_companies where company = ${companyId}::bigint and deleted_at is null))`;
  // Slow where there are many: not on a connection that others wait for.
  return readPage<ManagedUser>(
    tenant,
    sql`
      select id, username, full_name, email, primary_mobile, is_active, is_tenant_admin,
             two_fa_type is not null as is_2fa_enabled, date_joined, last_login
      ${from}
      order by full_name, id
      limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    false,
  );
}

async function requireEveryCompany(tenant: TenantConnection, actor: Actor): Promise<void> {
  if ((await companiesWith(tenant.query, actor, "members.view")) === "all") return;
  throw denied("Only an admin of this tenant sees all its users. Name a company.");
}

/** @throws AppError `not_found` */
export async function getUser(tenant: TenantConnection, id: number): Promise<ManagedUser> {
  const [user] = await tenant.query<ManagedUser[]>`
    select id, username, full_name, email, primary_mobile, is_active, is_tenant_admin,
           two_fa_type is not null as is_2fa_enabled, date_joined, last_login
      from users
     where id = ${id}`;
  return user ?? noSuchUser();
}

/**
 * Changes what admins decide of a user. Every admin's row is held, in the order of ids: of two admins
 * who remove each other at the same time one stays. Disabling ends the user's logins.
 *
 * @throws AppError `not_found`, `permission_denied` when the caller is no admin any more, `conflict`
 *   when no active admin would be left
 */
export async function changeUser(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  id: number,
  change: UserChange,
): Promise<ManagedUser> {
  const before = await lockUser(tx, actor, id);
  const after = {
    isActive: change.is_active ?? before.is_active,
    isAdmin: change.is_tenant_admin ?? before.is_tenant_admin,
  };
  if (before.is_active && before.is_tenant_admin && !(after.isActive && after.isAdmin)) {
    const [others] = await tx<{ count: number }[]>`
      select count(*) as count from users where is_tenant_admin and is_active and id <> ${id}`;
    if ((others?.count ?? 0) === 0) {
      throw new AppError("conflict", "The last admin of a tenant cannot be removed.");
    }
  }
  await tx`
    update users
       set is_active = ${after.isActive}, is_tenant_admin = ${after.isAdmin}, updated_at = now()
     where id = ${id}`;
  if (before.is_active !== after.isActive) {
    const action = after.isActive ? "ACCOUNT_ENABLED" : "ACCOUNT_DISABLED";
    const notice = after.isActive ? NOTICES.accountEnabled : NOTICES.accountDisabled;
    await tell(tx, context, actor, before, action, notice);
  }
  if (before.is_tenant_admin !== after.isAdmin) {
    const action = after.isAdmin ? "TENANT_ADMIN_GRANTED" : "TENANT_ADMIN_REVOKED";
    const notice = after.isAdmin ? NOTICES.madeTenantAdmin : NOTICES.noTenantAdmin;
    await tell(tx, context, actor, before, action, notice);
  }
  if (before.is_active && !after.isActive) await endSessions(tx, context.tenantId, id, "revoked");
  else await notifyPrincipal(tx, context.tenantId, id);
  const { email_verified: _, ...user } = before;
  return { ...user, is_active: after.isActive, is_tenant_admin: after.isAdmin };
}

/**
 * Takes the second factor of somebody who has lost it. Their logins end, and they are told.
 *
 * @throws AppError `not_found`, `permission_denied`, `conflict` when none is on
 */
export async function resetSecondFactor(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  id: number,
): Promise<void> {
  const user = await lockUser(tx, actor, id);
  if (!user.is_2fa_enabled) throw new AppError("conflict", "Two-factor login is off.");
  await removeSecondFactor(tx, id);
  // Whoever has lost it may have tried in vain: the next one is not locked by that.
  await forgetWrongCodes(tx, context, id);
  await endSessions(tx, context.tenantId, id, "revoked");
  await tell(tx, context, actor, user, "SECOND_FACTOR_RESET", NOTICES.secondFactorReset);
}

/** The user, held together with every admin; checks again that the caller is one. */
async function lockUser(tx: TenantSql, actor: Actor, id: number): Promise<ManagedRow> {
  const held = await tx<ManagedRow[]>`
    select id, username, full_name, email, primary_mobile, is_active, is_tenant_admin,
           two_fa_type is not null as is_2fa_enabled, date_joined, last_login,
           email_verified_at is not null as email_verified
      from users
     where is_tenant_admin or id = ${id}
     order by id
     for no key update`;
  const caller = held.find((user) => user.id === actor.userId);
  if (actor.operator === undefined && !(caller?.is_tenant_admin && caller.is_active)) {
    throw new AppError("permission_denied", "Only an admin of this tenant may do this.");
  }
  return held.find((user) => user.id === id) ?? noSuchUser();
}

async function tell(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  user: ManagedRow,
  action: SecurityAction,
  notice: Notice,
): Promise<void> {
  recordSecurity(tx, {
    action,
    userId: user.id,
    userDisplay: displayOf(user),
    client: context.client,
    metadata: { by: actor.operator ?? actor.userId },
  });
  await tellUser(tx, context, user, notice);
}

function noSuchUser(): never {
  throw new AppError("not_found", "There is no such user.");
}
