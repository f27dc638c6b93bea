import { recordSecurity } from "../audit/security-log.ts";
import { withoutWaiting } from "../db/async-commit.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { networkOf } from "../networks.ts";
import { accountColumns } from "./accounts.ts";
import type { Context } from "./context.ts";
import { countTry, type FailureLimit, forgetFailures } from "./failures.ts";
import type { PasswordHasher } from "./passwords.ts";
import { Turns } from "./turns.ts";
import { type Account, displayOf } from "./users.ts";

/** Wrong passwords in a row, from one network, after which the account is locked for it. */
const PASSWORD_LIMIT: FailureLimit = { triesMax: 5, lockMinutes: 30 };

/** What wrong passwords of a user are counted on, wherever a password is asked for. */
export function passwordSubject({ keys, tenantId }: Context, userId: number): Buffer {
  return keys.mac("login-failures", tenantId, "user", userId);
}

/** What came of a password that was given: "locked" after too many wrong ones, whatever it was. */
export type PasswordResult = "right" | "wrong" | "locked";

/**
 * Tries on one account from one network that this process has under way: fewer than lock it, since each counts until
 * a right one has set the count back. So right ones, however many at once, do not lock their own account.
 */
const turns = new Turns({ underWayMax: PASSWORD_LIMIT.triesMax - 1, waitingMax: 100 });

/**
 * Counts a try on `subject` from the caller's network and compares the password, in this order: of
 * parallel tries no more than five are worth anything. Without a hash the same work is done. More than four at a
 * time wait, until what came of one is dealt with.
 *
 * @param settle deals with it, and forgets the count after a right one
 * @throws AppError `overloaded`; what `settle` throws
 */
export async function checkPassword<T>(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  subject: Buffer,
  given: { password: string; hash: string | null | undefined },
  settle: (result: PasswordResult) => Promise<T>,
): Promise<T> {
  const network = networkOf(context.client.ip);
  return turns.run(`${subject.toString("base64")} ${network}`, async () =>
    settle(await compare(tenant, passwords, context, subject, network, given)),
  );
}

async function compare(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  subject: Buffer,
  network: string,
  { password, hash }: { password: string; hash: string | null | undefined },
): Promise<PasswordResult> {
  const { isAllowed } = await countTry(withoutWaiting(tenant), subject, network, PASSWORD_LIMIT);
  const isRight = await passwords.verify(password, hash, context.tenantId);
  if (!isAllowed) return "locked";
  return isRight ? "right" : "wrong";
}

/**
 * Sets the count of an account's tries back, after a right one. As they are counted, on a shared connection and without
 * waiting for the disk: a transaction would hold the count's row until its commit is on the disk, and the next try, with
 * all that shares its connection, behind it.
 */
export async function forgetTries(
  tenant: TenantConnection,
  { client }: Context,
  subject: Buffer,
): Promise<void> {
  await forgetFailures(withoutWaiting(tenant), subject, networkOf(client.ip));
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
  const given = { password, hash };
  return checkPassword(tenant, passwords, context, subject, given, async (result) => {
    if (account && result === "right") {
      await forgetTries(tenant, context, subject);
      return account;
    }
    await tenant.transaction(async (tx) =>
      recordSecurity(tx, {
        action:
          result === "locked" ? "PASSWORD_CONFIRMATION_LOCKED" : "PASSWORD_CONFIRMATION_FAILED",
        userId,
        userDisplay: account ? displayOf(account) : "",
        client: context.client,
      }),
    );
    throw new AppError("invalid_credentials", "The password is not right.");
  });
}
