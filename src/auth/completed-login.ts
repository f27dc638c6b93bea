import { recordSecurity, storedUserAgent } from "../audit/security-log.ts";
import { sql } from "../db/sql.ts";
import type { TenantSql } from "../db/transactions.ts";
import type { Context } from "./context.ts";
import { type SessionLifetimes, startSession, type StartedSession } from "./sessions.ts";
import { displayOf, type User } from "./users.ts";

/** A login that is done. */
export interface LoggedIn {
  readonly user: User;
  readonly session: StartedSession;
}

/** The end of every login: the session, the notice, the entry. Its time is written by the caller, with what else it changes. */
export async function completeLogin(
  tx: TenantSql,
  context: Context,
  account: User,
  how: { isRemembered: boolean; factor: string | null },
  lifetimes: SessionLifetimes,
): Promise<LoggedIn> {
  const seconds = how.isRemembered ? lifetimes.rememberedSeconds : lifetimes.seconds;
  const session = await startSession(tx, context, account.id, seconds);
  if (session.isNewDevice) notifyNewDevice(tx, context, account.id);
  recordSecurity(tx, {
    action: "LOGIN_SUCCEEDED",
    userId: account.id,
    userDisplay: displayOf(account),
    client: context.client,
    metadata: {
      session: session.id,
      remembered: how.isRemembered,
      second_factor: how.factor ?? "none",
    },
  });
  const { id, account_uid, username, full_name, email, primary_mobile } = account;
  return { user: { id, account_uid, username, full_name, email, primary_mobile }, session };
}

/**
 * Notifies a user of a login by a client that called itself otherwise in all their logins before. Logins
 * that are long over are forgotten (`purge.ts`), and their clients with them.
 */
function notifyNewDevice(tx: TenantSql, { client }: Context, userId: number): void {
  const device = storedUserAgent(client) ?? "an unnamed client";
  tx.withCommit(sql`
    insert into notifications (user_id, message)
    values (${userId}, ${`New login from ${device} (${client.ip}).`})`);
}
