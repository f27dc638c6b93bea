import postgres from "postgres";
import { recordSecurity } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { isEqual, randomCode, randomToken, sha256 } from "../keys.ts";
import { knownNumberSms, signupCodeSms } from "../messaging/messages.ts";
import { queueMessage } from "../messaging/queue.ts";
import { maskPhone } from "../phones.ts";
import type { Context } from "./context.ts";
import { newUsername, type User } from "./users.ts";

const OTP_DIGITS = 6;
/** How long a code can be entered. ASVS 5.0 6.5.5: at most 10 minutes. */
const OTP_LIFETIME_MINUTES = 10;
/** Wrong codes after which the code is dead and the number blocked: 3 in 10^6 to guess one. */
const OTP_FAILURES_MAX = 3;
const OTP_BLOCK_MINUTES = 15;
/** How long the proof of a verified number can be used. */
const VERIFICATION_LIFETIME_MINUTES = 15;
/** How long an address stays claimed by somebody who has not shown that it is theirs. */
const UNVERIFIED_EMAIL_HOURS = 24;

/** SQLSTATE of a unique constraint that was hit. */
const UNIQUE_VIOLATION = "23505";

/**
 * Begins a sign-up: a code goes out by SMS. A number that has an account gets a message that says so
 * and no code; the same is written and queued for both, and the caller cannot tell. Nothing is sent
 * to a number that is blocked after wrong codes.
 */
export async function startSignup(
  tx: TenantSql,
  context: Context,
  signup: { fullName: string; phone: string },
): Promise<void> {
  const code = randomCode(OTP_DIGITS);
  const isKnown = await hasAccount(tx, signup.phone);
  const [row] = await tx`
    insert into signups as s (primary_mobile, full_name, otp_hash, otp_expires_at)
    values (
      ${signup.phone}, ${signup.fullName}, ${isKnown ? null : hashOtp(context, signup.phone, code)},
      now() + make_interval(mins => ${OTP_LIFETIME_MINUTES}::int)
    )
    on conflict (primary_mobile) do update set
      -- Whoever has proven the number keeps the name they gave.
      full_name      = case when s.verification_expires_at > now() then s.full_name else excluded.full_name end,
      otp_hash       = excluded.otp_hash,
      otp_failures   = case when s.otp_expires_at > now() then s.otp_failures else 0 end,
      otp_expires_at = excluded.otp_expires_at,
      blocked_until  = null,
      updated_at     = now()
    where s.blocked_until is null or s.blocked_until <= now()
    returning primary_mobile`;
  await recordSecurity(tx, {
    action: "SIGNUP_REQUESTED",
    userId: null,
    userDisplay: maskPhone(signup.phone),
    client: context.client,
  });
  if (row) await sendCode(tx, context, signup.phone, code, isKnown);
}

/**
 * Sends a new code for a sign-up that was begun; the older one stops working. For any other number
 * nothing happens, and the caller cannot tell.
 */
export async function resendOtp(tx: TenantSql, context: Context, phone: string): Promise<void> {
  const code = randomCode(OTP_DIGITS);
  const isKnown = await hasAccount(tx, phone);
  const [row] = await tx`
    update signups set
      otp_hash       = ${isKnown ? null : hashOtp(context, phone, code)},
      otp_failures   = case when otp_expires_at > now() then otp_failures else 0 end,
      otp_expires_at = now() + make_interval(mins => ${OTP_LIFETIME_MINUTES}::int),
      blocked_until  = null,
      updated_at     = now()
    where primary_mobile = ${phone}
      and (blocked_until is null or blocked_until <= now())
    returning primary_mobile`;
  await recordSecurity(tx, {
    action: "OTP_RESENT",
    userId: null,
    userDisplay: maskPhone(phone),
    client: context.client,
  });
  if (row) await sendCode(tx, context, phone, code, isKnown);
}

/**
 * Checks a code. The row is locked, so of parallel tries with the right code one succeeds, and wrong
 * ones are counted one by one.
 *
 * @returns the proof, to be shown once to finish the sign-up; or why not, to be thrown after the
 *   commit, since the try is counted: AppError `invalid_otp`, `otp_expired`
 */
export async function verifyOtp(
  tx: TenantSql,
  context: Context,
  { phone, otp }: { phone: string; otp: string },
): Promise<string | AppError> {
  const [signup] = await tx<
    { otp_hash: Uint8Array | null; is_expired: boolean; is_blocked: boolean; failures: number }[]
  >`
    select
      otp_hash,
      otp_expires_at <= now()              as is_expired,
      coalesce(blocked_until > now(), false) as is_blocked,
      otp_failures                         as failures
    from signups
    where primary_mobile = ${phone}
    for update`;
  const isRight =
    signup?.otp_hash !== undefined &&
    signup.otp_hash !== null &&
    isEqual(signup.otp_hash, hashOtp(context, phone, otp));
  if (!signup || signup.is_blocked) return invalidOtp();
  if (signup.is_expired)
    return new AppError("otp_expired", "The code has expired. Ask for a new one.");
  const userDisplay = maskPhone(phone);
  if (!isRight) {
    const isLast = signup.failures + 1 >= OTP_FAILURES_MAX;
    await tx`
      update signups set
        otp_failures  = ${isLast ? 0 : signup.failures + 1},
        otp_hash      = case when ${isLast} then null else otp_hash end,
        blocked_until = case when ${isLast} then now() + make_interval(mins => ${OTP_BLOCK_MINUTES}::int) end,
        updated_at    = now()
      where primary_mobile = ${phone}`;
    await recordSecurity(tx, {
      action: "OTP_FAILED",
      userId: null,
      userDisplay,
      client: context.client,
    });
    return invalidOtp();
  }
  const token = randomToken();
  await tx`
    update signups set
      otp_hash                = null,
      otp_failures            = 0,
      verification_token_hash = ${sha256(token)},
      verification_expires_at = now() + make_interval(mins => ${VERIFICATION_LIFETIME_MINUTES}::int),
      updated_at              = now()
    where primary_mobile = ${phone}`;
  await recordSecurity(tx, {
    action: "OTP_VERIFIED",
    userId: null,
    userDisplay,
    client: context.client,
  });
  return token;
}

/** Whether a proof would be accepted now: asked before the cost of hashing a password. */
export async function isVerified(
  query: TenantSql,
  { phone, token }: { phone: string; token: string },
): Promise<boolean> {
  const rows = await query`
    select 1 from signups
     where primary_mobile = ${phone}
       and verification_token_hash = ${sha256(token)}
       and verification_expires_at > now()`;
  return rows.length > 0;
}

/**
 * Makes the user of a verified number. The deleted row of `signups` makes the proof count once; the
 * unique constraints of `users` arbitrate who gets an address.
 *
 * @throws AppError `invalid_token` without a live proof, `conflict` when the address has an owner (the
 *   proof then stays good for another try)
 */
export async function finishSignup(
  tx: TenantSql,
  context: Context,
  signup: { phone: string; token: string; email: string; passwordHash: string },
): Promise<User> {
  const [proven] = await tx<{ full_name: string }[]>`
    delete from signups
     where primary_mobile = ${signup.phone}
       and verification_token_hash = ${sha256(signup.token)}
       and verification_expires_at > now()
    returning full_name`;
  if (!proven) throw invalidVerification();
  await tx`
    update users set email = null, updated_at = now()
     where email = ${signup.email}
       and email_verified_at is null
       and created_at < now() - make_interval(hours => ${UNVERIFIED_EMAIL_HOURS}::int)`;
  const user = await insertUser(tx, { ...signup, fullName: proven.full_name });
  await recordSecurity(tx, {
    action: "SIGNUP_COMPLETED",
    userId: user.id,
    userDisplay: signup.email,
    client: context.client,
  });
  return user;
}

/** The refusal of a proof that is wrong, used or too old. */
export function invalidVerification(): AppError {
  return new AppError(
    "invalid_token",
    "The verification token is not valid. Verify the number again.",
  );
}

async function insertUser(
  tx: TenantSql,
  user: { fullName: string; email: string; phone: string; passwordHash: string },
): Promise<User> {
  try {
    const [row] = await tx<User[]>`
      insert into users (username, full_name, email, primary_mobile, password_hash, phone_verified_at)
      values (${newUsername()}, ${user.fullName}, ${user.email}, ${user.phone}, ${user.passwordHash}, now())
      returning id, account_uid, username, full_name, email, primary_mobile`;
    if (!row) throw new Error("The user was not created");
    return row;
  } catch (error) {
    if (!(error instanceof postgres.PostgresError) || error.code !== UNIQUE_VIOLATION) throw error;
    const isEmail = error.constraint_name === "users_email_key";
    throw new AppError(
      "conflict",
      isEmail ? "This e-mail address has an account." : "This phone number has an account.",
      { cause: error },
    );
  }
}

async function hasAccount(tx: TenantSql, phone: string): Promise<boolean> {
  const rows = await tx`select 1 from users where primary_mobile = ${phone}`;
  return rows.length > 0;
}

async function sendCode(
  tx: TenantSql,
  { keys, tenantId }: Context,
  phone: string,
  code: string,
  isKnown: boolean,
): Promise<void> {
  const message = isKnown
    ? knownNumberSms(phone)
    : signupCodeSms(phone, code, OTP_LIFETIME_MINUTES);
  await queueMessage(tx, keys, tenantId, message, OTP_LIFETIME_MINUTES * 60);
}

/** Keyed: a million codes are tried in a second against a hash that is not. */
function hashOtp({ keys, tenantId }: Context, phone: string, code: string): Buffer {
  return keys.mac("otp", tenantId, phone, code);
}

function invalidOtp(): AppError {
  return new AppError("invalid_otp", "The code is not right.");
}
