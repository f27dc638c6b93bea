import { randomBytes } from "node:crypto";
import {
  isAuthentic,
  parseRefreshToken,
  REFRESH_GRACE_SECONDS,
  refreshToken,
  SALT_BYTES,
  type StartedSession,
} from "../auth/sessions.ts";
import type { RunSql } from "../db/sql.ts";
import { AppError } from "../errors.ts";
import { type OperatorContext, PLATFORM_ID } from "./context.ts";
import { recordOperatorAction } from "./operator-log.ts";
import type { Operator } from "./operators.ts";

/** How long an operator's login lasts at the longest: a working day. */
const SESSION_HOURS = 12;

const contextOf = ({ keys }: OperatorContext) => ({ keys, tenantId: PLATFORM_ID });

/** Starts a login. */
export async function startOperatorSession(
  query: RunSql,
  context: OperatorContext,
  operator: Operator,
): Promise<StartedSession> {
  const salt = randomBytes(SALT_BYTES);
  const [row] = await query<{ id: number }[]>`
    insert into platform.sessions (operator_id, refresh_salt, expires_at, ip_address)
    values (
      ${operator.id}, ${salt}, now() + make_interval(hours => ${SESSION_HOURS}::int),
      ${context.client.ip}
    )
    returning id`;
  if (!row) throw new Error("The session was not created");
  await purgeStale(query);
  await query`update platform.operators set last_login = now() where id = ${operator.id}`;
  await recordOperatorAction(query, {
    action: "LOGIN_SUCCEEDED",
    operator,
    client: context.client,
    metadata: { session: row.id },
  });
  return { id: row.id, refresh: refreshToken(contextOf(context), row.id, 0, salt) };
}

/** Days for which it is kept who was logged in, and who acted in which tenant; the log keeps it for ever. */
const KEPT_DAYS = 90;

/** Forgets what is of no use any more, with each login: operators are few. */
async function purgeStale(query: RunSql): Promise<void> {
  await query`delete from platform.failures where updated_at < now() - interval '1 day'`;
  await query`
    delete from platform.sessions
     where coalesce(ended_at, expires_at) < now() - make_interval(days => ${KEPT_DAYS}::int)`;
  await query`
    delete from public.support_sessions
     where expires_at < now() - make_interval(days => ${KEPT_DAYS}::int)`;
}

/** The operator behind a login that is alive; undefined when it has ended. */
export async function findSessionOperator(
  query: RunSql,
  sessionId: number,
): Promise<Operator | undefined> {
  const [row] = await query<Operator[]>`
    select o.id, o.email, o.is_active, o.totp_confirmed_at is not null as has_second_factor
      from platform.sessions s
      join platform.operators o on o.id = s.operator_id
     where s.id = ${sessionId} and s.ended_at is null and s.expires_at > now() and o.is_active`;
  return row;
}

interface LockedSession {
  operator_id: number;
  email: string;
  is_active: boolean;
  refresh_salt: Uint8Array;
  refresh_counter: number;
  is_in_grace: boolean;
  is_expired: boolean;
  ended_at: Date | null;
}

/**
 * Exchanges a refresh token for the next one, as users' are: of parallel calls with one token one moves the
 * counter, the others within the grace get the same; an older one ends the login (RFC 9700 §4.14.2).
 *
 * @returns the session, or why not, to be thrown after the commit: AppError `token_revoked`,
 *   `token_expired`, `refresh_reused`
 */
export async function refreshOperatorSession(
  query: RunSql,
  context: OperatorContext,
  token: string,
): Promise<(StartedSession & { operatorId: number }) | AppError> {
  const claim = parseRefreshToken(token);
  const [row] = claim
    ? await query<LockedSession[]>`
        select
          s.operator_id, o.email, o.is_active, s.refresh_salt, s.refresh_counter, s.ended_at,
          s.refresh_rotated_at > now() - make_interval(secs => ${REFRESH_GRACE_SECONDS}::int) as is_in_grace,
          s.expires_at <= now() as is_expired
        from platform.sessions s
        join platform.operators o on o.id = s.operator_id
        where s.id = ${claim.sessionId}
        for update of s`
    : [];
  if (!claim || !row || !isAuthentic(contextOf(context), claim, row.refresh_salt)) {
    return new AppError("token_revoked", "The refresh token is not valid.");
  }
  if (row.ended_at || !row.is_active) return new AppError("token_revoked", "This login has ended.");
  if (row.is_expired) return new AppError("token_expired", "This login has expired.");
  const current = (counter: number) => ({
    id: claim.sessionId,
    operatorId: row.operator_id,
    refresh: refreshToken(contextOf(context), claim.sessionId, counter, row.refresh_salt),
  });
  if (claim.counter === row.refresh_counter) {
    await query`
      update platform.sessions
         set refresh_counter = refresh_counter + 1, refresh_rotated_at = now()
       where id = ${claim.sessionId}`;
    return current(row.refresh_counter + 1);
  }
  if (claim.counter === row.refresh_counter - 1 && row.is_in_grace) {
    return current(row.refresh_counter);
  }
  await query`
    update platform.sessions set ended_at = now() where id = ${claim.sessionId} and ended_at is null`;
  await recordOperatorAction(query, {
    action: "REFRESH_REUSED",
    operator: { id: row.operator_id, email: row.email },
    client: context.client,
    metadata: { session: claim.sessionId },
  });
  return new AppError("refresh_reused", "The refresh token was used before. This login has ended.");
}

/** Ends one login of an operator, with the support tokens that were made by them. */
export async function endOperatorSession(
  query: RunSql,
  operatorId: number,
  sessionId: number,
): Promise<void> {
  await query`
    update platform.sessions set ended_at = now()
     where id = ${sessionId} and operator_id = ${operatorId} and ended_at is null`;
  await endSupportSessions(query, operatorId);
}

/** Ends every login of an operator, and every support token. */
export async function endOperatorSessions(query: RunSql, operatorId: number): Promise<void> {
  await query`
    update platform.sessions set ended_at = now() where operator_id = ${operatorId} and ended_at is null`;
  await query`delete from platform.challenges where operator_id = ${operatorId}`;
  await endSupportSessions(query, operatorId);
}

async function endSupportSessions(query: RunSql, operatorId: number): Promise<void> {
  await query`
    update public.support_sessions set ended_at = now()
     where operator_id = ${operatorId} and ended_at is null`;
}
