import { recordSecurity } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { sha256 } from "../keys.ts";
import { passwordChangedSms } from "../messaging/messages.ts";
import { queueMessage } from "../messaging/queue.ts";
import type { Context } from "./context.ts";
import { endSessions } from "./sessions.ts";

/** How long a notice of a changed password is worth sending. */
const NOTICE_LIFETIME_SECONDS = 86_400;

/** Whether the token of a link would be accepted now: asked before the cost of hashing a password. */
export async function isResetToken(tx: TenantSql, token: string): Promise<boolean> {
  const rows = await tx`
    select 1 from password_resets
     where token_hash = ${sha256(token)} and used_at is null and expires_at > now()`;
  return rows.length > 0;
}

/**
 * Sets a password with the token of a link. The conditional update makes the token count once; every
 * login of the user ends, and the user is told.
 *
 * @throws AppError `invalid_token`
 */
export async function resetPassword(
  tx: TenantSql,
  context: Context,
  { token, passwordHash }: { token: string; passwordHash: string },
): Promise<void> {
  const [reset] = await tx<{ user_id: number }[]>`
    update password_resets set used_at = now()
     where token_hash = ${sha256(token)} and used_at is null and expires_at > now()
    returning user_id`;
  if (!reset) throw invalidResetToken();
  const [user] = await tx<{ display: string; primary_mobile: string }[]>`
    update users set password_hash = ${passwordHash}, updated_at = now()
     where id = ${reset.user_id}
    returning coalesce(email, username) as display, primary_mobile`;
  if (!user) throw new Error("A reset without a user");
  await endSessions(tx, context.tenantId, reset.user_id, "password");
  await recordSecurity(tx, {
    action: "PASSWORD_RESET",
    userId: reset.user_id,
    userDisplay: user.display,
    client: context.client,
  });
  const notice = passwordChangedSms(user.primary_mobile);
  await queueMessage(tx, context.keys, context.tenantId, notice, NOTICE_LIFETIME_SECONDS);
}

/** The refusal of a link that is wrong, used or too old. */
export function invalidResetToken(): AppError {
  return new AppError("invalid_token", "The link is not valid any more. Ask for a new one.");
}
