import { recordSecurity } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { randomCode, sha256 } from "../keys.ts";
import { NOTICES, secondFactorSms } from "../messaging/messages.ts";
import type { Context } from "./context.ts";
import { countTry, EVERYWHERE, type FailureLimit, forgetFailures } from "./failures.ts";
import { tellUser } from "./notices.ts";
import { findTotpStep } from "./totp.ts";
import { type Account, displayOf } from "./users.ts";

/** Digits of a code by SMS. */
const SMS_DIGITS = 6;
/** How long a code by SMS can be entered. ASVS 5.0 6.5.5: at most 10 minutes. */
export const SMS_LIFETIME_MINUTES = 10;

/**
 * Wrong codes of a user in a row after which none is accepted: at three valid codes of 10^6 a guesser
 * gets 5 tries in 30 minutes, 1 in 1,400 in a day. They count whatever the kind of code, the login it
 * is for and the network it comes from: whoever gets here knows the password already, is no stranger,
 * and the user is told.
 */
const CODE_LIMIT: FailureLimit = { triesMax: 5, lockMinutes: 30 };

/** Which kind of code was accepted. */
export type Factor = "totp" | "sms" | "backup";

/** Somewhere that the code of an SMS is kept: with a login on its way, or with the user's settings. */
export interface SmsCode {
  /** Undefined when none was sent or it has run out. */
  readonly hash: Uint8Array | undefined;
  /** Takes the code, once: false when another request was first. */
  readonly take: (hash: Uint8Array) => Promise<boolean>;
}

/** What of a user the second factor needs. */
export type FactorOwner = Pick<
  Account,
  "id" | "email" | "username" | "email_verified" | "primary_mobile"
>;

/**
 * Checks one code against what is offered. The try is counted first, and the count's row is held to
 * the end of the transaction: a user's tries come one after the other. The caller commits whatever
 * the answer is.
 */
export async function acceptCode(
  tx: TenantSql,
  context: Context,
  user: FactorOwner,
  code: string,
  offered: { totp?: boolean; sms?: SmsCode; backup?: boolean },
): Promise<Factor | undefined> {
  const subject = codeSubject(context, user.id);
  const { isAllowed, isLast } = await countTry(tx, subject, EVERYWHERE, CODE_LIMIT);
  const factor = isAllowed ? await findFactor(tx, context, user.id, code, offered) : undefined;
  if (factor) {
    await forgetFailures(tx, subject);
    return factor;
  }
  recordSecurity(tx, {
    action: isAllowed ? "SECOND_FACTOR_FAILED" : "SECOND_FACTOR_LOCKED",
    userId: user.id,
    userDisplay: displayOf(user),
    client: context.client,
  });
  if (isLast) await tellUser(tx, context, user, NOTICES.secondFactorLocked);
  return undefined;
}

/** The refusal of a code, whatever is wrong with it. */
export function invalidCode(): AppError {
  return new AppError("invalid_2fa_code", "The code is not right, or it was used before.");
}

/** What wrong codes of a user are counted on. */
export function codeSubject({ keys, tenantId }: Context, userId: number): Buffer {
  return keys.mac("login-failures", tenantId, "second factor", userId);
}

async function findFactor(
  tx: TenantSql,
  context: Context,
  userId: number,
  code: string,
  { totp = false, sms, backup = false }: Parameters<typeof acceptCode>[4],
): Promise<Factor | undefined> {
  const digits = code.replace(/\s/g, "");
  const isShown = DIGITS.test(digits);
  if (totp && isShown && (await acceptTotp(tx, context, userId, digits))) return "totp";
  if (
    sms?.hash &&
    isShown &&
    context.keys.isMac(sms.hash, "second-factor-code", context.tenantId, userId, digits) &&
    (await sms.take(sms.hash))
  ) {
    return "sms";
  }
  if (backup && (await acceptBackupCode(tx, userId, code))) return "backup";
  return undefined;
}

/** What an app or an SMS shows. Anything else is not compared: it may differ in bytes, not in length. */
const DIGITS = /^\d{6}$/;

/** Of codes for one step, however many and however parallel, the conditional update accepts one. */
async function acceptTotp(
  tx: TenantSql,
  context: Context,
  userId: number,
  code: string,
): Promise<boolean> {
  const [row] = await tx<{ sealed_secret: Uint8Array }[]>`
    select sealed_secret from second_factors where user_id = ${userId} and method = 'totp'`;
  if (!row) return false;
  const secret = context.keys.open(row.sealed_secret, secretContext(context.tenantId, userId));
  const step = findTotpStep(secret, code);
  if (step === undefined) return false;
  // Sealed with an earlier key: this is when it is sealed anew.
  const resealed = context.keys.isOutdated(row.sealed_secret)
    ? context.keys.seal(secret, secretContext(context.tenantId, userId))
    : row.sealed_secret;
  const accepted = await tx`
    update second_factors set last_step = ${step}, sealed_secret = ${resealed}
     where user_id = ${userId} and last_step < ${step}
    returning user_id`;
  return accepted.length > 0;
}

async function acceptBackupCode(tx: TenantSql, userId: number, code: string): Promise<boolean> {
  const accepted = await tx`
    update backup_codes set used_at = now()
     where user_id = ${userId} and code_hash = ${hashBackupCode(code)} and used_at is null
    returning id`;
  return accepted.length > 0;
}

/** What a user's authenticator secret is sealed for: another user's or tenant's does not open. */
export function secretContext(tenantId: number, userId: number): string {
  return `second factor of user ${userId} of tenant ${tenantId}`;
}

/** Backup codes have 120 random bits: a fast hash is enough. Case, dashes and spaces do not count. */
export function hashBackupCode(code: string): Buffer {
  return sha256(code.toUpperCase().replace(/[\s-]/g, ""));
}

/** Sends a code by SMS with the caller's transaction. */
export async function sendSmsCode(
  tx: TenantSql,
  { keys, messages, tenantId }: Context,
  user: Pick<Account, "id" | "primary_mobile">,
): Promise<Buffer> {
  const code = randomCode(SMS_DIGITS);
  const sms = secondFactorSms(user.primary_mobile, code, SMS_LIFETIME_MINUTES);
  await messages.add(tx, tenantId, sms, SMS_LIFETIME_MINUTES * 60);
  return keys.mac("second-factor-code", tenantId, user.id, code);
}
