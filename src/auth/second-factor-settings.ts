import { randomBytes } from "node:crypto";
import { Secret } from "otpauth";
import { recordSecurity, type SecurityAction } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { NOTICES } from "../messaging/messages.ts";
import { accountColumns } from "./accounts.ts";
import type { Context } from "./context.ts";
import { endChallenges } from "./login-challenges.ts";
import { tellUser } from "./notices.ts";
import {
  acceptCode,
  codeSubject,
  hashBackupCode,
  invalidCode,
  secretContext,
  sendSmsCode,
  SMS_LIFETIME_MINUTES,
  type SmsCode,
} from "./second-factor.ts";
import { forgetFailures } from "./failures.ts";
import { newTotpSecret } from "./totp.ts";
import { type Account, displayOf } from "./users.ts";

const BACKUP_CODES = 10;
/** 24 characters of base32, 120 bits: ASVS 5.0 6.5.2 asks for 112 where a fast hash is all there is. */
const BACKUP_CODE_BYTES = 15;

/** What a user needs to set up the second factor; shown once. */
export interface Enrolment {
  readonly method: "totp" | "sms";
  readonly secret: string | null;
  /** The `otpauth://` URI that apps read from a QR code. */
  readonly qr_code: string | null;
  readonly backup_codes: string[];
  readonly confirmed: false;
}

/**
 * Begins to turn the second factor on: it takes effect with {@link confirmSecondFactor}. Beginning
 * again replaces what was begun. The caller has confirmed the password.
 *
 * @throws AppError `conflict` while it is on
 */
export async function enrolSecondFactor(
  tx: TenantSql,
  context: Context,
  user: Account,
  { method, issuer }: { method: "totp" | "sms"; issuer: string },
): Promise<Enrolment> {
  await lockFactor(tx, user.id, "off");
  const { secret, uri } = newTotpSecret(issuer, displayOf(user));
  const sealed =
    method === "totp" ? context.keys.seal(secret, secretContext(context.tenantId, user.id)) : null;
  const codeHash = method === "sms" ? await sendSmsCode(tx, context, user) : null;
  await tx`
    insert into second_factors as f (user_id, method, sealed_secret, code_hash, code_expires_at)
    values (
      ${user.id}, ${method}, ${sealed}, ${codeHash},
      case when ${codeHash}::bytea is not null
        then now() + make_interval(mins => ${SMS_LIFETIME_MINUTES}::int) end
    )
    on conflict (user_id) do update set
      method          = excluded.method,
      sealed_secret   = excluded.sealed_secret,
      last_step       = 0,
      code_hash       = excluded.code_hash,
      code_expires_at = excluded.code_expires_at,
      confirmed_at    = null,
      created_at      = now()`;
  const backupCodes = await replaceBackupCodes(tx, user.id);
  await record(tx, context, user, "SECOND_FACTOR_ENROLLED", { method });
  return {
    method,
    secret: method === "totp" ? secret : null,
    qr_code: method === "totp" ? uri : null,
    backup_codes: backupCodes,
    confirmed: false,
  };
}

/**
 * Turns the second factor on with its first code.
 *
 * @returns why not, to be thrown after the commit, since the try is counted: AppError
 *   `invalid_2fa_code`, `conflict` while it is on or nothing was begun
 */
export async function confirmSecondFactor(
  tx: TenantSql,
  context: Context,
  userId: number,
  code: string,
): Promise<AppError | undefined> {
  const user = await lockFactor(tx, userId, "off");
  const [factor] = await tx<{ method: "totp" | "sms" }[]>`
    select method from second_factors where user_id = ${userId}`;
  if (!factor) return new AppError("conflict", "Begin with settings_enable-2fa/.");
  const sms = await settingsCode(tx, userId);
  const isTotp = factor.method === "totp";
  const accepted = await acceptCode(tx, context, user, code, isTotp ? { totp: true } : { sms });
  if (!accepted) return invalidCode();
  await tx`update second_factors set confirmed_at = now() where user_id = ${userId}`;
  await tx`
    update users set two_fa_type = ${factor.method}, updated_at = now() where id = ${userId}`;
  await record(tx, context, user, "SECOND_FACTOR_ENABLED", { method: factor.method });
  await tellUser(tx, context, user, NOTICES.secondFactorEnabled);
  return undefined;
}

/**
 * Turns the second factor off, with a code of it or a backup code. The caller has confirmed the
 * password.
 *
 * @returns why not, to be thrown after the commit: AppError `invalid_2fa_code`
 * @throws AppError `conflict` while it is off
 */
export async function disableSecondFactor(
  tx: TenantSql,
  context: Context,
  userId: number,
  code: string,
): Promise<AppError | undefined> {
  const user = await lockFactor(tx, userId, "on");
  const sms = await settingsCode(tx, userId);
  const isTotp = user.two_fa_type === "totp";
  const accepted = await acceptCode(tx, context, user, code, {
    ...(isTotp ? { totp: true } : { sms }),
    backup: true,
  });
  if (!accepted) return invalidCode();
  await removeSecondFactor(tx, userId);
  await record(tx, context, user, "SECOND_FACTOR_DISABLED", {});
  await tellUser(tx, context, user, NOTICES.secondFactorDisabled);
  return undefined;
}

/** Takes the second factor from an account, with its backup codes and the logins that wait for it. */
export async function removeSecondFactor(tx: TenantSql, userId: number): Promise<void> {
  await tx`update users set two_fa_type = null, updated_at = now() where id = ${userId}`;
  await tx`delete from second_factors where user_id = ${userId}`;
  await tx`delete from backup_codes where user_id = ${userId}`;
  await endChallenges(tx, userId);
}

/**
 * Makes new backup codes; the older ones die. The caller has confirmed the password.
 *
 * @throws AppError `conflict` while the second factor is off
 */
export async function reissueBackupCodes(
  tx: TenantSql,
  context: Context,
  userId: number,
): Promise<string[]> {
  const user = await lockFactor(tx, userId, "on");
  const codes = await replaceBackupCodes(tx, userId);
  await record(tx, context, user, "BACKUP_CODES_REISSUED", {});
  await tellUser(tx, context, user, NOTICES.backupCodesReissued);
  return codes;
}

/**
 * Sends a code by SMS to whoever is logged in, for a change of the settings.
 *
 * @throws AppError `conflict` when codes do not come by SMS
 */
export async function sendSettingsCode(
  tx: TenantSql,
  context: Context,
  userId: number,
): Promise<void> {
  const user = await getAccount(tx, userId);
  const [factor] = await tx<{ method: string }[]>`
    select method from second_factors where user_id = ${userId} for update`;
  if (factor?.method !== "sms") {
    throw new AppError("conflict", "The codes of this account do not come by SMS.");
  }
  const codeHash = await sendSmsCode(tx, context, user);
  await tx`
    update second_factors set
      code_hash       = ${codeHash},
      code_expires_at = now() + make_interval(mins => ${SMS_LIFETIME_MINUTES}::int)
    where user_id = ${userId}`;
  await record(tx, context, user, "SECOND_FACTOR_SENT", {});
}

/** Sets the count of wrong codes back: with a new password a stranger's tries are over. */
export async function forgetWrongCodes(
  tx: TenantSql,
  context: Context,
  userId: number,
): Promise<void> {
  await forgetFailures(tx, codeSubject(context, userId));
}

/**
 * The user, whose row is held so that changes of one user's second factor come one after the other.
 *
 * @throws AppError `conflict` when the second factor is not as `expected`
 */
async function lockFactor(tx: TenantSql, userId: number, expected: "on" | "off"): Promise<Account> {
  // Not `for update`: entries of the log refer to the row, and would wait.
  await tx`select 1 from users where id = ${userId} for no key update`;
  const user = await getAccount(tx, userId);
  if ((user.two_fa_type === null ? "off" : "on") === expected) return user;
  throw new AppError("conflict", `Two-factor login is ${expected === "on" ? "off" : "on"}.`);
}

async function getAccount(tx: TenantSql, userId: number): Promise<Account> {
  const [user] = await tx<Account[]>`
    select ${accountColumns} from users u where u.id = ${userId}`;
  if (!user) throw new AppError("not_found", "There is no such account.");
  return user;
}

/** The code of the last SMS about settings. */
async function settingsCode(tx: TenantSql, userId: number): Promise<SmsCode> {
  const [row] = await tx<{ code_hash: Uint8Array | null }[]>`
    select code_hash from second_factors where user_id = ${userId} and code_expires_at > now()`;
  return {
    hash: row?.code_hash ?? undefined,
    take: async (hash) => {
      const taken = await tx`
        update second_factors set code_hash = null, code_expires_at = null
         where user_id = ${userId} and code_hash = ${hash}
        returning user_id`;
      return taken.length > 0;
    },
  };
}

async function replaceBackupCodes(tx: TenantSql, userId: number): Promise<string[]> {
  const codes = Array.from({ length: BACKUP_CODES }, newBackupCode);
  await tx`delete from backup_codes where user_id = ${userId}`;
  for (const code of codes) {
    await tx`
      insert into backup_codes (user_id, code_hash) values (${userId}, ${hashBackupCode(code)})`;
  }
  return codes;
}

/** Six groups of four characters that are not mistaken for each other (RFC 4648 §6). */
function newBackupCode(): string {
  const text = new Secret({ buffer: new Uint8Array(randomBytes(BACKUP_CODE_BYTES)).buffer }).base32;
  return text.match(/.{4}/g)?.join("-") ?? text;
}

async function record(
  tx: TenantSql,
  { client }: Context,
  user: Account,
  action: SecurityAction,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  recordSecurity(tx, {
    action,
    userId: user.id,
    userDisplay: displayOf(user),
    client,
    metadata,
  });
}
