import type { RunSql } from "../db/sql.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { type Access, denied, holdsAll } from "./access.ts";
import type { Role } from "./schemas.ts";

/** What a role or a membership carries: what somebody must hold to give it or to take it. */
export interface Weight {
  readonly isOwner: boolean;
  readonly isAdmin: boolean;
  readonly granted: readonly string[];
  readonly denied: readonly string[];
}

interface WeightRow {
  is_owner: boolean;
  is_admin: boolean;
  granted: string[];
  denied: string[];
}

/** What one role says. */
export async function weightOfRole(run: RunSql, roleId: number): Promise<Weight> {
  const [row] = await run<WeightRow[]>`
    select
      r.is_system_role and r.role = 'Owner' as is_owner,
      r.is_system_role and r.role = 'Admin' as is_admin,
      coalesce(jsonb_agg(p.code) filter (where rp.granted), '[]') as granted,
      coalesce(jsonb_agg(p.code) filter (where not rp.granted), '[]') as denied
    from roles r
    left join role_permissions rp on rp.role = r.id and rp.deleted_at is null
    left join permissions p on p.id = rp.permission and p.deleted_at is null
    where r.id = ${roleId}
    group by r.id`;
  return toWeight(row);
}

/** What all roles of a membership say, whether or not it is active. */
export async function weightOfMembership(run: RunSql, membershipId: number): Promise<Weight> {
  const [row] = await run<WeightRow[]>`
    select
      coalesce(bool_or(r.is_system_role and r.role = 'Owner'), false) as is_owner,
      coalesce(bool_or(r.is_system_role and r.role = 'Admin'), false) as is_admin,
      coalesce(jsonb_agg(distinct p.code) filter (where rp.granted), '[]') as granted,
      coalesce(jsonb_agg(distinct p.code) filter (where not rp.granted), '[]') as denied
    from user_company_roles ur
    join roles r on r.id = ur.role and r.deleted_at is null
    left join role_permissions rp on rp.role = r.id and rp.deleted_at is null
    left join permissions p on p.id = rp.permission and p.deleted_at is null
    where ur.user_company = ${membershipId} and ur.deleted_at is null`;
  return toWeight(row);
}

/**
 * Whether somebody holds what they are about to give or take: nobody gives more than they have, and
 * nobody takes from those who have more.
 *
 * @param codes of the permissions at stake
 */
export function covers(access: Access, weight: Weight, codes: readonly string[]): boolean {
  if (weight.isOwner) return access.isTenantAdmin || access.isOwner;
  if (weight.isAdmin) return access.isTenantAdmin || access.isOwner || access.isAdmin;
  return holdsAll(access, codes);
}

/** @throws AppError `permission_denied` when the member holds more than the caller */
export async function requireOutranked(
  tx: TenantSql,
  access: Access,
  membershipId: number,
): Promise<void> {
  const weight = await weightOfMembership(tx, membershipId);
  const effective = weight.granted.filter((code) => !weight.denied.includes(code));
  if (!covers(access, weight, effective)) throw denied("This member holds more than you do.");
}

/**
 * A role that the caller may give in a company, held so that it is not deleted meanwhile.
 *
 * @throws AppError `validation_error` for a role that is not the company's, `permission_denied` when it
 *   allows more than the caller holds
 */
export async function requireGivableRole(
  tx: TenantSql,
  access: Access,
  roleId: number,
  company: number,
): Promise<Pick<Role, "role">> {
  const [role] = await tx<Pick<Role, "role">[]>`
    select role from roles
     where id = ${roleId} and deleted_at is null and (company is null or company = ${company})
       for share`;
  if (!role) {
    throw new AppError("validation_error", "The request body is invalid.", {
      errors: { role: ["The company has no such role."] },
    });
  }
  const weight = await weightOfRole(tx, roleId);
  if (!covers(access, weight, weight.granted)) throw denied("This role allows more than you hold.");
  return role;
}

function toWeight(row: WeightRow | undefined): Weight {
  return {
    isOwner: row?.is_owner ?? false,
    isAdmin: row?.is_admin ?? false,
    granted: row?.granted ?? [],
    denied: row?.denied ?? [],
  };
}
