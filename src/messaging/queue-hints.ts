import { withoutWaiting } from "../db/async-commit.ts";
import type { TenantConnection } from "../db/tenant-database.ts";

/**
 * Which tenants' queues may hold something to send: `public.message_queues`, so that finding work
 * costs one statement over the registry and not one for each tenant. A hint is written before the
 * message it tells of and is taken away only when no message can be without one. Why, and what it
 * costs: docs/adr/0010-finding-due-messages.md.
 */

/** How long a process that marked a queue queues more messages there without marking it again. */
export const MARK_SKIP_SECONDS = 30;

/**
 * How long a mark stays on an empty queue. A message may be added up to {@link MARK_SKIP_SECONDS} after
 * the mark it rests on; the transaction it is in then has 90 s to commit before the mark can be
 * gone: a statement of it may take 10 s and a pause between two as long.
 */
const MARK_STAYS_SECONDS = 120;

/**
 * How long other processes leave a queue to the one that claimed it: as long as a message's own
 * claim. It only saves looking twice; that a message is not sent twice rests on the message's row.
 */
const QUEUE_LEASE_SECONDS = 60;

/** Queues claimed at once: every 5 s in each process, so 5,000 that are all due take two minutes. */
const QUEUES_CLAIMED_MAX = 200;

/** A queue as its hint was when it was claimed. Times as text: a Date would lose the microseconds. */
export interface ClaimedQueue {
  readonly tenant_id: number;
  readonly marked_at: string;
  readonly due_at: string;
  /** Whether every transaction that rested on this mark had ended when it was read. */
  readonly is_quiet: boolean;
}

/**
 * Says that something is about to be queued for a tenant. `clock_timestamp()` is read under the row's
 * lock, so each mark is later than the one before, which {@link settleQueue} tells them apart by.
 *
 * The commit does not wait for the disk: whoever's commit does so later, the message's among them,
 * has everything written that was committed before it (the log is one and in order). 32 writers that
 * each mark a tenant queue 0.66 to 0.77 of what they do without marks, with a wait 0.24 to 0.67
 * (docs/benchmarks/message-discovery.md).
 */
export async function markQueue(registry: TenantConnection, tenantId: number): Promise<void> {
  await withoutWaiting(registry)`
    insert into public.message_queues as q (tenant_id, marked_at, due_at)
    values (${tenantId}, clock_timestamp(), clock_timestamp())
    on conflict (tenant_id) do update set
      marked_at = clock_timestamp(),
      due_at    = least(q.due_at, clock_timestamp())`;
}

/**
 * Takes queues that are due, those that have waited longest first, and pushes the rest of the
 * processes' next look ahead. Queues of suspended tenants wait until they are active again.
 */
export function claimDueQueues(registry: TenantConnection): Promise<ClaimedQueue[]> {
  return registry.query<ClaimedQueue[]>`
    with due as materialized (
      select d.tenant_id
        from public.message_queues d
        join public.tenants t on t.id = d.tenant_id
       where d.due_at <= now()
         and t.status <> 'suspended'
       order by d.due_at
       limit ${QUEUES_CLAIMED_MAX}::int
         for update of d skip locked
    )
    update public.message_queues q
       set due_at = now() + make_interval(secs => ${QUEUE_LEASE_SECONDS}::int)
      from due
     where q.tenant_id = due.tenant_id
    returning
      q.tenant_id,
      q.marked_at::text as marked_at,
      q.due_at::text    as due_at,
      q.marked_at <= now() - make_interval(secs => ${MARK_STAYS_SECONDS}::int) as is_quiet`;
}

/**
 * Writes down when to look next, after the queue was looked through. While a mark is young, messages
 * that rest on it may still come to light, so the queue is looked at once more when it no longer is.
 * Whoever marked, claimed or {@link hastenQueue hastened} the queue meanwhile changed the row, wants it
 * looked at sooner than this does, and is not overwritten.
 *
 * @param dueInSeconds when the first of the messages that are left is to be tried; null: none is left
 */
export async function settleQueue(
  registry: TenantConnection,
  { tenant_id: tenantId, marked_at: markedAt, due_at: dueAt, is_quiet: isQuiet }: ClaimedQueue,
  dueInSeconds: number | null,
): Promise<void> {
  if (isQuiet && dueInSeconds === null) {
    await registry.query`
      delete from public.message_queues
       where tenant_id = ${tenantId}
         and marked_at = ${markedAt}
         and due_at = ${dueAt}`;
    return;
  }
  // Of the two, `least` ignores one that is null.
  await registry.query`
    update public.message_queues
       set due_at = least(
             now() + make_interval(secs => ${dueInSeconds}::float8),
             case when not ${isQuiet}::boolean
                  then marked_at + make_interval(secs => ${MARK_STAYS_SECONDS}::int) end)
     where tenant_id = ${tenantId}
       and marked_at = ${markedAt}
       and due_at = ${dueAt}`;
}

/** Says that a message of the tenant is to be tried again, sooner perhaps than was thought. */
export async function hastenQueue(
  registry: TenantConnection,
  tenantId: number,
  dueInSeconds: number,
): Promise<void> {
  await registry.query`
    update public.message_queues
       set due_at = least(due_at, now() + make_interval(secs => ${dueInSeconds}::float8))
     where tenant_id = ${tenantId}`;
}
