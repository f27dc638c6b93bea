import { countTry, EVERYWHERE, type FailureLimit, forgetFailures } from "../auth/failures.ts";
import type { PasswordHasher } from "../auth/passwords.ts";
import type { StartedSession } from "../auth/sessions.ts";
import { findTotpStep } from "../auth/totp.ts";
import type { AdminConnection } from "../db/admin.ts";
import type { AdminPool } from "../db/admin-pool.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { networkOf } from "../networks.ts";
import { type OperatorContext, PLATFORM_ID } from "./context.ts";
import { recordOperatorAction } from "./operator-log.ts";
import { startOperatorSession } from "./operator-sessions.ts";
import { findOperator, type Operator } from "./operators.ts";

/** Wrong passwords in a row, from one network, after which an operator's account is locked for it. */
const PASSWORD_LIMIT: FailureLimit = { triesMax: 5, lockMinutes: 30 };
/** Wrong codes in a row, from wherever: whoever gets here knows the password. */
const CODE_LIMIT: FailureLimit = { triesMax: 5, lockMinutes: 30 };

/** How long the second step of a login can be taken. */
const CHALLENGE_MINUTES = 10;

/** What an operator's authenticator secret is sealed for. */
export function operatorSecretContext(operatorId: number): string {
  return `second factor of operator ${operatorId}`;
}

/** A login that waits for its code. */
export interface OperatorChallenge {
  readonly challenge: string;
}

export type OperatorLogin = StartedSession & { readonly operatorId: number };

/**
 * Checks a password and starts a session, or asks for the code. An unknown address, a wrong password and a
 * locked account cost the same statements and one hash, and are refused alike.
 *
 * @throws AppError `invalid_credentials`, `overloaded`
 */
export async function logInOperator(
  pool: AdminPool,
  passwords: PasswordHasher,
  context: OperatorContext,
  { email, password }: { email: string; password: string },
): Promise<OperatorLogin | OperatorChallenge> {
  const { keys, client } = context;
  const network = networkOf(client.ip);
  const account = await pool.use((admin) => findOperator(admin.query, email));
  const subject = account
    ? keys.mac("login-failures", PLATFORM_ID, "operator", account.id)
    : keys.mac("login-failures", PLATFORM_ID, "unknown", email);
  // Counted before it is made, in a transaction of its own: no number of parallel tries gets more.
  const { isAllowed } = await pool.transaction(async (admin) => {
    await useFailures(admin);
    return countTry(admin.query, subject, network, PASSWORD_LIMIT);
  });
  const isRight = await passwords.verify(password, account?.password_hash);
  return pool
    .transaction(async (admin) => {
      const isAccepted = isAllowed && isRight && account?.is_active === true;
      if (!account || !isAccepted) {
        await recordOperatorAction(admin.query, {
          action: isAllowed ? "LOGIN_FAILED" : "LOGIN_LOCKED",
          operator: { id: account?.id ?? null, email },
          client,
        });
        return undefined;
      }
      await useFailures(admin);
      await forgetFailures(admin.query, subject, network);
      // The password, or the account, may have changed while the hash was computed.
      const [current] = await admin.query<Operator[]>`
      select id, email, is_active, totp_confirmed_at is not null as has_second_factor
        from platform.operators
       where id = ${account.id} and is_active and password_hash = ${account.password_hash}
         for no key update`;
      if (!current) return undefined;
      if (current.has_second_factor) return startChallenge(admin, context, current);
      return {
        ...(await startOperatorSession(admin.query, context, current)),
        operatorId: current.id,
      };
    })
    .then((result) => {
      // After the commit: what failed is in the log.
      if (!result)
        throw new AppError("invalid_credentials", "The address or the password is not right.");
      return result;
    });
}

async function startChallenge(
  admin: AdminConnection,
  { client }: OperatorContext,
  operator: Operator,
): Promise<OperatorChallenge> {
  const challenge = randomToken();
  await admin.query`delete from platform.challenges where expires_at <= now()`;
  await admin.query`
    insert into platform.challenges (operator_id, token_hash, expires_at)
    values (
      ${operator.id}, ${sha256(challenge)}, now() + make_interval(mins => ${CHALLENGE_MINUTES}::int)
    )`;
  await recordOperatorAction(admin.query, { action: "LOGIN_CHALLENGED", operator, client });
  return { challenge };
}

/**
 * Finishes a login with a code of the authenticator app. Each code and each challenge is good once, however
 * many are shown at once.
 *
 * @throws AppError `invalid_token` for a challenge that is not there, used or too old; `invalid_2fa_code`
 */
export async function finishOperatorLogin(
  pool: AdminPool,
  context: OperatorContext,
  challenge: string,
  code: string,
): Promise<OperatorLogin> {
  const result = await pool.transaction(async (admin) => {
    const [row] = await admin.query<{ id: number; operator_id: number }[]>`
      select id, operator_id from platform.challenges
       where token_hash = ${sha256(challenge)} and expires_at > now()
         for update`;
    if (!row)
      return new AppError(
        "invalid_token",
        "Log in again: this login was not begun, or too long ago.",
      );
    const operator = await lockOperator(admin, row.operator_id);
    if (!operator?.is_active) return new AppError("invalid_token", "Log in again.");
    if (!(await acceptOperatorCode(admin, context, operator, code))) return invalidCode();
    await admin.query`delete from platform.challenges where id = ${row.id}`;
    const session = await startOperatorSession(admin.query, context, operator);
    return { ...session, operatorId: operator.id };
  });
  if (result instanceof AppError) throw result;
  return result;
}

/**
 * Asks an operator who is logged in for their password, counted as at login.
 *
 * @throws AppError `invalid_credentials`, `overloaded`
 */
export async function confirmOperatorPassword(
  pool: AdminPool,
  passwords: PasswordHasher,
  { keys, client }: OperatorContext,
  operator: Operator,
  password: string,
): Promise<void> {
  const subject = keys.mac("login-failures", PLATFORM_ID, "operator", operator.id);
  const network = networkOf(client.ip);
  const { account, isAllowed } = await pool.transaction(async (admin) => {
    const found = await findOperator(admin.query, operator.email);
    await useFailures(admin);
    const counted = await countTry(admin.query, subject, network, PASSWORD_LIMIT);
    return { account: found, isAllowed: counted.isAllowed };
  });
  const isRight = await passwords.verify(password, account?.password_hash);
  if (!isAllowed || !isRight)
    throw new AppError("invalid_credentials", "The password is not right.");
  await pool.transaction(async (admin) => {
    await useFailures(admin);
    await forgetFailures(admin.query, subject, network);
  });
}

/** The operator, whose row is held to the end of the transaction. */
export async function lockOperator(
  admin: AdminConnection,
  id: number,
): Promise<Operator | undefined> {
  const [row] = await admin.query<Operator[]>`
    select id, email, is_active, totp_confirmed_at is not null as has_second_factor
      from platform.operators where id = ${id} for no key update`;
  return row;
}

/**
 * Checks a code of the operator's app. The try is counted first, whatever comes of it; the caller commits
 * either way.
 */
export async function acceptOperatorCode(
  admin: AdminConnection,
  { keys, client }: OperatorContext,
  operator: Operator,
  code: string,
): Promise<boolean> {
  const subject = keys.mac("login-failures", PLATFORM_ID, "second factor", operator.id);
  await useFailures(admin);
  const { isAllowed } = await countTry(admin.query, subject, EVERYWHERE, CODE_LIMIT);
  if (isAllowed && (await takeStep(admin, keys, operator.id, code))) {
    await forgetFailures(admin.query, subject);
    return true;
  }
  await recordOperatorAction(admin.query, {
    action: isAllowed ? "SECOND_FACTOR_FAILED" : "SECOND_FACTOR_LOCKED",
    operator,
    client,
  });
  return false;
}

/** Of codes for one step, however many, the conditional update accepts one. */
async function takeStep(
  admin: AdminConnection,
  keys: OperatorContext["keys"],
  operatorId: number,
  code: string,
): Promise<boolean> {
  const [row] = await admin.query<{ sealed_secret: Uint8Array | null }[]>`
    select sealed_secret from platform.operators where id = ${operatorId}`;
  if (!row?.sealed_secret) return false;
  const secret = keys.open(row.sealed_secret, operatorSecretContext(operatorId));
  const step = findTotpStep(secret, code);
  if (step === undefined) return false;
  const taken = await admin.query`
    update platform.operators set last_step = ${step}
     where id = ${operatorId} and last_step < ${step}
    returning id`;
  return taken.length > 0;
}

export function invalidCode(): AppError {
  return new AppError("invalid_2fa_code", "The code is not right, or it was used before.");
}

/** Failures are counted in `platform.failures` as they are in a tenant's: by a table on the path. */
async function useFailures(admin: AdminConnection): Promise<void> {
  await admin.execute("set local search_path to platform");
}
