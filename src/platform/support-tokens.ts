import { securityInsert } from "../audit/security-log.ts";
import { identifier, type AdminConnection } from "../db/admin.ts";
import type { RunSql } from "../db/sql.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import type { CallingOperator } from "./authentication.ts";
import { recordOperatorAction } from "./operator-log.ts";

/** How long an operator may act in a tenant, in seconds. */
export const SUPPORT_TOKEN_SECONDS = 900;

/** How the tenant's own logs name an operator. */
export function operatorDisplay(email: string): string {
  return `operator ${email}`;
}

/**
 * Lets an operator act in one tenant, as an admin of it would, for a quarter of an hour. The tenant's security
 * log says so, with the reason, before anything can be done; so does the operators' own.
 *
 * @param admin in a transaction
 * @returns the id of the support session
 */
export async function startSupport(
  admin: AdminConnection,
  operator: CallingOperator,
  tenantId: number,
  { reason, canWrite }: { reason: string; canWrite: boolean },
): Promise<number> {
  const display = operatorDisplay(operator.email);
  const [row] = await admin.query<{ id: number }[]>`
    insert into public.support_sessions (
      tenant_id, operator_id, operator_display, reason, can_write, expires_at
    )
    values (
      ${tenantId}, ${operator.id}, ${display}, ${reason}, ${canWrite},
      now() + make_interval(secs => ${SUPPORT_TOKEN_SECONDS}::int)
    )
    returning id`;
  if (!row) throw new Error("The support session was not created");
  await recordOperatorAction(admin.query, {
    action: "SUPPORT_TOKEN_ISSUED",
    operator,
    client: operator.client,
    tenantId,
    metadata: { reason, can_write: canWrite, support_session: row.id },
  });
  await admin.execute(`set local search_path to ${identifier(tenantSchema(tenantId))}`);
  await admin.query`${securityInsert({
    action: "SUPPORT_ACCESS_GRANTED",
    userId: null,
    userDisplay: display,
    client: operator.client,
    metadata: { reason, can_write: canWrite, support_session: row.id },
  })}`;
  return row.id;
}

/**
 * Ends whatever an operator may still do in one tenant. Both logs say so, once; nothing is said where nothing
 * was left.
 *
 * @param admin in a transaction
 * @returns whether there was something to end
 */
export async function endSupport(
  admin: AdminConnection,
  operator: CallingOperator,
  tenantId: number,
): Promise<boolean> {
  const ended = await admin.query`
    update public.support_sessions set ended_at = now()
     where tenant_id = ${tenantId} and operator_id = ${operator.id}
       and ended_at is null and expires_at > now()
    returning id`;
  if (ended.length === 0) return false;
  const { client } = operator;
  await recordOperatorAction(admin.query, { action: "SUPPORT_ENDED", operator, client, tenantId });
  await admin.execute(`set local search_path to ${identifier(tenantSchema(tenantId))}`);
  await admin.query`${securityInsert({
    action: "SUPPORT_ACCESS_ENDED",
    userId: null,
    userDisplay: operatorDisplay(operator.email),
    client,
  })}`;
  return true;
}

/** Who acts by a support token, and whether they may change anything. */
export interface SupportSession {
  readonly operator_display: string;
  readonly can_write: boolean;
}

/** A support session that is alive; undefined when it has ended, or is another tenant's. */
export async function findSupportSession(
  registry: RunSql,
  tenantId: number,
  id: number,
): Promise<SupportSession | undefined> {
  const [row] = await registry<SupportSession[]>`
    select operator_display, can_write
      from public.support_sessions
     where id = ${id} and tenant_id = ${tenantId} and ended_at is null and expires_at > now()`;
  return row;
}
