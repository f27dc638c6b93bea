import { recordSecurity } from "../audit/security-log.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import type { Context } from "./context.ts";
import { confirmPassword } from "./password-check.ts";
import { replacePassword } from "./password-reset.ts";
import { findRecentHashes, refuseGuessable, refuseRecent } from "./password-rules.ts";
import type { PasswordHasher } from "./passwords.ts";
import { displayOf } from "./users.ts";

/**
 * Changes the password of somebody who is logged in and knows it. Their other logins end, the one they
 * do it with goes on. Of two changes at the same time one counts.
 *
 * @throws AppError `invalid_credentials`, also while the account is locked; `validation_error` for a
 *   password that is common, the user's own data or one of the last five; `conflict`; `overloaded`
 */
export async function changePassword(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  caller: { userId: number; sessionId: number },
  { currentPassword, newPassword }: { currentPassword: string; newPassword: string },
): Promise<void> {
  const user = await confirmPassword(tenant, passwords, context, caller.userId, currentPassword);
  await refuseGuessable("new_password", newPassword, user);
  const recent = await findRecentHashes(tenant, user.id);
  await refuseRecent("new_password", newPassword, recent, passwords, context.tenantId);
  const newHash = await passwords.hash(newPassword, context.tenantId);
  await tenant.transaction(async (tx) => {
    const ended = { except: caller.sessionId };
    if (!(await replacePassword(tx, context, user, newHash, ended))) {
      throw new AppError("conflict", "The password was changed a moment ago.");
    }
    recordSecurity(tx, {
      action: "PASSWORD_CHANGED",
      userId: user.id,
      userDisplay: displayOf(user),
      client: context.client,
      metadata: { session: caller.sessionId },
    });
  });
}
