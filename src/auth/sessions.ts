import { randomBytes } from "node:crypto";
import { recordSecurity, storedUserAgent } from "../audit/security-log.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import type { Context } from "./context.ts";

/** NOTIFY channel for logins that ended and users that changed; the payload is `tenant:user`. */
export const PRINCIPALS_CHANNEL = "ouvira_principals";

/**
 * How long the refresh token before the current one is answered with the current one: a client that
 * lost the answer, or its second tab, is not logged out; a thief who comes later ends the login.
 */
export const REFRESH_GRACE_SECONDS = 30;

export const SALT_BYTES = 32;

/** How long logins last, in seconds. */
export interface SessionLifetimes {
  readonly seconds: number;
  /** With `remember_me`. */
  readonly rememberedSeconds: number;
}

/** A login that was just begun, with its first refresh token. */
export interface StartedSession {
  id: number;
  refresh: string;
}

export interface RefreshedSession extends StartedSession {
  userId: number;
}

/**
 * Starts a login of `seconds` at the longest.
 *
 * @returns it, and whether the client called itself otherwise in all the user's logins before, of which there are some
 */
export async function startSession(
  tx: TenantSql,
  context: Context,
  userId: number,
  seconds: number,
): Promise<StartedSession & { isNewDevice: boolean }> {
  const salt = randomBytes(SALT_BYTES);
  // What is returned does not see the new row, which is not there before the statement ends.
  const [row] = await tx<{ id: number; is_new_device: boolean }[]>`
    insert into login_sessions as l (user_id, refresh_salt, expires_at, ip_address, user_agent)
    values (
      ${userId}, ${salt}, now() + make_interval(secs => ${seconds}::int),
      ${context.client.ip}, ${storedUserAgent(context.client)}
    )
    returning l.id,
      exists (select 1 from login_sessions s where s.user_id = l.user_id)
      and not exists (
        select 1 from login_sessions s
         where s.user_id = l.user_id and s.user_agent is not distinct from l.user_agent
      ) as is_new_device`;
  if (!row) throw new Error("The session was not created");
  const refresh = refreshToken(context, row.id, 0, salt);
  return { id: row.id, refresh, isNewDevice: row.is_new_device };
}

/**
 * Exchanges a refresh token for the next one. The row is locked: of parallel calls with one token one
 * moves the counter, the others within the grace get the same new token. An older token shows that it
 * was copied, and ends the login (RFC 9700 §4.14.2).
 *
 * @returns the session, or why not, to be thrown after the commit: AppError `token_revoked`,
 *   `token_expired`, `refresh_reused`
 */
export async function refreshSession(
  tx: TenantSql,
  context: Context,
  token: string,
): Promise<RefreshedSession | AppError> {
  const claim = parseRefreshToken(token);
  const row = claim && (await lockSession(tx, claim.sessionId));
  if (!claim || !row || !isAuthentic(context, claim, row.refresh_salt)) {
    return new AppError("token_revoked", "The refresh token is not valid.");
  }
  if (row.ended_at || !row.is_active) {
    return new AppError("token_revoked", "This login has ended.");
  }
  if (row.is_expired) return new AppError("token_expired", "This login has expired.");
  const counter = row.refresh_counter;
  const started = (current: number): RefreshedSession => ({
    id: claim.sessionId,
    userId: row.user_id,
    refresh: refreshToken(context, claim.sessionId, current, row.refresh_salt),
  });
  if (claim.counter === counter) {
    await tx`
      update login_sessions
         set refresh_counter = refresh_counter + 1, refresh_rotated_at = now(), last_used_at = now()
       where id = ${claim.sessionId}`;
    recordSecurity(tx, {
      action: "TOKEN_REFRESHED",
      userId: row.user_id,
      userDisplay: row.user_display,
      client: context.client,
      metadata: { session: claim.sessionId },
    });
    return started(counter + 1);
  }
  if (claim.counter === counter - 1 && row.is_in_grace) return started(counter);
  await endSessions(tx, context.tenantId, row.user_id, "refresh_reused", {
    only: claim.sessionId,
  });
  recordSecurity(tx, {
    action: "REFRESH_REUSED",
    userId: row.user_id,
    userDisplay: row.user_display,
    client: context.client,
    metadata: { session: claim.sessionId },
  });
  return new AppError("refresh_reused", "The refresh token was used before. This login has ended.");
}

/**
 * Ends the caller's login, and the one of the refresh token when that is the caller's too. Somebody
 * else's token changes nothing.
 */
export async function logout(
  tx: TenantSql,
  context: Context,
  { userId, sessionId, refresh }: { userId: number; sessionId: number; refresh: string },
): Promise<void> {
  await endSessions(tx, context.tenantId, userId, "logout", { only: sessionId });
  const claim = parseRefreshToken(refresh);
  if (claim && claim.sessionId !== sessionId) {
    const row = await lockSession(tx, claim.sessionId);
    if (row?.user_id === userId && isAuthentic(context, claim, row.refresh_salt)) {
      await endSessions(tx, context.tenantId, userId, "logout", { only: claim.sessionId });
    }
  }
  const [user] = await tx<{ display: string }[]>`
    select coalesce(email, username) as display from users where id = ${userId}`;
  recordSecurity(tx, {
    action: "LOGOUT",
    userId,
    userDisplay: user?.display ?? "",
    client: context.client,
    metadata: { session: sessionId },
  });
}

/** Which logins of a user end: one, all, or all but the caller's. */
export type EndedSessions = "all" | { readonly only: number } | { readonly except: number };

/**
 * Ends logins of a user, and tells every replica with the commit that their access tokens are worth
 * nothing.
 *
 * @returns how many ended
 */
export async function endSessions(
  tx: TenantSql,
  tenantId: number,
  userId: number,
  because: "logout" | "refresh_reused" | "password" | "revoked",
  which: EndedSessions = "all",
): Promise<number> {
  const only = which !== "all" && "only" in which ? which.only : null;
  const except = which !== "all" && "except" in which ? which.except : null;
  const ended = await tx`
    update login_sessions set ended_at = now(), ended_because = ${because}
     where user_id = ${userId}
       and ended_at is null
       and (${only}::bigint is null or id = ${only}::bigint)
       and (${except}::bigint is null or id <> ${except}::bigint)
    returning id`;
  await notifyPrincipal(tx, tenantId, userId);
  return ended.length;
}

/** Makes every replica forget what it knows of a user, with the commit. */
export async function notifyPrincipal(
  tx: TenantSql,
  tenantId: number,
  userId: number,
): Promise<void> {
  await tx`select pg_notify(${PRINCIPALS_CHANNEL}::text, ${`${tenantId}:${userId}`}::text)`;
}

interface LockedSession {
  user_id: number;
  user_display: string;
  is_active: boolean;
  refresh_salt: Uint8Array;
  refresh_counter: number;
  is_in_grace: boolean;
  is_expired: boolean;
  ended_at: Date | null;
}

async function lockSession(tx: TenantSql, id: number): Promise<LockedSession | undefined> {
  const [row] = await tx<LockedSession[]>`
    select
      s.user_id, coalesce(u.email, u.username) as user_display, u.is_active,
      s.refresh_salt, s.refresh_counter, s.ended_at,
      s.refresh_rotated_at > now() - make_interval(secs => ${REFRESH_GRACE_SECONDS}::int) as is_in_grace,
      s.expires_at <= now() as is_expired
    from login_sessions s
    join users u on u.id = s.user_id
    where s.id = ${id}
    for update of s`;
  return row;
}

/** What a refresh token says. */
interface RefreshClaim {
  sessionId: number;
  counter: number;
  mac: Buffer;
}

/** What refresh tokens are made with: those of one tenant are no other's. */
type RefreshContext = Pick<Context, "keys" | "tenantId">;

/** `<session>.<counter>.<mac>`: the mac makes the first two true, the salt and the key make the mac. */
export function refreshToken(
  context: RefreshContext,
  session: number,
  counter: number,
  salt: Uint8Array,
): string {
  const mac = macOf(context, session, counter, salt).toString("base64url");
  return `${session}.${counter}.${mac}`;
}

const REFRESH_TOKEN = /^([1-9][0-9]{0,14})\.([0-9]{1,15})\.([A-Za-z0-9_-]{43})$/;

export function parseRefreshToken(token: string): RefreshClaim | undefined {
  const [, session, counter, mac] = REFRESH_TOKEN.exec(token) ?? [];
  if (session === undefined || counter === undefined || mac === undefined) return undefined;
  return {
    sessionId: Number(session),
    counter: Number(counter),
    mac: Buffer.from(mac, "base64url"),
  };
}

export function isAuthentic(
  context: RefreshContext,
  claim: RefreshClaim,
  salt: Uint8Array,
): boolean {
  const { keys, tenantId } = context;
  return keys.isMac(claim.mac, "refresh-token", tenantId, claim.sessionId, claim.counter, salt);
}

function macOf(
  { keys, tenantId }: RefreshContext,
  session: number,
  counter: number,
  salt: Uint8Array,
): Buffer {
  return keys.mac("refresh-token", tenantId, session, counter, salt);
}
