import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { notify } from "../audit/notifications.ts";
import { lockCompany } from "../company/companies.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import { type Access, companiesWith, isOneOf, requireAccess } from "./access.ts";
import { requireOutranked } from "./delegation.ts";
import { revokeInvitationsOf } from "./invitations.ts";
import type { Membership, MembershipReplacement, NewMembership } from "./schemas.ts";

const FIELDS = sql`
  m.id, m."user", m.company, m.is_primary_company, m.is_active,
  m.created_at, m.updated_at, m.deleted_at, m.is_deleted`;

/** The caller's own memberships, and those of the companies whose members they may see. */
export async function listMemberships(
  tenant: TenantConnection,
  actor: Actor,
  filter: { user: number | undefined; company: number | undefined },
  { limit, offset }: Range,
): Promise<Page<Membership>> {
  const seen = await companiesWith(tenant.query, actor, "members.view");
  const user = filter.user ?? null;
  const company = filter.company ?? null;
  const from = sql`
    from user_companies m
    join companies c on c.id = m.company and c.deleted_at is null
    where m.deleted_at is null
      and (m."user" = ${actor.userId} or ${isOneOf(seen, sql`m.company`)})
      and (${user}::bigint is null or m."user" = ${user}::bigint)
      and (${company}::bigint is null or m.company = ${company}::bigint)`;
  return readPage<Membership>(
    tenant,
    sql`select ${FIELDS} ${from} order by m.id limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    offset === 0,
  );
}

/**
 * A membership: one's own, or that of somebody in a company whose members one may see.
 *
 * @throws AppError `not_found`, `permission_denied`
 */
export async function getMembership(run: RunSql, actor: Actor, id: number): Promise<Membership> {
  const membership = await findMembership(run, id);
  if (membership.user !== actor.userId) {
    await requireAccess(run, actor, membership.company, "members.view", noSuchMembership);
  }
  return membership;
}

/**
 * Makes a user a member, without a role. Only somebody whom the caller sees already: others are
 * invited, or their names could be read by adding every id there is. The unique index
 * `user_companies_one` arbitrates.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied`,
 *   `validation_error` for a user they do not see, `conflict` for a member
 */
export async function createMembership(
  tx: TenantSql,
  actor: Actor,
  { user, company, is_primary_company: isPrimary, is_active: isActive }: NewMembership,
): Promise<Membership> {
  await lockCompany(tx, company);
  await requireAccess(tx, actor, company, "members.manage");
  await requireSeenUser(tx, actor, user);
  if (isPrimary) await clearPrimary(tx, actor, user);
  const [membership] = await unlessMember(
    tx<Membership[]>`
      insert into user_companies as m ("user", company, is_primary_company, is_active)
      values (${user}, ${company}, ${isPrimary}, ${isActive})
      returning ${FIELDS}`,
  );
  if (!membership) throw new Error("The membership was not created");
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "UserCompany",
    entityId: membership.id,
    companyId: company,
    after: membership,
  });
  await tellMember(tx, actor, membership, (name) => `You were added to ${name}.`);
  return membership;
}

/**
 * Activates or deactivates a membership, or makes its company the user's primary one, which users may
 * do themselves.
 *
 * @throws AppError `not_found`, `permission_denied` also when the member holds more than the caller,
 *   `conflict` for another user or company, or when the company would have no owner
 */
export async function replaceMembership(
  tx: TenantSql,
  actor: Actor,
  id: number,
  change: MembershipReplacement,
): Promise<Membership> {
  const { before, access, isOwn } = await holdMembership(tx, actor, id, "members.manage");
  if (change.user !== before.user || change.company !== before.company) {
    throw new AppError("conflict", "A membership stays with its user and company.");
  }
  if (!isOwn) await requireOutranked(tx, access, id);
  if (change.is_active !== before.is_active) {
    if (isOwn) await requireAccess(tx, actor, before.company, "members.manage");
    if (!change.is_active) await requireAnotherOwner(tx, before);
  }
  if (change.is_primary_company && !before.is_primary_company) {
    await clearPrimary(tx, actor, before.user);
  }
  const [after] = await tx<Membership[]>`
    update user_companies m
       set is_primary_company = ${change.is_primary_company}, is_active = ${change.is_active},
           updated_at = now()
     where m.id = ${id}
    returning ${FIELDS}`;
  if (!after) throw new Error("The membership was not changed");
  if (before.is_active && !after.is_active) {
    await revokeInvitationsOf(tx, actor, before.user, before.company);
  }
  recordActivity(tx, actor, {
    action: "UPDATE",
    entity: "UserCompany",
    entityId: id,
    companyId: before.company,
    before,
    after,
  });
  if (before.is_active !== after.is_active) {
    const what = after.is_active ? "activated" : "deactivated";
    await tellMember(tx, actor, after, (name) => `Your membership of ${name} was ${what}.`);
  }
  return after;
}

/**
 * Ends a membership with its roles; users may leave by themselves. Invitations of the same person that
 * are still pending end, too: whoever was removed does not come back by an old one.
 *
 * @throws AppError `not_found`, `permission_denied` also when the member holds more than the caller,
 *   `conflict` when the company would have no owner
 */
export async function deleteMembership(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { before, access, isOwn } = await holdMembership(tx, actor, id, "members.manage");
  if (!isOwn) await requireOutranked(tx, access, id);
  await requireAnotherOwner(tx, before);
  await tx`
    update user_company_roles set deleted_at = now(), updated_at = now()
     where user_company = ${id} and deleted_at is null`;
  await tx`
    update user_companies
       set deleted_at = now(), updated_at = now(), is_primary_company = false
     where id = ${id}`;
  await revokeInvitationsOf(tx, actor, before.user, before.company);
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "UserCompany",
    entityId: id,
    companyId: before.company,
    before,
  });
  await tellMember(tx, actor, before, (name) => `You do not belong to ${name} any more.`);
}

/**
 * A membership, its company held for the transaction; the caller is the member, or may do what is
 * asked.
 */
async function holdMembership(
  tx: TenantSql,
  actor: Actor,
  id: number,
  permission: "members.manage",
): Promise<{ before: Membership; access: Access; isOwn: boolean }> {
  const { user, company } = await findMembership(tx, id);
  const isOwn = user === actor.userId;
  await lockCompany(tx, company);
  const asked = isOwn ? "member" : permission;
  const access = await requireAccess(tx, actor, company, asked, noSuchMembership);
  actor.asked.add(permission);
  // Which company is primary changes with the user's memberships of other companies, too.
  await holdUser(tx, user);
  return { before: await findMembership(tx, id), access, isOwn };
}

/**
 * The company is held by the caller, so of two owners who go at the same time the second is kept. An
 * owner whose account is disabled does not count.
 *
 * @throws AppError `conflict` when the membership is that of the company's only owner
 */
export async function requireAnotherOwner(
  tx: TenantSql,
  { id, company }: Pick<Membership, "id" | "company">,
): Promise<void> {
  const [owners] = await tx<{ is_owner: boolean; others: number }[]>`
    select
      coalesce(bool_or(m.id = ${id}), false)                      as is_owner,
      count(*) filter (where m.id <> ${id} and u.is_active)       as others
    from user_companies m
    join users u on u.id = m."user"
    join user_company_roles ur on ur.user_company = m.id and ur.deleted_at is null
    join roles r on r.id = ur.role and r.is_system_role and r.role = 'Owner'
    where m.company = ${company} and m.is_active and m.deleted_at is null`;
  if (owners?.is_owner && owners.others === 0) {
    throw new AppError("conflict", "A company keeps at least one owner.");
  }
}

/** @throws AppError `not_found` */
export async function findMembership(run: RunSql, id: number): Promise<Membership> {
  const [membership] = await run<Membership[]>`
    select ${FIELDS}
      from user_companies m
      join companies c on c.id = m.company and c.deleted_at is null
     where m.id = ${id} and m.deleted_at is null`;
  if (!membership) throw noSuchMembership();
  return membership;
}

export function noSuchMembership(): AppError {
  return new AppError("not_found", "There is no such membership.");
}

/** Notifies a member of what somebody else did. */
export async function tellMember(
  tx: TenantSql,
  actor: Actor,
  { user, company }: Pick<Membership, "user" | "company">,
  message: (companyName: string) => string,
): Promise<void> {
  if (user === actor.userId) return;
  const [row] = await tx<{ name: string }[]>`select name from companies where id = ${company}`;
  if (row) await notify(tx, [user], message(row.name));
}

/** Admins of the tenant see every user, others those of the companies whose members they may see. */
async function requireSeenUser(tx: TenantSql, actor: Actor, user: number): Promise<void> {
  const seen = await companiesWith(tx, actor, "members.view");
  const [row] = await tx`
    select 1
      from users u
     where u.id = ${user} and u.is_active
       and (u.id = ${actor.userId} or ${seen === "all"} or exists (
         select 1 from user_companies m
          where m."user" = u.id and m.deleted_at is null and ${isOneOf(seen, sql`m.company`)}))
       for no key update of u`;
  if (!row) {
    throw new AppError("validation_error", "The request body is invalid.", {
      errors: { user: ["You do not see such a user. Invite people by e-mail."] },
    });
  }
}

/**
 * Whatever company was the user's primary one is so no more, which leaves an entry in that company. Of
 * two changes at the same time one waits for the other: both hold the user.
 */
async function clearPrimary(tx: TenantSql, actor: Actor, user: number): Promise<void> {
  await holdUser(tx, user);
  const cleared = await tx<{ id: number; company: number }[]>`
    update user_companies set is_primary_company = false, updated_at = now()
     where "user" = ${user} and is_primary_company and deleted_at is null
    returning id, company`;
  for (const { id, company } of cleared) {
    recordActivity(tx, actor, {
      action: "UPDATE",
      entity: "UserCompany",
      entityId: id,
      companyId: company,
      before: { is_primary_company: true },
      after: { is_primary_company: false },
    });
  }
}

async function holdUser(tx: TenantSql, user: number): Promise<void> {
  await tx`select 1 from users where id = ${user} for no key update`;
}

async function unlessMember<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "user_companies_one") throw error;
    throw new AppError("conflict", "The user belongs to the company already.", { cause: error });
  }
}
