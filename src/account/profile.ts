import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
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
