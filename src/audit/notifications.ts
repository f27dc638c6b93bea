import { sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import type { Notification } from "./schemas.ts";

/** Longest message, in characters; the table's check says the same. */
const MESSAGE_LENGTH_MAX = 1_000;

/**
 * Writes a notification for each of these users, with the change that `tx` makes. A message that is too
 * long is cut.
 */
export async function notify(
  tx: TenantSql,
  userIds: readonly number[],
  message: string,
): Promise<void> {
  if (userIds.length === 0) return;
  const text = [...message].slice(0, MESSAGE_LENGTH_MAX).join("");
  await tx`
    insert into notifications (user_id, message)
    select user_id, ${text}
      from unnest(${userIds}::bigint[]) as user_id`;
}

/** A user's notifications, newest first, and how many of all are not read. */
export async function listNotifications(
  tenant: TenantConnection,
  userId: number,
  isUnreadOnly: boolean,
  { limit, offset }: Range,
): Promise<Page<Notification> & { unreadCount: number }> {
  const from = sql`
    from notifications
    where user_id = ${userId} and (${!isUnreadOnly} or read_at is null)`;
  const [page, [unread]] = await Promise.all([
    readPage<Notification>(
      tenant,
      sql`
        select id, message, read_at is not null as read, created_at
        ${from}
        order by id desc
        limit ${limit}::int offset ${offset}::int`,
      sql`select count(*) as count ${from}`,
      offset === 0,
    ),
    tenant.query<{ count: number }[]>`
      select count(*) as count from notifications where user_id = ${userId} and read_at is null`,
  ]);
  return { ...page, unreadCount: unread?.count ?? 0 };
}

/** Marks one of the user's notifications as read. @throws AppError `not_found` also for another's */
export async function markRead(
  tenant: TenantConnection,
  userId: number,
  notificationId: number,
): Promise<void> {
  const marked = await tenant.query`
    update notifications set read_at = coalesce(read_at, now())
     where id = ${notificationId} and user_id = ${userId}
    returning id`;
  if (marked.length === 0) throw new AppError("not_found", "There is no such notification.");
}

/** Marks all of the user's notifications as read. */
export async function markAllRead(tenant: TenantConnection, userId: number): Promise<void> {
  await tenant.transaction(
    (tx) => tx`
      update notifications set read_at = now() where user_id = ${userId} and read_at is null`,
  );
}
