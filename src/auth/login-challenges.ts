import { recordSecurity } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { NOTICES } from "../messaging/messages.ts";
import { accountColumns } from "./accounts.ts";
import type { Context } from "./context.ts";
import { completeLogin, type LoggedIn } from "./completed-login.ts";
import { tellUser } from "./notices.ts";
import { acceptCode, invalidCode, sendSmsCode, SMS_LIFETIME_MINUTES } from "./second-factor.ts";
import type { SessionLifetimes } from "./sessions.ts";
import { type Account, displayOf } from "./users.ts";

/** How long the second step may take. */
const CHALLENGE_LIFETIME_MINUTES = 10;

/** What a login with a right password gets where a second factor is on. */
export interface Challenge {
  readonly sessionId: string;
  readonly method: "totp" | "sms";
}

/** Begins the second step; with SMS a code goes out. */
export async function startChallenge(
  tx: TenantSql,
  context: Context,
  account: Account,
  isRemembered: boolean,
): Promise<Challenge> {
  const method = account.two_fa_type ?? "totp";
  const sessionId = randomToken();
  const codeHash = method === "sms" ? await sendSmsCode(tx, context, account) : null;
  await tx`
    insert into login_challenges (
      user_id, token_hash, is_remembered, code_hash, code_expires_at, expires_at
    )
    values (
      ${account.id}, ${sha256(sessionId)}, ${isRemembered}, ${codeHash},
      case when ${codeHash}::bytea is not null
        then now() + make_interval(mins => ${SMS_LIFETIME_MINUTES}::int) end,
      now() + make_interval(mins => ${CHALLENGE_LIFETIME_MINUTES}::int)
    )`;
  recordSecurity(tx, {
    action: "LOGIN_CHALLENGED",
    userId: account.id,
    userDisplay: displayOf(account),
    client: context.client,
    metadata: { method },
  });
  return { sessionId, method };
}

/**
 * Finishes a login with a code of the authenticator app or the SMS, or with a backup code. The row of
 * the challenge is held and deleted: it logs in once.
 *
 * @returns the login; or why not, to be thrown after the commit, since the try is counted: AppError
 *   `invalid_token`, `account_disabled`, `invalid_2fa_code`
 */
export async function finishChallenge(
  tx: TenantSql,
  context: Context,
  { sessionId, code, kind }: { sessionId: string; code: string; kind: "code" | "backup" },
  lifetimes: SessionLifetimes,
): Promise<LoggedIn | AppError> {
  const challenge = await lockChallenge(tx, sessionId);
  if (!challenge) return invalidChallenge();
  if (!challenge.is_active) return new AppError("account_disabled", "This account is disabled.");
  const factor = await acceptCode(
    tx,
    context,
    challenge,
    code,
    kind === "backup" ? { backup: true } : offeredBy(tx, challenge),
  );
  if (!factor) return invalidCode();
  await tx`
    with used as (delete from login_challenges where id = ${challenge.challenge_id})
    update users set last_login = now() where id = ${challenge.id}`;
  if (factor === "backup") await tellUser(tx, context, challenge, NOTICES.backupCodeUsed);
  const how = { isRemembered: challenge.is_remembered, factor };
  return completeLogin(tx, context, challenge, how, lifetimes);
}

/**
 * Sends another code by SMS for a login that is on its way; the older one stops working, the count of
 * failures stays. With an authenticator app there is nothing to send.
 *
 * @throws AppError `invalid_token`, `conflict` when codes do not come by SMS
 */
export async function resendChallenge(
  tx: TenantSql,
  context: Context,
  sessionId: string,
): Promise<void> {
  const challenge = await lockChallenge(tx, sessionId);
  if (!challenge?.is_active) throw invalidChallenge();
  if (challenge.two_fa_type !== "sms") {
    throw new AppError("conflict", "The codes of this account come from an authenticator app.");
  }
  const codeHash = await sendSmsCode(tx, context, challenge);
  await tx`
    update login_challenges set
      code_hash       = ${codeHash},
      code_expires_at = now() + make_interval(mins => ${SMS_LIFETIME_MINUTES}::int)
    where id = ${challenge.challenge_id}`;
  recordSecurity(tx, {
    action: "SECOND_FACTOR_SENT",
    userId: challenge.id,
    userDisplay: displayOf(challenge),
    client: context.client,
  });
}

interface LockedChallenge extends Account {
  challenge_id: number;
  is_remembered: boolean;
  code_hash: Uint8Array | null;
}

/**
 * The challenge and its user; undefined when it has run out, was used or is another tenant's. The user's
 * row is held first, as by whatever else ends challenges: neither waits for what the other holds.
 */
async function lockChallenge(
  tx: TenantSql,
  sessionId: string,
): Promise<LockedChallenge | undefined> {
  await tx`
    select 1 from users
     where id = (select user_id from login_challenges where token_hash = ${sha256(sessionId)})
       for no key update`;
  const [row] = await tx<LockedChallenge[]>`
    select
      ${accountColumns},
      c.id as challenge_id, c.is_remembered,
      case when c.code_expires_at > now() then c.code_hash end as code_hash
    from login_challenges c
    join users u on u.id = c.user_id
    where c.token_hash = ${sha256(sessionId)} and c.expires_at > now()
    for update of c`;
  // A second factor that was turned off meanwhile ends what waited for it.
  return row && row.two_fa_type !== null ? row : undefined;
}

function offeredBy(
  tx: TenantSql,
  { two_fa_type: type, code_hash: codeHash, challenge_id: id }: LockedChallenge,
): Parameters<typeof acceptCode>[4] {
  if (type === "totp") return { totp: true };
  return {
    sms: {
      hash: codeHash ?? undefined,
      take: async (hash) => {
        const taken = await tx`
          update login_challenges set code_hash = null, code_expires_at = null
           where id = ${id} and code_hash = ${hash}
          returning id`;
        return taken.length > 0;
      },
    },
  };
}

function invalidChallenge(): AppError {
  return new AppError("invalid_token", "This login has run out. Log in again.");
}

/** Ends every login of a user that waits for its second factor: the password or the factor changed. */
export async function endChallenges(tx: TenantSql, userId: number): Promise<void> {
  await tx`delete from login_challenges where user_id = ${userId}`;
}
