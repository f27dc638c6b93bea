import { recordActivity } from "../audit/activity-log.ts";
import { type Actor, requireUser } from "../audit/actor.ts";
import { notify } from "../audit/notifications.ts";
import type { Context } from "../auth/context.ts";
import { countTry, EVERYWHERE, type FailureLimit } from "../auth/failures.ts";
import { linkWithToken } from "../auth/links.ts";
import { lockCompany } from "../company/companies.ts";
import { type RunSql, sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { invitationEmail } from "../messaging/messages.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import { companiesWith, denied, isOneOf, requireAccess } from "./access.ts";
import { requireGivableRole } from "./delegation.ts";
import type {
  CreatedInvitation,
  Invitation,
  InvitationReplacement,
  NewInvitation,
} from "./schemas.ts";

/** How long an invitation can be accepted, in days, unless the inviter says otherwise; and at most. */
const LIFETIME_DAYS = 7;
const LIFETIME_DAYS_MAX = 90;

/** Dates from here on have no four-digit year, which ISO 8601 and PostgreSQL write differently. */
const YEAR_10000 = new Date("+010000-01-01T00:00:00Z");

/** How long the e-mail is tried to be sent, in seconds: a day. It can be sent again. */
const EMAIL_LIFETIME_SECONDS = 86_400;

/**
 * Invitations of one company that wait at a time. Each sends an e-mail to an address that the inviter
 * chooses: this bounds what one company can send to strangers before anybody says yes.
 */
const PENDING_MAX = 500;

/** E-mails that one user sends by inviting and resending, before an hour without. */
const SENDS: FailureLimit = { triesMax: 200, lockMinutes: 60 };

/** As clients see one: what has run out is expired, whether or not its row says so yet. */
export const INVITATION_FIELDS = sql`
  i.id, i.email, i.company, i.role,
  case when i.status = 'pending' and i.expires_at <= now() then 'expired' else i.status end as status,
  i.invited_by, i.expires_at, i.created_at, i.updated_at, i.deleted_at, i.is_deleted`;

/**
 * The invitations of the companies where the caller may invite, newest first.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied` where they may
 *   not invite: in that company, or anywhere
 */
export async function listInvitations(
  tenant: TenantConnection,
  actor: Actor,
  filter: { company: number | undefined; status: Invitation["status"] | undefined },
  { limit, offset }: Range,
): Promise<Page<Invitation>> {
  if (filter.company !== undefined) {
    await requireAccess(tenant.query, actor, filter.company, "invitations.manage");
  }
  const seen =
    filter.company === undefined
      ? await companiesWith(tenant.query, actor, "invitations.manage")
      : [filter.company];
  if (seen.length === 0) throw denied();
  const status = filter.status ?? null;
  const from = sql`
    from (
      select ${INVITATION_FIELDS}
        from invitations i
        join companies c on c.id = i.company and c.deleted_at is null
       where i.deleted_at is null and ${isOneOf(seen, sql`i.company`)}) as i
    where ${status}::text is null or i.status = ${status}`;
  return readPage<Invitation>(
    tenant,
    sql`
      select
        id, email, company, role, status, invited_by, expires_at,
        created_at, updated_at, deleted_at, is_deleted
      ${from}
      order by id desc
      limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count ${from}`,
    false,
  );
}

/** @throws AppError `not_found`, `permission_denied` */
export async function getInvitation(run: RunSql, actor: Actor, id: number): Promise<Invitation> {
  const invitation = await findInvitation(run, id);
  await requireAccess(run, actor, invitation.company, "invitations.manage");
  return invitation;
}

/**
 * Invites one e-mail address to a company. One pending invitation per address and company: the partial
 * unique index `invitations_one_pending` stands behind the check made while the company is held. One
 * that has run out is marked and makes way. E-mail, notification and log entry commit with the row.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied` also for a
 *   role that allows more than they hold, `validation_error` for a role that is not the company's or a
 *   time that is not in reach, `rate_limited`, `conflict` for a member, a pending invitation, a company that is not
 *   active, or too many pending ones
 */
export async function createInvitation(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  { email, company, role, expires_at: expiresAt }: NewInvitation,
): Promise<CreatedInvitation> {
  await lockCompany(tx, company);
  const access = await requireAccess(tx, actor, company, "invitations.manage");
  requireUser(actor);
  await requireActiveCompany(tx, company);
  await requireGivableRole(tx, access, role, company);
  await requireInvitable(tx, email, company);
  const token = randomToken();
  const [row] = await tx<{ id: number }[]>`
    insert into invitations (email, company, role, token_hash, invited_by, expires_at)
    values (
      ${email}, ${company}, ${role}, ${sha256(token)}, ${actor.userId},
      ${await expiryOf(tx, expiresAt)}
    )
    returning id`;
  if (!row) throw new Error("The invitation was not created");
  const invitation = await findInvitation(tx, row.id);
  await sendInvitation(tx, context, actor, invitation, token);
  await notifyInvited(tx, invitation);
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "Invitation",
    entityId: invitation.id,
    companyId: company,
    after: invitation,
  });
  return { ...invitation, token };
}

/**
 * Changes the role or the end of a pending invitation; its link stays good.
 *
 * @throws AppError `not_found`, `permission_denied`, `validation_error`, `conflict` for another address
 *   or company, or when it is not pending
 */
export async function replaceInvitation(
  tx: TenantSql,
  actor: Actor,
  id: number,
  { email, company, role, expires_at: expiresAt }: InvitationReplacement,
): Promise<Invitation> {
  const { invitation: before, access } = await holdInvitation(tx, actor, id);
  if (email !== before.email || company !== before.company) {
    throw new AppError("conflict", "An invitation stays with its address and company.");
  }
  requirePending(before);
  await requireGivableRole(tx, access, role, company);
  await tx`
    update invitations
       set role = ${role}, expires_at = ${await expiryOf(tx, expiresAt)}, updated_at = now()
     where id = ${id}`;
  const after = await findInvitation(tx, id);
  recordActivity(tx, actor, {
    action: "UPDATE",
    entity: "Invitation",
    entityId: id,
    companyId: before.company,
    before,
    after,
  });
  return after;
}

/** Takes an invitation away, whatever its state: its link ends. @throws AppError `not_found`, `permission_denied` */
export async function deleteInvitation(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { invitation: before } = await holdInvitation(tx, actor, id);
  await tx`
    update invitations
       set deleted_at = now(), updated_at = now(),
           status = case when status = 'pending' then 'revoked' else status end
     where id = ${id}`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "Invitation",
    entityId: id,
    companyId: before.company,
    before,
  });
}

/** Ends a pending invitation. @throws AppError `not_found`, `permission_denied`, `conflict` */
export async function revokeInvitation(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  const { invitation: before } = await holdInvitation(tx, actor, id);
  requirePending(before);
  await tx`update invitations set status = 'revoked', updated_at = now() where id = ${id}`;
  recordActivity(tx, actor, {
    action: "REVOKE",
    entity: "Invitation",
    entityId: id,
    companyId: before.company,
    before,
    after: await findInvitation(tx, id),
  });
}

/**
 * Sends a pending invitation again, with a new link that is good for seven days; the older one ends.
 *
 * @throws AppError `not_found`, `permission_denied`, `rate_limited`, `conflict` when it is not pending or
 *   the company is not active
 */
export async function resendInvitation(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  id: number,
): Promise<void> {
  const { invitation: before, access } = await holdInvitation(tx, actor, id);
  requirePending(before);
  await requireActiveCompany(tx, before.company);
  // The caller sends what they might have made.
  await requireGivableRole(tx, access, before.role, before.company);
  const token = randomToken();
  await tx`
    update invitations
       set token_hash = ${sha256(token)}, expires_at = ${await expiryOf(tx, undefined)},
           updated_at = now()
     where id = ${id}`;
  const after = await findInvitation(tx, id);
  await sendInvitation(tx, context, actor, after, token);
  recordActivity(tx, actor, {
    action: "RESEND",
    entity: "Invitation",
    entityId: id,
    companyId: before.company,
    before,
    after,
  });
}

/**
 * Ends what is still pending for somebody who was removed from a company, or deactivated there: they do
 * not come back by an old link. The company is held by the caller.
 */
export async function revokeInvitationsOf(
  tx: TenantSql,
  actor: Actor,
  userId: number,
  company: number,
): Promise<void> {
  const revoked = await tx<{ id: number; email: string }[]>`
    update invitations set status = 'revoked', updated_at = now()
     where company = ${company} and status = 'pending' and deleted_at is null
       and email = (select email from users where id = ${userId})
    returning id, email`;
  for (const { id, email } of revoked) {
    recordActivity(tx, actor, {
      action: "REVOKE",
      entity: "Invitation",
      entityId: id,
      companyId: company,
      before: { email, status: "pending" },
      after: { email, status: "revoked" },
    });
  }
}

/** @throws AppError `conflict` for a member, a pending invitation or too many of them */
async function requireInvitable(tx: TenantSql, email: string, company: number): Promise<void> {
  const members = await tx`
    select 1
      from user_companies m
      join users u on u.id = m."user" and u.email = ${email} and u.email_verified_at is not null
     where m.company = ${company} and m.deleted_at is null`;
  if (members.length > 0) {
    throw new AppError("conflict", `${email} belongs to the company already.`);
  }
  await tx`
    update invitations set status = 'expired', updated_at = now()
     where company = ${company} and status = 'pending' and expires_at <= now()`;
  const [pending] = await tx<{ count: number; has_same: boolean }[]>`
    select count(*) as count, coalesce(bool_or(email = ${email}), false) as has_same
      from invitations
     where company = ${company} and status = 'pending' and deleted_at is null`;
  if (pending?.has_same) {
    throw new AppError("conflict", `${email} has a pending invitation already.`);
  }
  if ((pending?.count ?? 0) >= PENDING_MAX) {
    throw new AppError("conflict", `At most ${PENDING_MAX} invitations of a company are pending.`);
  }
}

/** An invitation, its company held for the transaction; the caller may invite there. */
async function holdInvitation(tx: TenantSql, actor: Actor, id: number) {
  const { company } = await findInvitation(tx, id);
  await lockCompany(tx, company);
  const access = await requireAccess(tx, actor, company, "invitations.manage");
  return { invitation: await findInvitation(tx, id), access };
}

export async function findInvitation(run: RunSql, id: number): Promise<Invitation> {
  const [invitation] = await run<Invitation[]>`
    select ${INVITATION_FIELDS} from invitations i where i.id = ${id} and i.deleted_at is null`;
  if (!invitation) throw new AppError("not_found", "There is no such invitation.");
  return invitation;
}

export function requirePending({ status }: Invitation): void {
  if (status !== "pending") throw new AppError("conflict", `The invitation is ${status}.`);
}

/** @throws AppError `conflict` */
export async function requireActiveCompany(tx: TenantSql, id: number): Promise<void> {
  const active = await tx`select 1 from companies where id = ${id} and status = 'active'`;
  if (active.length === 0) throw new AppError("conflict", "The company is not active.");
}

/**
 * When an invitation ends, by the database's clock.
 *
 * @throws AppError `validation_error` for a time that is past or too far away
 */
async function expiryOf(tx: TenantSql, asked: string | undefined): Promise<Date> {
  // RFC 3339 has years, offsets and fractions that PostgreSQL does not read.
  const askedAt = asked === undefined ? null : new Date(asked);
  const isReadable = askedAt === null || (askedAt.getTime() > 0 && askedAt < YEAR_10000);
  const [row] = await tx<{ at: Date; is_in_reach: boolean }[]>`
    select at, at > now() and at <= now() + make_interval(days => ${LIFETIME_DAYS_MAX}::int) as is_in_reach
      from (select coalesce(${isReadable ? askedAt : null}::timestamptz,
                            now() + make_interval(days => ${LIFETIME_DAYS}::int)) as at) as expiry`;
  if (isReadable && row?.is_in_reach) return row.at;
  throw new AppError("validation_error", "The request body is invalid.", {
    errors: { expires_at: [`In the future, at most ${LIFETIME_DAYS_MAX} days ahead.`] },
  });
}

async function sendInvitation(
  tx: TenantSql,
  context: Context,
  actor: Actor,
  { email, company, expires_at: expiresAt }: Invitation,
  token: string,
): Promise<void> {
  requireUser(actor);
  const subject = context.keys.mac(
    "login-failures",
    context.tenantId,
    "invitation sends",
    actor.userId,
  );
  if (!(await countTry(tx, subject, EVERYWHERE, SENDS)).isAllowed) {
    throw new AppError("rate_limited", "You have sent too many invitations. Try again later.", {
      retryAfterSeconds: SENDS.lockMinutes * 60,
    });
  }
  const [names] = await tx<{ company_name: string; inviter: string }[]>`
    select c.name as company_name, u.full_name as inviter
      from companies c, users u
     where c.id = ${company} and u.id = ${actor.userId}`;
  if (!names) throw new Error("The company or the inviter is gone");
  const link = linkWithToken(context, "accept-invitation", token);
  const message = invitationEmail(email, {
    companyName: names.company_name,
    inviter: names.inviter,
    link,
    expiresAt,
  });
  await context.messages.add(tx, context.tenantId, message, EMAIL_LIFETIME_SECONDS);
}

/** Somebody who has an account finds the invitation there, too. */
async function notifyInvited(tx: TenantSql, { email, company }: Invitation): Promise<void> {
  const [invited] = await tx<{ id: number; company_name: string }[]>`
    select u.id, c.name as company_name
      from users u, companies c
     where u.email = ${email} and u.email_verified_at is not null and c.id = ${company}`;
  if (!invited) return;
  await notify(
    tx,
    [invited.id],
    `You are invited to ${invited.company_name}. The link to accept is in your e-mail.`,
  );
}
