import { isIPv4 } from "node:net";
import { recordSecurity } from "../audit/security-log.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { maskEmail, maskPhone, parsePhone } from "../phones.ts";
import type { PasswordHasher } from "./passwords.ts";
import type { Context } from "./context.ts";
import { startSession, type StartedSession } from "./sessions.ts";
import type { User } from "./users.ts";

/** Wrong passwords in a row, from one network, after which the account is locked for it. */
const LOGIN_FAILURES_MAX = 5;
const LOGIN_LOCK_MINUTES = 30;

export interface LoginRequest {
  readonly identifier: string;
  readonly password: string;
  readonly isRemembered: boolean;
}

interface Account extends User {
  password_hash: string | null;
  is_active: boolean;
}

/**
 * Checks a password and starts a session. An unknown identifier, a wrong password, an account without
 * one and a locked account cost the same statements and one hash, and are refused alike.
 *
 * Every try is counted before the password is looked at, in one statement on one row, so that no
 * number of parallel tries gets more than {@link LOGIN_FAILURES_MAX}; a success sets the count back.
 *
 * @throws AppError `invalid_credentials`; `account_disabled` after the right password; `overloaded`
 */
export async function login(
  tenant: TenantConnection,
  passwords: PasswordHasher,
  context: Context,
  { identifier, password, isRemembered }: LoginRequest,
  sessionSeconds: number,
): Promise<{ user: User; session: StartedSession }> {
  const account = await findAccount(tenant, identifier);
  const failureKey = account
    ? context.keys.mac("login-failures", context.tenantId, "user", account.id)
    : context.keys.mac("login-failures", context.tenantId, "unknown", identifier.toLowerCase());
  const network = networkOf(context.client.ip);
  const isAllowed = await tenant.transaction((tx) => countTry(tx, failureKey, network));
  const isRight = await passwords.verify(password, account?.password_hash);
  if (!account || !isRight || !isAllowed) {
    await tenant.transaction((tx) =>
      recordSecurity(tx, {
        action: isAllowed ? "LOGIN_FAILED" : "LOGIN_LOCKED",
        userId: account?.id ?? null,
        userDisplay: maskIdentifier(identifier),
        client: context.client,
      }),
    );
    throw new AppError("invalid_credentials", "The identifier or the password is not right.");
  }
  if (!account.is_active) {
    await tenant.transaction((tx) =>
      recordSecurity(tx, {
        action: "LOGIN_FAILED",
        userId: account.id,
        userDisplay: maskIdentifier(identifier),
        client: context.client,
        metadata: { reason: "account_disabled" },
      }),
    );
    throw new AppError("account_disabled", "This account is disabled.");
  }
  const { password_hash: hash, is_active: _, ...user } = account;
  const newHash = hash && passwords.isOutdated(hash) ? await passwords.hash(password) : undefined;
  return tenant.transaction(async (tx) => {
    await tx`delete from login_failures where account = ${failureKey} and network = ${network}::cidr`;
    // The password, or the account, may have changed while the hash was computed.
    const [unchanged] = await tx`
      update users
         set last_login = now(), password_hash = coalesce(${newHash ?? null}, password_hash)
       where id = ${user.id} and is_active and password_hash = ${hash}
      returning id`;
    if (!unchanged)
      throw new AppError("invalid_credentials", "The identifier or the password is not right.");
    const session = await startSession(tx, context, user.id, sessionSeconds);
    await recordSecurity(tx, {
      action: "LOGIN_SUCCEEDED",
      userId: user.id,
      userDisplay: user.email ?? user.username,
      client: context.client,
      metadata: { session: session.id, remembered: isRemembered },
    });
    return { user, session };
  });
}

/** The account of an e-mail address, a phone number or a username. */
async function findAccount(
  tenant: TenantConnection,
  identifier: string,
): Promise<Account | undefined> {
  const text = identifier.trim().toLowerCase();
  const [account] = await tenant.query<Account[]>`
    select id, account_uid, username, full_name, email, primary_mobile, password_hash, is_active
      from users
     where email = ${text} or username = ${text} or primary_mobile = ${parsePhone(text) ?? text}
     limit 1`;
  return account;
}

/** Counts a try and says whether it may be made: at most five until one succeeds or time passes. */
async function countTry(tx: TenantSql, account: Buffer, network: string): Promise<boolean> {
  const [row] = await tx<{ is_allowed: boolean }[]>`
    insert into login_failures as f (account, network, failures)
    values (${account}, ${network}::cidr, 1)
    on conflict (account, network) do update set
      failures     = case when f.locked_until <= now() then 1 else f.failures + 1 end,
      locked_until = case
        when f.locked_until <= now() then null
        when f.locked_until is null and f.failures + 1 >= ${LOGIN_FAILURES_MAX}::int
          then now() + make_interval(mins => ${LOGIN_LOCK_MINUTES}::int)
        else f.locked_until
      end,
      updated_at   = now()
    returning failures <= ${LOGIN_FAILURES_MAX}::int as is_allowed`;
  return row?.is_allowed ?? false;
}

/**
 * Whom a failure is held against besides the account: an IPv4 address, or the /64 that an IPv6 host
 * chooses its addresses from (RFC 4291 §2.5.4).
 */
export function networkOf(ip: string): string {
  const address = ip.replace(/^::ffff:(?=\d+\.)/i, "");
  if (isIPv4(address)) return `${address}/32`;
  const [head = "", tail] = address.split("::");
  const groups = head.split(":").filter((group) => group !== "");
  const tailGroups = (tail ?? "").split(":").filter((group) => group !== "");
  if (tail !== undefined) {
    const missing = 8 - groups.length - tailGroups.length;
    groups.push(...Array.from({ length: missing }, () => "0"), ...tailGroups);
  }
  return `${groups.slice(0, 4).join(":")}::/64`;
}

function maskIdentifier(identifier: string): string {
  if (identifier.includes("@")) return maskEmail(identifier).slice(0, 200);
  const phone = parsePhone(identifier);
  return phone ? maskPhone(phone) : `${identifier.slice(0, 2)}***`;
}
