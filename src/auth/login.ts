import { recordSecurity } from "../audit/security-log.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { maskEmail, maskPhone, parsePhone } from "../phones.ts";
import { accountColumns, namedBy } from "./accounts.ts";
import { completeLogin, type LoggedIn } from "./completed-login.ts";
import type { Context } from "./context.ts";
import { type Challenge, startChallenge } from "./login-challenges.ts";
import { checkPassword, forgetTries, passwordSubject } from "./password-check.ts";
import type { PasswordHasher } from "./passwords.ts";
import { purgeStale } from "./purge.ts";
import { Email } from "./schemas.ts";
import type { SessionLifetimes } from "./sessions.ts";
import type { Account } from "./users.ts";

export interface LoginRequest {
  readonly identifier: string;
  readonly password: string;
  readonly isRemembered: boolean;
}

/**
 * Checks a password and starts a session, or asks for the second factor. An unknown identifier, a
 * wrong password, an account without one and a locked account cost the same statements and one hash,
 * and are refused alike.
 *
 * @throws AppError `invalid_credentials`; `account_disabled` after the right password; `overloaded`
 */
export async function login(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  { identifier, password, isRemembered }: LoginRequest,
  lifetimes: SessionLifetimes,
): Promise<LoggedIn | Challenge> {
  const [account] = await tenant.query<Account[]>`
    select ${accountColumns} from users u where ${namedBy(identifier)} limit 1`;
  const subject = account
    ? passwordSubject(context, account.id)
    : context.keys.mac("login-failures", context.tenantId, "unknown", identifier.toLowerCase());
  const given = { password, hash: account?.password_hash };
  return checkPassword(tenant, passwords, context, subject, given, async (result) => {
    const hash = account?.password_hash;
    if (!account || !hash || result !== "right" || !account.is_active) {
      await tenant.transaction(async (tx) =>
        recordSecurity(tx, {
          action: result === "locked" ? "LOGIN_LOCKED" : "LOGIN_FAILED",
          userId: account?.id ?? null,
          userDisplay: maskIdentifier(identifier),
          client: context.client,
          ...(result === "right" ? { metadata: { reason: "account_disabled" } } : {}),
        }),
      );
      throw account && result === "right"
        ? new AppError("account_disabled", "This account is disabled.")
        : invalidCredentials();
    }
    const newHash = passwords.isOutdated(hash)
      ? await passwords.hash(password, context.tenantId)
      : hash;
    const settled = tenant.transaction(async (tx) => {
      // Side by side, which is one round trip; when nothing was updated, the rest is undone.
      const [[unchanged], done] = await Promise.all([
        // The password, the account or its second factor may have changed while the hash was computed.
        tx`
          update users set
            password_hash = ${newHash},
            last_login    = case when two_fa_type is null then now() else last_login end
          where id = ${account.id} and is_active and password_hash = ${hash}
            and two_fa_type is not distinct from ${account.two_fa_type}
          returning 1`,
        account.two_fa_type === null
          ? completeLogin(tx, context, account, { isRemembered, factor: null }, lifetimes)
          : startChallenge(tx, context, account, isRemembered),
        purgeStale(tx, context.tenantId),
      ]);
      if (!unchanged) throw invalidCredentials();
      return done;
    });
    // The password was right, whatever has become of the account meanwhile.
    const [done] = await Promise.all([settled, forgetTries(tenant, context, subject)]);
    return done;
  });
}

function invalidCredentials(): AppError {
  return new AppError("invalid_credentials", "The identifier or the password is not right.");
}

/** An identifier as the log may show it. People enter passwords here too, and those may have an @. */
export function maskIdentifier(identifier: string): string {
  if (Email.safeParse(identifier).success) return maskEmail(identifier);
  const phone = parsePhone(identifier);
  return phone ? maskPhone(phone) : `${identifier.slice(0, 2)}***`;
}
