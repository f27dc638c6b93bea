import type { TenantSql } from "../db/transactions.ts";
import { type Notice, noticeTo } from "../messaging/messages.ts";
import type { Context } from "./context.ts";

/** How long a notice about an account is worth sending, in seconds: a day. */
export const NOTICE_LIFETIME_SECONDS = 86_400;

/** How a user is reached. */
export interface Reachable {
  readonly email: string | null;
  readonly email_verified: boolean;
  readonly primary_mobile: string;
}

/**
 * Tells a user something about their account, with the transaction that does it: by e-mail where the
 * address is known to be theirs, else by SMS to the number that signed up.
 */
export async function tellUser(
  tx: TenantSql,
  { messages, tenantId }: Pick<Context, "messages" | "tenantId">,
  user: Reachable,
  notice: Notice,
  lifetimeSeconds: number = NOTICE_LIFETIME_SECONDS,
): Promise<void> {
  await messages.add(tx, tenantId, noticeTo(addressOf(user), notice), lifetimeSeconds);
}

function addressOf(user: Reachable): { email: string } | { phone: string } {
  return user.email !== null && user.email_verified
    ? { email: user.email }
    : { phone: user.primary_mobile };
}
