import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { notify } from "../audit/notifications.ts";
import { lockCompany } from "../company/companies.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { sha256 } from "../keys.ts";
import { denied } from "./access.ts";
import {
  findInvitation,
  INVITATION_FIELDS,
  requireActiveCompany,
  requirePending,
} from "./invitations.ts";
import type { Invitation } from "./schemas.ts";

/** What an invitation made of the caller. */
export interface AcceptedOffer {
  readonly company: number;
  readonly companyName: string;
}

/**
 * Makes the caller a member with the role they were invited to. Membership, role, status, notification
 * and log entries commit together. The company is held, so of parallel calls one finds it pending.
 *
 * @throws AppError `invalid_token`, `permission_denied` unless the caller's verified address is the
 *   invited one, `conflict` when it is not pending, the company not active, the role gone, or the
 *   membership deactivated, or ended since the invitation was last made, changed or sent
 */
export async function acceptInvitation(
  tx: TenantSql,
  actor: Actor,
  token: string,
): Promise<AcceptedOffer> {
  const [offer] = await tx<{ id: number; company: number; company_name: string }[]>`
    select i.id, i.company, c.name as company_name
      from invitations i
      join companies c on c.id = i.company and c.deleted_at is null
     where i.token_hash = ${sha256(token)} and i.deleted_at is null`;
  if (!offer) throw invalidLink();
  await lockCompany(tx, offer.company);
  const before = await findByToken(tx, offer.id, token);
  const [user] = await tx<{ is_invited: boolean }[]>`
    select email = ${before.email} and email_verified_at is not null as is_invited
      from users where id = ${actor.userId} and is_active
       for no key update`;
  if (!user?.is_invited) {
    throw denied("Only the holder of the invited e-mail address, once it is verified, can accept.");
  }
  requirePending(before);
  await requireActiveCompany(tx, offer.company);
  const membershipId = await joinCompany(tx, actor, before);
  await giveInvitedRole(tx, actor, before, membershipId);
  await tx`
    update invitations
       set status = 'accepted', accepted_by = ${actor.userId}, updated_at = now()
     where id = ${before.id}`;
  recordActivity(tx, actor, {
    action: "ACCEPT",
    entity: "Invitation",
    entityId: before.id,
    companyId: before.company,
    before,
    after: await findInvitation(tx, before.id),
  });
  await notify(
    tx,
    [before.invited_by],
    `${before.email} accepted your invitation to ${offer.company_name}.`,
  );
  return { company: offer.company, companyName: offer.company_name };
}

/** The membership that the invited person has or gets. */
async function joinCompany(
  tx: TenantSql,
  actor: Actor,
  { id, company }: Invitation,
): Promise<number> {
  const [held] = await tx<{ id: number; is_active: boolean }[]>`
    select id, is_active from user_companies
     where "user" = ${actor.userId} and company = ${company} and deleted_at is null`;
  if (held && !held.is_active) {
    throw new AppError("conflict", "Your membership of this company was deactivated.");
  }
  if (held) return held.id;
  // Removing a member ends invitations of the address they had then; this one may be of another.
  const ended = await tx`
    select 1 from user_companies
     where "user" = ${actor.userId} and company = ${company}
       and deleted_at > (select updated_at from invitations where id = ${id})
     limit 1`;
  if (ended.length > 0) {
    throw new AppError(
      "conflict",
      "Your membership ended after you were invited. Ask for a new invitation.",
    );
  }
  const [membership] = await tx<{ id: number }[]>`
    insert into user_companies ("user", company, is_primary_company)
    values (
      ${actor.userId}, ${company},
      not exists (select 1 from user_companies
                   where "user" = ${actor.userId} and is_primary_company and deleted_at is null))
    returning id`;
  if (!membership) throw new Error("The membership was not created");
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "UserCompany",
    entityId: membership.id,
    companyId: company,
    after: { user: actor.userId, company },
  });
  return membership.id;
}

async function giveInvitedRole(
  tx: TenantSql,
  actor: Actor,
  { role, company }: Invitation,
  membershipId: number,
): Promise<void> {
  const known = await tx`select 1 from roles where id = ${role} and deleted_at is null for share`;
  if (known.length === 0) {
    throw new AppError("conflict", "The role of this invitation does not exist any more.");
  }
  const [given] = await tx<{ id: number }[]>`
    insert into user_company_roles (user_company, role) values (${membershipId}, ${role})
    on conflict (user_company, role) where deleted_at is null do nothing
    returning id`;
  if (!given) return;
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "UserCompanyRole",
    entityId: given.id,
    companyId: company,
    after: { user_company: membershipId, role },
  });
}

/** Read again once the company is held: another link may have been sent meanwhile. */
async function findByToken(tx: TenantSql, id: number, token: string): Promise<Invitation> {
  const [invitation] = await tx<Invitation[]>`
    select ${INVITATION_FIELDS}
      from invitations i
     where i.id = ${id} and i.token_hash = ${sha256(token)} and i.deleted_at is null`;
  if (!invitation) throw invalidLink();
  return invitation;
}

function invalidLink(): AppError {
  return new AppError("invalid_token", "The link is not valid any more. Ask for a new one.");
}
