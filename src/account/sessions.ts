import { recordSecurity } from "../audit/security-log.ts";
import type { Context } from "../auth/context.ts";
import { endSessions } from "../auth/sessions.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import type { Session } from "./schemas.ts";

/** Logins shown: nobody has more devices, and a list of all could be long. */
const SESSIONS_MAX = 100;

/** The caller's live logins, the last used first. */
export async function listSessions(
  tenant: TenantConnection,
  { userId, sessionId }: { userId: number; sessionId: number },
): Promise<Session[]> {
  return tenant.query<Session[]>`
    select
      id, user_agent as device, host(ip_address) as ip, created_at, last_used_at, expires_at,
      id = ${sessionId} as current
    from login_sessions
    where user_id = ${userId} and ended_at is null and expires_at > now()
    order by last_used_at desc, id desc
    limit ${SESSIONS_MAX}::int`;
}

/**
 * Ends one of the caller's logins: its access token stops working on every replica within a second.
 *
 * @throws AppError `not_found` for another user's, an unknown one or one that has ended or run out
 */
export async function endOwnSession(
  tx: TenantSql,
  context: Context,
  userId: number,
  sessionId: number,
): Promise<void> {
  const live = await tx`
    select id from login_sessions
     where id = ${sessionId} and user_id = ${userId} and ended_at is null and expires_at > now()
       for update`;
  if (live.length === 0) throw new AppError("not_found", "There is no such login.");
  await endSessions(tx, context.tenantId, userId, "revoked", { only: sessionId });
  const [user] = await tx<{ display: string }[]>`
    select coalesce(email, username) as display from users where id = ${userId}`;
  recordSecurity(tx, {
    action: "SESSION_ENDED",
    userId,
    userDisplay: user?.display ?? "",
    client: context.client,
    metadata: { session: sessionId },
  });
}
