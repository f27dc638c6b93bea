import { recordSecurity } from "../audit/security-log.ts";
import type { Context } from "../auth/context.ts";
import { countTry, EVERYWHERE, type FailureLimit } from "../auth/failures.ts";
import { linkWithToken } from "../auth/links.ts";
import { NOTICE_LIFETIME_SECONDS, type Reachable, tellUser } from "../auth/notices.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { knownAddressEmail, NOTICES, noticeTo, verificationEmail } from "../messaging/messages.ts";

/** How long the link to an address works. */
const VERIFICATION_LIFETIME_HOURS = 24;

/** Links of one user that work at a time: the newest; older ones stop. */
const LIVE_VERIFICATIONS_MAX = 3;

/** Links a user has sent in an hour, to whichever address: what a stranger's mailbox can be sent. */
const SENDS: FailureLimit = { triesMax: 5, lockMinutes: 60 };

/**
 * Sends the link that shows that an address is the user's, with the caller's transaction. Somebody
 * else's verified address gets a notice instead, and the caller cannot tell.
 *
 * @throws AppError `rate_limited`
 */
export async function sendVerification(
  tx: TenantSql,
  context: Context,
  userId: number,
  email: string,
): Promise<void> {
  const { keys, messages, tenantId } = context;
  const subject = keys.mac("login-failures", tenantId, "e-mail sends", userId);
  if (!(await countTry(tx, subject, EVERYWHERE, SENDS)).isAllowed) {
    throw new AppError("rate_limited", "Too many e-mails were sent for this account.", {
      retryAfterSeconds: SENDS.lockMinutes * 60,
    });
  }
  const token = randomToken();
  await tx`
    insert into email_verifications (user_id, email, token_hash, expires_at)
    values (
      ${userId}, ${email}, ${sha256(token)},
      now() + make_interval(hours => ${VERIFICATION_LIFETIME_HOURS}::int)
    )`;
  await tx`
    delete from email_verifications
     where user_id = ${userId}
       and id not in (
         select id from email_verifications where user_id = ${userId}
          order by id desc limit ${LIVE_VERIFICATIONS_MAX}::int)`;
  const taken = await tx`
    select 1 from users where email = ${email} and email_verified_at is not null and id <> ${userId}`;
  const link = linkWithToken(context, "verify-email", token);
  const message =
    taken.length > 0
      ? knownAddressEmail(email)
      : verificationEmail(email, link, VERIFICATION_LIFETIME_HOURS);
  await messages.add(tx, tenantId, message, VERIFICATION_LIFETIME_HOURS * 3_600);
}

/**
 * Begins to change a user's address: the present one stays until the new one is verified. The caller
 * has confirmed the password.
 *
 * @throws AppError `rate_limited`
 */
export async function requestEmailChange(
  tx: TenantSql,
  context: Context,
  userId: number,
  email: string,
): Promise<void> {
  const user = await getEmailOwner(tx, userId);
  // What was asked for before is not wanted any more.
  await tx`delete from email_verifications where user_id = ${userId}`;
  await sendVerification(tx, context, userId, email);
  recordSecurity(tx, {
    action: "EMAIL_CHANGE_REQUESTED",
    userId,
    userDisplay: user.display,
    client: context.client,
  });
  await tellUser(tx, context, user, NOTICES.emailChangeRequested);
}

/**
 * Takes the token of a link: the address is the user's from now on. An unverified claim of somebody
 * else gives way to who has shown that it is theirs. The deleted row makes the token count once; of
 * users who verify one address that nobody has yet, `users_email_key` lets one have it.
 *
 * @throws AppError `invalid_token`; `conflict` when another user verified the address meanwhile
 */
export async function verifyEmail(tx: TenantSql, context: Context, token: string): Promise<void> {
  const [link] = await tx<{ user_id: number; email: string }[]>`
    select user_id, email from email_verifications where token_hash = ${sha256(token)}`;
  if (!link) throw invalidLink();
  const { user_id: userId, email } = link;
  // Before the links, and in the order of ids: neither two users who verify one address nor two links
  // of one user wait for each other.
  const holders = await tx<{ id: number; email: string | null; is_verified: boolean }[]>`
    select id, email, email_verified_at is not null as is_verified
      from users
     where id = ${userId} or email = ${email}
     order by id
     for no key update`;
  const verified = await tx`
    delete from email_verifications
     where token_hash = ${sha256(token)} and expires_at > now()
    returning id`;
  if (verified.length === 0) throw invalidLink();
  const before = holders.find(({ id }) => id === userId);
  const others = holders.filter(({ id }) => id !== userId);
  if (!before) throw new Error("A verification without a user");
  if (others.some((holder) => holder.is_verified)) {
    throw addressTaken();
  }
  for (const other of others) {
    await tx`update users set email = null, updated_at = now() where id = ${other.id}`;
  }
  await setEmail(tx, userId, email);
  await tx`delete from email_verifications where user_id = ${userId}`;
  const isChange = before.email !== email;
  recordSecurity(tx, {
    action: isChange ? "EMAIL_CHANGED" : "EMAIL_VERIFIED",
    userId,
    userDisplay: email,
    client: context.client,
  });
  if (isChange) {
    // Whoever reads the old mailbox may have asked for a link before.
    await tx`
      update password_resets set used_at = now() where user_id = ${userId} and used_at is null`;
    await tellOfChange(tx, context, userId, before);
  }
}

/** @throws AppError `conflict` when another user got the address at the same moment */
async function setEmail(tx: TenantSql, userId: number, email: string): Promise<void> {
  try {
    await tx`
      update users set email = ${email}, email_verified_at = now(), updated_at = now()
       where id = ${userId}`;
  } catch (error) {
    if (violatedUnique(error) === undefined) throw error;
    throw addressTaken(error);
  }
}

function addressTaken(cause?: unknown): AppError {
  return new AppError("conflict", "This e-mail address has an account.", { cause });
}

function invalidLink(): AppError {
  return new AppError("invalid_token", "The link is not valid any more. Ask for a new one.");
}

/** Sends another link to the address that is not verified yet, the new one where a change was begun. */
export async function resendVerification(
  tx: TenantSql,
  context: Context,
  userId: number,
): Promise<void> {
  const user = await getEmailOwner(tx, userId);
  const [pending] = await tx<{ email: string }[]>`
    select email from email_verifications where user_id = ${userId} order by id desc limit 1`;
  const email = pending?.email ?? (user.email_verified ? null : user.email);
  if (email === null) {
    throw new AppError("conflict", "There is no e-mail address to verify.");
  }
  await sendVerification(tx, context, userId, email);
  recordSecurity(tx, {
    action: "EMAIL_VERIFICATION_SENT",
    userId,
    userDisplay: user.display,
    client: context.client,
  });
}

/** The old address is told where it was known to be theirs, and the phone in any case. */
async function tellOfChange(
  tx: TenantSql,
  { messages, tenantId }: Context,
  userId: number,
  before: { email: string | null; is_verified: boolean },
): Promise<void> {
  const [user] = await tx<{ primary_mobile: string }[]>`
    select primary_mobile from users where id = ${userId}`;
  const addresses = [
    ...(before.email !== null && before.is_verified ? [{ email: before.email }] : []),
    ...(user ? [{ phone: user.primary_mobile }] : []),
  ];
  for (const address of addresses) {
    const notice = noticeTo(address, NOTICES.emailChanged);
    await messages.add(tx, tenantId, notice, NOTICE_LIFETIME_SECONDS);
  }
}

interface EmailOwner extends Reachable {
  display: string;
}

async function getEmailOwner(tx: TenantSql, userId: number): Promise<EmailOwner> {
  const [user] = await tx<EmailOwner[]>`
    select email, email_verified_at is not null as email_verified, primary_mobile,
           coalesce(email, username) as display
      from users
     where id = ${userId}
     for no key update`;
  if (!user) throw new AppError("not_found", "There is no such account.");
  return user;
}
