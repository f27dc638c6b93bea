import type { TenantSql } from "../db/transactions.ts";

/** Rows of one kind forgotten at a time: a login waits for it. */
const ROWS_MAX = 200;

/** How long a login that is over can still be seen by whoever looks into its end. */
const ENDED_SESSION_DAYS = 30;

/**
 * How often at most in this process for one tenant. It is 1.6 of a login's 6 ms in PostgreSQL, since a transaction's
 * statements are planned anew: of a flood of logins one pays it.
 */
const PURGE_INTERVAL_MS = 60_000;

/** When each tenant's was last done here: some 50 bytes a tenant. */
const purgedAt = new Map<number, number>();

/**
 * Forgets what has run out: sign-ups, links, second steps, old counts and old logins. A login does
 * it for its tenant, a bounded number of rows at a time and none that somebody else holds, so that
 * nothing needs a clock of its own and no flood of strangers grows a table for ever.
 */
export async function purgeStale(tx: TenantSql, tenantId: number): Promise<void> {
  const now = Date.now();
  const since = now - (purgedAt.get(tenantId) ?? Number.NEGATIVE_INFINITY);
  // A clock that was set back counts as time that has passed.
  if (since >= 0 && since < PURGE_INTERVAL_MS) return;
  purgedAt.set(tenantId, now);
  await tx`
    with
      stale_signups as (
        delete from signups where ctid in (
          select ctid from signups where updated_at < now() - interval '1 day'
           limit ${ROWS_MAX}::int for update skip locked)),
      stale_failures as (
        delete from failures where ctid in (
          select ctid from failures where updated_at < now() - interval '1 day'
           limit ${ROWS_MAX}::int for update skip locked)),
      stale_challenges as (
        delete from login_challenges where ctid in (
          select ctid from login_challenges where expires_at < now()
           limit ${ROWS_MAX}::int for update skip locked)),
      stale_verifications as (
        delete from email_verifications where ctid in (
          select ctid from email_verifications where expires_at < now()
           limit ${ROWS_MAX}::int for update skip locked)),
      stale_resets as (
        delete from password_resets where ctid in (
          select ctid from password_resets where expires_at < now() - interval '1 day'
           limit ${ROWS_MAX}::int for update skip locked))
    delete from login_sessions where ctid in (
      select ctid from login_sessions
       where coalesce(ended_at, expires_at) < now() - make_interval(days => ${ENDED_SESSION_DAYS}::int)
       limit ${ROWS_MAX}::int for update skip locked)`;
}
