import type { Context } from "../auth/context.ts";
import { confirmPassword } from "../auth/password-check.ts";
import type { PasswordHasher } from "../auth/passwords.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { requestEmailChange } from "./email-verification.ts";
import type { Profile } from "./schemas.ts";

/** The caller's own account. @throws AppError `not_found` when it is gone */
export async function getProfile(tenant: TenantConnection, userId: number): Promise<Profile> {
  const [profile] = await tenant.query<Profile[]>`
    select
      id, username, full_name, email, primary_mobile, account_uid,
      email_verified_at is not null as email_verified,
      phone_verified_at is not null as phone_verified,
      two_fa_type is not null       as is_2fa_enabled,
      two_fa_type, date_joined, last_login
    from users
    where id = ${userId}`;
  if (!profile) throw new AppError("not_found", "There is no such account.");
  return profile;
}

export interface ProfileChange {
  readonly fullName: string | undefined;
  readonly email: string | undefined;
  readonly currentPassword: string | undefined;
}

/**
 * Changes the caller's name at once, and begins to change the address when it is another: that counts
 * once the link sent there is followed, and needs the password.
 *
 * @throws AppError `validation_error` without the password, `invalid_credentials`, `rate_limited`,
 *   `overloaded`
 */
export async function changeProfile(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  userId: number,
  { fullName, email, currentPassword }: ProfileChange,
): Promise<Profile> {
  const before = await getProfile(tenant, userId);
  const newEmail = email === before.email ? undefined : email;
  if (newEmail !== undefined) {
    if (currentPassword === undefined) throw passwordRequired();
    await confirmPassword(tenant, passwords, context, userId, currentPassword);
  }
  await tenant.transaction(async (tx) => {
    if (fullName !== undefined) {
      await tx`
        update users set full_name = ${fullName}, updated_at = now() where id = ${userId}`;
    }
    if (newEmail !== undefined) {
      await requestEmailChange(tx, context, userId, newEmail);
    }
  });
  return getProfile(tenant, userId);
}

function passwordRequired(): AppError {
  return new AppError("validation_error", "The request body is invalid.", {
    errors: { current_password: ["A new e-mail address needs your password."] },
  });
}
