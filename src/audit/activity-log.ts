import { json, sql, type Statement } from "../db/sql.ts";
import type { TenantSql } from "../db/transactions.ts";
import { type Actor, OPERATOR_USER_ID } from "./actor.ts";

/** What a change was. Stored and sent as it is: add, never rename. */
export type ActivityAction = "CREATE" | "UPDATE" | "DELETE" | "ACCEPT" | "REVOKE" | "RESEND";

/** What was changed. Stored and sent as it is: add, never rename. */
export type EntityType =
  | "Company"
  | "CompanySettings"
  | "CompanyLogo"
  | "Permission"
  | "Role"
  | "RolePermission"
  | "UserCompany"
  | "UserCompanyRole"
  | "Invitation";

/** A row before or after a change. */
type Values = Readonly<Record<string, unknown>>;

export interface ActivityEntry {
  readonly action: ActivityAction;
  readonly entity: EntityType;
  readonly entityId: number;
  /** Null for what belongs to the whole tenant. */
  readonly companyId: number | null;
  readonly before?: object;
  readonly after?: object;
}

/** What says nothing about a change. */
const UNTOLD = new Set(["created_at", "updated_at", "deleted_at", "is_deleted", "token"]);

/**
 * Writes an entry with the fields that changed, old and new; it commits with the change that `tx`
 * makes, or not at all. A change of nothing leaves no entry.
 *
 * @returns whether there was a change to record
 */
export function recordActivity(
  tx: TenantSql,
  actor: Actor,
  { action, entity, entityId, companyId, before = {}, after = {} }: ActivityEntry,
): boolean {
  const [oldValues, newValues] = changedFields({ ...before }, { ...after });
  if (action === "UPDATE" && Object.keys(newValues).length === 0) return false;
  tx.withCommit(sql`
    insert into activity_logs (
      user_id, user_display, company_id, entity_type, entity_id, action,
      old_values, new_values, ip_address
    )
    select
      nullif(id, ${OPERATOR_USER_ID}::bigint), coalesce(email, username), ${companyId}::bigint, ${entity}, ${entityId}::bigint, ${action},
      ${json(oldValues)}::jsonb, ${json(newValues)}::jsonb, ${actor.client.ip}::inet
    from ${actorRow(actor)}`);
  return true;
}

/** The actor's name, as a row: a user's, or an operator's who is none. */
function actorRow({ userId, operator }: Actor): Statement {
  return operator === undefined
    ? sql`users where id = ${userId}`
    : sql`(select ${OPERATOR_USER_ID}::bigint as id, ${operator}::text as email, null as username) o`;
}

/** The fields whose values differ, as they were and as they are. */
function changedFields(before: Values, after: Values): [old: Values, new: Values] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (name) => !UNTOLD.has(name) && !isSame(before[name], after[name]),
  );
  const pick = (values: Values): Values =>
    Object.fromEntries(names.filter((name) => name in values).map((name) => [name, values[name]]));
  return [pick(before), pick(after)];
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
