import { sendVerification } from "../account/email-verification.ts";
import { recordSecurity } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { randomCode, randomToken, sha256 } from "../keys.ts";
import { decoySms, knownNumberSms, signupCodeSms } from "../messaging/messages.ts";
import { networkOf } from "../networks.ts";
import { maskPhone } from "../phones.ts";
import type { Context } from "./context.ts";
import { countTry, type FailureLimit, forgetFailures, isLocked } from "./failures.ts";
import { newUsername, type User } from "./users.ts";

const OTP_DIGITS = 6;
/** How long a code can be entered. ASVS 5.0 6.5.5: at most 10 minutes. */
const OTP_LIFETIME_MINUTES = 10;
/** Wrong codes from one network after which it gets no further try and no further code for a number. */
const OTP_LIMIT: FailureLimit = { triesMax: 3, lockMinutes: 15 };
/**
 * Wrong codes from all networks after which a code is dead: with the codes below at most
 * 30 × 5 / 10^6 to guess one. Its owner asks for another.
 */
const OTP_FAILURES_MAX = 30;
/**
 * Live codes of one number that an entered one is compared with, one a network: the caller's own, then
 * the newest. Who asks for codes from many networks crowds out nobody's own.
 */
const CODES_COMPARED_MAX = 5;
/** How long the proof of a verified number can be used. */
const VERIFICATION_LIFETIME_MINUTES = 15;
/** How long an address stays claimed by somebody who has not shown that it is theirs. */
const UNVERIFIED_EMAIL_HOURS = 24;

/**
 * Begins a sign-up: a code goes out by SMS. A number that has an account gets a message that says so
 * and no code; a network that entered wrong codes gets nothing for a while. The same is written and
 * queued for all of them, and the caller cannot tell.
 */
export async function startSignup(
  tx: TenantSql,
  context: Context,
  signup: { fullName: string; phone: string },
): Promise<void> {
  const { phone, fullName } = signup;
  const code = randomCode(OTP_DIGITS);
  const [isKnown, isBlocked] = await stateOf(tx, context, phone);
  await tx`
    insert into signups as s (primary_mobile, network, full_name, otp_hash, otp_expires_at)
    values (
      ${phone}, ${networkOf(context.client.ip)}::cidr, ${fullName},
      ${isKnown || isBlocked ? null : hashOtp(context, phone, code)},
      now() + make_interval(mins => ${OTP_LIFETIME_MINUTES}::int)
    )
    on conflict (primary_mobile, network) do update set
      -- Whoever has proven the number keeps the name they gave.
      full_name      = case when s.verification_expires_at > now() then s.full_name else excluded.full_name end,
      otp_hash       = excluded.otp_hash,
      otp_failures   = 0,
      otp_expires_at = excluded.otp_expires_at,
      updated_at     = now()`;
  await sendCode(tx, context, "SIGNUP_REQUESTED", { phone, code, isKnown, isSent: !isBlocked });
}

/**
 * Sends a new code for a sign-up that was begun, wherever that was; the older one of this network
 * stops working. For any other number the same work is done, nothing is sent, and the caller cannot
 * tell.
 */
export async function resendOtp(tx: TenantSql, context: Context, phone: string): Promise<void> {
  const code = randomCode(OTP_DIGITS);
  const [isKnown, isBlocked] = await stateOf(tx, context, phone);
  const [row] = await tx`
    insert into signups as s (primary_mobile, network, full_name, otp_hash, otp_expires_at)
    select
      ${phone}::text, ${networkOf(context.client.ip)}::cidr, begun.full_name,
      ${isKnown || isBlocked ? null : hashOtp(context, phone, code)}::bytea,
      now() + make_interval(mins => ${OTP_LIFETIME_MINUTES}::int)
    from (
      select full_name from signups where primary_mobile = ${phone} order by updated_at desc limit 1
    ) as begun
    on conflict (primary_mobile, network) do update set
      otp_hash       = excluded.otp_hash,
      otp_failures   = 0,
      otp_expires_at = excluded.otp_expires_at,
      updated_at     = now()
    returning primary_mobile`;
  const isSent = row !== undefined && !isBlocked;
  await sendCode(tx, context, "OTP_RESENT", { phone, code, isKnown, isSent });
}

interface LiveCode {
  network: string;
  otp_hash: Uint8Array;
  is_expired: boolean;
}

/**
 * Checks a code, whichever network asked for it. Each try is counted before it is looked at, for the
 * network it comes from; the conditional update makes a code count once under parallel tries.
 *
 * @returns the proof, to be shown once to finish the sign-up; or why not, to be thrown after the
 *   commit, since the try is counted: AppError `invalid_otp`, `otp_expired`
 */
export async function verifyOtp(
  tx: TenantSql,
  context: Context,
  { phone, otp }: { phone: string; otp: string },
): Promise<string | AppError> {
  const subject = otpSubject(context, phone);
  const network = networkOf(context.client.ip);
  const { isAllowed } = await countTry(tx, subject, network, OTP_LIMIT);
  const codes = await tx<LiveCode[]>`
    select network::text, otp_hash, otp_expires_at <= now() as is_expired
      from signups
     where primary_mobile = ${phone} and otp_hash is not null
     order by network = ${network}::cidr desc, updated_at desc
     limit ${CODES_COMPARED_MAX}::int`;
  const match = codes.find(({ otp_hash: hash }) =>
    context.keys.isMac(hash, "otp", context.tenantId, phone, otp),
  );
  const token = randomToken();
  const [verified] =
    match && isAllowed && !match.is_expired
      ? await tx`
          update signups set
            otp_hash                = null,
            verification_token_hash = ${sha256(token)},
            verification_expires_at = now() + make_interval(mins => ${VERIFICATION_LIFETIME_MINUTES}::int),
            updated_at              = now()
          where primary_mobile = ${phone}
            and network = ${match.network}::cidr
            and otp_hash = ${match.otp_hash}
          returning primary_mobile`
      : [];
  const entry = { userId: null, userDisplay: maskPhone(phone), client: context.client };
  if (verified) {
    await forgetFailures(tx, subject, network);
    recordSecurity(tx, { action: "OTP_VERIFIED", ...entry });
    return token;
  }
  // A blocked network guesses nothing: its tries do not wear out a code that others are to enter.
  if (!match && isAllowed) await countWrongCode(tx, phone);
  recordSecurity(tx, { action: isAllowed ? "OTP_FAILED" : "OTP_BLOCKED", ...entry });
  return match?.is_expired && isAllowed
    ? new AppError("otp_expired", "The code has expired. Ask for a new one.")
    : new AppError("invalid_otp", "The code is not right.");
}

/**
 * Holds a wrong code against every live one of the number: the right one may not be found by trying.
 * The rows are held in one order, so that parallel tries do not wait for each other in a circle.
 */
async function countWrongCode(tx: TenantSql, phone: string): Promise<void> {
  await tx`
    with live as (
      select network from signups
       where primary_mobile = ${phone} and otp_hash is not null
       order by network
         for update
    )
    update signups s set
      otp_failures = otp_failures + 1,
      otp_hash     = case when otp_failures + 1 < ${OTP_FAILURES_MAX}::int then otp_hash end
    from live
    where s.primary_mobile = ${phone} and s.network = live.network`;
}

/**
 * The name given with a sign-up whose proof would be accepted now, else undefined: asked before the
 * cost of hashing a password.
 */
export async function findVerifiedSignup(
  tx: TenantSql,
  { phone, token }: { phone: string; token: string },
): Promise<{ full_name: string } | undefined> {
  const [signup] = await tx<{ full_name: string }[]>`
    select full_name from signups
     where primary_mobile = ${phone}
       and verification_token_hash = ${sha256(token)}
       and verification_expires_at > now()`;
  return signup;
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
  // The same person's sign-ups from other networks end with this one.
  await tx`delete from signups where primary_mobile = ${signup.phone}`;
  await tx`
    update users set email = null, updated_at = now()
     where email = ${signup.email}
       and email_verified_at is null
       and created_at < now() - make_interval(hours => ${UNVERIFIED_EMAIL_HOURS}::int)`;
  const user = await insertUser(tx, { ...signup, fullName: proven.full_name });
  recordSecurity(tx, {
    action: "SIGNUP_COMPLETED",
    userId: user.id,
    userDisplay: signup.email,
    client: context.client,
  });
  await sendVerification(tx, context, user.id, signup.email);
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
    const taken = violatedUnique(error);
    if (taken === undefined) throw error;
    const isEmail = taken === "users_email_key";
    throw new AppError(
      "conflict",
      isEmail ? "This e-mail address has an account." : "This phone number has an account.",
      { cause: error },
    );
  }
}

/** Whether a number has an account, and whether the caller's network may have no code for it now. */
async function stateOf(
  tx: TenantSql,
  context: Context,
  phone: string,
): Promise<[isKnown: boolean, isBlocked: boolean]> {
  const known = await tx`select 1 from users where primary_mobile = ${phone}`;
  const network = networkOf(context.client.ip);
  return [known.length > 0, await isLocked(tx, otpSubject(context, phone), network)];
}

async function sendCode(
  tx: TenantSql,
  { messages, tenantId, client }: Context,
  action: "SIGNUP_REQUESTED" | "OTP_RESENT",
  {
    phone,
    code,
    isKnown,
    isSent,
  }: { phone: string; code: string; isKnown: boolean; isSent: boolean },
): Promise<void> {
  recordSecurity(tx, { action, userId: null, userDisplay: maskPhone(phone), client });
  const sms = isKnown ? knownNumberSms(phone) : signupCodeSms(phone, code, OTP_LIFETIME_MINUTES);
  await messages.add(tx, tenantId, isSent ? sms : decoySms(phone), OTP_LIFETIME_MINUTES * 60);
}

/** Keyed: a million codes are tried in a second against a hash that is not. */
function hashOtp({ keys, tenantId }: Context, phone: string, code: string): Buffer {
  return keys.mac("otp", tenantId, phone, code);
}

/** What wrong codes for a number are counted on. */
function otpSubject({ keys, tenantId }: Context, phone: string): Buffer {
  return keys.mac("login-failures", tenantId, "otp", phone);
}
