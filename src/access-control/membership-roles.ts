import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { lockCompany } from "../company/companies.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import { companiesWith, denied, isOneOf, requireAccess } from "./access.ts";
import { covers, requireGivableRole, requireOutranked, weightOfRole } from "./delegation.ts";
import {
  findMembership,
  noSuchMembership,
  requireAnotherOwner,
  tellMember,
} from "./memberships.ts";
import type { MembershipRole, NewMembershipRole } from "./schemas.ts";

const FIELDS = sql`
  ur.id,
  jsonb_build_object(
    'id', m.id, 'user', m."user", 'company', m.company, 'is_active', m.is_active) as user_company,
  jsonb_build_object('id', r.id, 'role', r.role, 'desc', r."desc", 'company', r.company) as role,
  ur.created_at, ur.updated_at, ur.deleted_at, ur.is_deleted`;

const JOINS = sql`
  from user_company_roles ur
  join user_companies m on m.id = ur.user_company and m.deleted_at is null
  join companies c on c.id = m.company and c.deleted_at is null
  join roles r on r.id = ur.role and r.deleted_at is null`;

export interface MembershipRoleFilter {
  readonly user: number | undefined;
  readonly company: number | undefined;
  readonly membership: number | undefined;
  readonly role: number | undefined;
}

/** The caller's own roles, and those of members of the companies whose members they may see. */
export async function listMembershipRoles(
  tenant: TenantConnection,
  actor: Actor,
  filter: MembershipRoleFilter,
  { limit, offset }: Range,
): Promise<Page<MembershipRole>> {
  const seen = await companiesWith(tenant.query, actor, "members.view");
  const user = filter.user ?? null;
  const company = filter.company ?? null;
  const membership = filter.membership ?? null;
  const role = filter.role ?? null;
  const from = sql`
    ${JOINS}
    where ur.deleted_at is null
      and (m."user" = ${actor.userId} or ${isOneOf(seen, sql`m.company`)})
      and (${user}::bigint is null or m."user" = ${user}::bigint)
      and (${company}::bigint is null or m.company = ${company}::bigint)
      and (${membership}::bigint is null or m.id = ${membership}::bigint)
      and (${role}::bigint is null or r.id = ${role}::bigint)`;
  return readPage<MembershipRole>(
    tenant,
    sql`select ${FIELDS} ${from} order by ur.id limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    false,
  );
}

/** @throws AppError `not_found`, `permission_denied` */
export async function getMembershipRole(
  run: RunSql,
  actor: Actor,
  id: number,
): Promise<MembershipRole> {
  const row = await findMembershipRole(run, id);
  if (row.user_company.user !== actor.userId) {
    const { company } = row.user_company;
    await requireAccess(run, actor, company, "members.view", noSuchRow);
  }
  return row;
}

/**
 * Gives a member a role. Nobody gives more than they hold, nor changes who holds more. The unique index
 * `user_company_roles_one` arbitrates.
 *
 * @throws AppError `not_found` for a membership the caller does not see, `validation_error` for a role
 *   that is not the company's, `permission_denied`, `conflict` for a role the member has
 */
export async function createMembershipRole(
  tx: TenantSql,
  actor: Actor,
  { user_company: membershipId, role: roleId }: NewMembershipRole,
): Promise<MembershipRole> {
  const { company } = await findMembership(tx, membershipId);
  await lockCompany(tx, company);
  const access = await requireAccess(tx, actor, company, "members.manage", noSuchMembership);
  const membership = await findMembership(tx, membershipId);
  const role = await requireGivableRole(tx, access, roleId, company);
  await requireOutranked(tx, access, membershipId);
  const [row] = await unlessRepeated(
    tx<{ id: number }[]>`
      insert into user_company_roles (user_company, role) values (${membershipId}, ${roleId})
      returning id`,
  );
  if (!row) throw new Error("The role was not given");
  const after = await findMembershipRole(tx, row.id);
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "UserCompanyRole",
    entityId: row.id,
    companyId: company,
    after,
  });
  await tellMember(tx, actor, membership, (name) => `You are ${role.role} of ${name} now.`);
  return after;
}

/**
 * Takes a role from a member. What it denied is given by that: nobody gives more than they hold, nor
 * changes who holds more.
 *
 * @throws AppError `not_found`, `permission_denied`, `conflict` when the company would have no owner
 */
export async function deleteMembershipRole(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { company } = (await findMembershipRole(tx, id)).user_company;
  await lockCompany(tx, company);
  const access = await requireAccess(tx, actor, company, "members.manage", noSuchRow);
  const before = await findMembershipRole(tx, id);
  const weight = await weightOfRole(tx, before.role.id);
  if (!covers(access, weight, weight.denied)) throw denied("This role says more than you hold.");
  await requireOutranked(tx, access, before.user_company.id);
  if (weight.isOwner) await requireAnotherOwner(tx, before.user_company);
  await tx`update user_company_roles set deleted_at = now(), updated_at = now() where id = ${id}`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "UserCompanyRole",
    entityId: id,
    companyId: company,
    before,
  });
  await tellMember(
    tx,
    actor,
    before.user_company,
    (name) => `You are not ${before.role.role} of ${name} any more.`,
  );
}

async function findMembershipRole(run: RunSql, id: number): Promise<MembershipRole> {
  const [row] = await run<MembershipRole[]>`
    select ${FIELDS} ${JOINS} where ur.id = ${id} and ur.deleted_at is null`;
  if (!row) throw noSuchRow();
  return row;
}

function noSuchRow(): AppError {
  return new AppError("not_found", "There is no such role of a member.");
}

async function unlessRepeated<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "user_company_roles_one") throw error;
    throw new AppError("conflict", "The member has this role already.", { cause: error });
  }
}
