import { sql, type Statement } from "../db/sql.ts";
import { parsePhone } from "../phones.ts";

/** The columns of an Account (`users.ts`), of `users u`. */
export const accountColumns = sql`
  u.id, u.account_uid, u.username, u.full_name, u.email, u.primary_mobile, u.password_hash,
  u.is_active, u.email_verified_at is not null as email_verified, u.two_fa_type`;

/** Whom an e-mail address, a phone number or a username names: a condition on `users u`. */
export function namedBy(identifier: string): Statement {
  const text = identifier.trim().toLowerCase();
  return sql`
    (u.email = ${text} or u.username = ${text} or u.primary_mobile = ${parsePhone(text) ?? text})`;
}
