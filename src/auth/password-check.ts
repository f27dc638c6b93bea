import { recordSecurity } from "../audit/security-log.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { networkOf } from "../networks.ts";
import { accountColumns } from "./accounts.ts";
import type { Context } from "./context.ts";
import { countTry, type FailureLimit, forgetFailures } from "./failures.ts";
import type { PasswordHasher } from "./passwords.ts";
import { type Account, displayOf } from "./users.ts";

/** Wrong passwords in a row, from one network, after which the account is locked for it. */
const PASSWORD_LIMIT: FailureLimit = { triesMax: 5, lockMinutes: 30 };

/** What wrong passwords of a user are counted on, wherever a password is asked for. */
export function passwordSubject({ keys, tenantId }: Context, userId: number): Buffer {
  return keys.mac("login-failures", tenantId, "user", userId);
}

/**
 * Counts a try on `subject` from the caller's network and compares the password, in this order: of
 * parallel tries no more than five are worth anything. Without a hash the same work is done.
 *
 * @returns "locked" after too many, whatever the password
 * @throws AppError `overloaded`
 */
export async function checkPassword(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  subject: Buffer,
  { password, hash }: { password: string; hash: string | null | undefined },
): Promise<"right" | "wrong" | "locked"> {
  const network = networkOf(context.client.ip);
  const { isAllowed } = await tenant.transaction((tx) =>
    countTry(tx, subject, network, PASSWORD_LIMIT),
  );
  const isRight = await passwords.verify(password, hash, context.tenantId);
  if (!isAllowed) return "locked";
  return isRight ? "right" : "wrong";
}

/**
 * Asks somebody who is logged in for the password again, before a change that a stolen session must
 * not make. Wrong ones count with those of the login; the right one sets the count back, whatever
 * becomes of the change.
 *
 * @throws AppError `invalid_credentials` also while the account is locked, `overloaded`
 */
export async function confirmPassword(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  userId: number,
  password: string,
): Promise<Account> {
  const [account] = await tenant.query<Account[]>`
    select ${accountColumns} from users u where u.id = ${userId}`;
  const subject = passwordSubject(context, userId);
  const hash = account?.password_hash;
  const result = await checkPassword(tenant, passwords, context, subject, { password, hash });
  if (account && result === "right") {
    const network = networkOf(context.client.ip);
    await tenant.transaction((tx) => forgetFailures(tx, subject, network));
    return account;
  }
  await tenant.transaction((tx) =>
    recordSecurity(tx, {
      action: result === "locked" ? "PASSWORD_CONFIRMATION_LOCKED" : "PASSWORD_CONFIRMATION_FAILED",
      userId,
      userDisplay: account ? displayOf(account) : "",
      client: context.client,
    }),
  );
  throw new AppError("invalid_credentials", "The password is not right.");
}
