import { recordSecurity } from "../audit/security-log.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { decoySms, NOTICES, noticeTo, passwordLink } from "../messaging/messages.ts";
import { accountColumns, namedBy } from "./accounts.ts";
import type { Context } from "./context.ts";
import { forgetFailures } from "./failures.ts";
import { linkWithToken } from "./links.ts";
import { maskIdentifier } from "./login.ts";
import { endChallenges } from "./login-challenges.ts";
import { NOTICE_LIFETIME_SECONDS, tellUser } from "./notices.ts";
import {
  EARLIER_PASSWORDS_KEPT,
  findRecentHashes,
  refuseGuessable,
  refuseRecent,
} from "./password-rules.ts";
import { passwordSubject } from "./password-check.ts";
import type { PasswordHasher } from "./passwords.ts";
import { forgetWrongCodes } from "./second-factor-settings.ts";
import { type EndedSessions, endSessions } from "./sessions.ts";
import { type Account, displayOf } from "./users.ts";

/** How long a link works. */
const RESET_LIFETIME_MINUTES = 30;

/**
 * Links of one user that work at a time. A stranger who asks for more changes nothing: the owner has
 * those that came before.
 */
const LIVE_RESETS_MAX = 5;

/**
 * Sends a link to set a new password, to the verified e-mail address. A user without one gets it by
 * SMS, unless that would make the phone the only thing that counts: with codes by SMS it would be the
 * second factor as well. For everybody else the same work is done and nothing is sent.
 */
export async function forgotPassword(
  tx: TenantSql,
  context: Context,
  identifier: string,
): Promise<void> {
  const user = await findActiveUser(tx, identifier);
  const token = randomToken();
  const [reset] = await tx`
    insert into password_resets (user_id, token_hash, expires_at)
    select id, ${sha256(token)}::bytea, now() + make_interval(mins => ${RESET_LIFETIME_MINUTES}::int)
      from users
     where id = ${user?.id ?? null}::bigint
       and (email_verified_at is not null or two_fa_type is distinct from 'sms')
       and (select count(*) from password_resets r
             where r.user_id = users.id and r.used_at is null and r.expires_at > now())
           < ${LIVE_RESETS_MAX}::int
    returning id`;
  recordSecurity(tx, {
    action: "PASSWORD_FORGOTTEN",
    userId: user?.id ?? null,
    userDisplay: maskIdentifier(identifier),
    client: context.client,
  });
  const link = linkWithToken(context, "reset-password", token);
  const notice = passwordLink(link, RESET_LIFETIME_MINUTES);
  const seconds = RESET_LIFETIME_MINUTES * 60;
  if (user && reset) await tellUser(tx, context, user, notice, seconds);
  else await context.messages.add(tx, context.tenantId, decoySms("+10000000000"), seconds);
}

/** The user, whose row is held so that links asked for at once are counted one after the other. */
async function findActiveUser(tx: TenantSql, identifier: string): Promise<Account | undefined> {
  const [user] = await tx<Account[]>`
    select ${accountColumns}
      from users u
     where ${namedBy(identifier)}
       and u.is_active
     limit 1
       for no key update`;
  return user;
}

/**
 * Sets a password with the token of a link. The conditional update makes the token count once; every
 * login of the user ends, those that wait for a second factor too, and the user is told.
 *
 * @throws AppError `invalid_token`; `validation_error` for a password that is common, the user's own
 *   data or one of the last five (the token then stays good); `overloaded`
 */
export async function resetPassword(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  { token, password }: { token: string; password: string },
): Promise<void> {
  const [user] = await tenant.query<Account[]>`
    select ${accountColumns}
      from password_resets r
      join users u on u.id = r.user_id
     where r.token_hash = ${sha256(token)}
       and r.used_at is null
       and r.expires_at > now()
       and u.is_active`;
  if (!user) throw invalidResetToken();
  await refuseGuessable("password", password, user);
  const recent = await findRecentHashes(tenant, user.id);
  await refuseRecent("password", password, recent, passwords, context.tenantId);
  const newHash = await passwords.hash(password, context.tenantId);
  await tenant.transaction(async (tx) => {
    // Whoever was locked out by wrong passwords has the right one now. First, as at a login: what is
    // held is held in one order.
    await forgetFailures(tx, passwordSubject(context, user.id));
    // Two links of one user, used at the same time, do not wait for each other.
    await tx`select 1 from users where id = ${user.id} for no key update`;
    const [reset] = await tx`
      update password_resets set used_at = now()
       where token_hash = ${sha256(token)} and used_at is null and expires_at > now()
      returning user_id`;
    if (!reset || !(await replacePassword(tx, context, user, newHash, "all"))) {
      throw invalidResetToken();
    }
    recordSecurity(tx, {
      action: "PASSWORD_RESET",
      userId: user.id,
      userDisplay: displayOf(user),
      client: context.client,
    });
  });
}

/**
 * Puts a new password in the place of the one that `user` was read with, and ends what the old one
 * opened: logins, second steps, links, and the count of wrong codes of whoever knew it.
 *
 * @returns false when the password was changed or the user disabled meanwhile
 */
export async function replacePassword(
  tx: TenantSql,
  context: Context,
  user: Account,
  newHash: string,
  ended: EndedSessions,
): Promise<boolean> {
  const replaced = await tx`
    update users set password_hash = ${newHash}, updated_at = now()
     where id = ${user.id}
       and is_active
       and password_hash is not distinct from ${user.password_hash}
    returning id`;
  if (replaced.length === 0) return false;
  if (user.password_hash !== null) {
    await tx`
      insert into password_history (user_id, password_hash)
      values (${user.id}, ${user.password_hash})`;
    await tx`
      delete from password_history
       where user_id = ${user.id}
         and id not in (
           select id from password_history where user_id = ${user.id}
            order by id desc limit ${EARLIER_PASSWORDS_KEPT}::int)`;
  }
  await tx`
    update password_resets set used_at = now() where user_id = ${user.id} and used_at is null`;
  await endChallenges(tx, user.id);
  await forgetWrongCodes(tx, context, user.id);
  await endSessions(tx, context.tenantId, user.id, "password", ended);
  await tellPasswordChanged(tx, context, user);
  return true;
}

/** Told by SMS too when it went by e-mail: whoever holds the mailbox may be who changed it. */
async function tellPasswordChanged(tx: TenantSql, context: Context, user: Account): Promise<void> {
  await tellUser(tx, context, user, NOTICES.passwordChanged);
  if (user.email !== null && user.email_verified) {
    const sms = noticeTo({ phone: user.primary_mobile }, NOTICES.passwordChanged);
    await context.messages.add(tx, context.tenantId, sms, NOTICE_LIFETIME_SECONDS);
  }
}

/** The refusal of a link that is wrong, used or too old. */
function invalidResetToken(): AppError {
  return new AppError("invalid_token", "The link is not valid any more. Ask for a new one.");
}
