import type { TenantSql } from "../db/transactions.ts";
import type { Keys } from "../keys.ts";
import type { Message } from "./messages.ts";

/** NOTIFY channel that wakes the worker; the payload is the tenant's id. */
export const MESSAGES_CHANNEL = "ouvira_messages";

/** What a message is sealed for: it opens in the tenant it was written in, nowhere else. */
export function messageContext(tenantId: number): string {
  return `message of tenant ${tenantId}`;
}

/**
 * Puts a message into the tenant's queue, in the caller's transaction: it is sent if and only if the
 * change it tells of commits, and no connection waits for a provider meanwhile.
 *
 * @param lifetimeSeconds after which it is of no use to anybody and is dropped
 */
export async function queueMessage(
  tx: TenantSql,
  keys: Keys,
  tenantId: number,
  message: Message,
  lifetimeSeconds: number,
): Promise<void> {
  const sealed = keys.seal(JSON.stringify(message), messageContext(tenantId));
  await tx`
    with queued as (
      insert into messages (channel, sealed, expires_at)
      values (${message.channel}, ${sealed}, now() + make_interval(secs => ${lifetimeSeconds}::int))
      returning id
    )
    select pg_notify(${MESSAGES_CHANNEL}::text, ${String(tenantId)}::text) from queued`;
}
