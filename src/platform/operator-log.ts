import { json, type RunSql } from "../db/sql.ts";
import { type ClientDetails, storedUserAgent } from "../audit/security-log.ts";

/** What an operator did. Stored as it is: add, never rename. */
export type OperatorAction =
  | "LOGIN_SUCCEEDED"
  | "LOGIN_FAILED"
  | "LOGIN_LOCKED"
  | "LOGIN_CHALLENGED"
  | "SECOND_FACTOR_FAILED"
  | "SECOND_FACTOR_LOCKED"
  | "SECOND_FACTOR_ENROLLED"
  | "SECOND_FACTOR_ENABLED"
  | "REFRESH_REUSED"
  | "LOGOUT"
  | "OPERATOR_CREATED"
  | "OPERATOR_RESET"
  | "OPERATOR_DISABLED"
  | "TENANT_CREATED"
  | "TENANT_CHANGED"
  | "TENANT_SUSPENDED"
  | "TENANT_ACTIVATED"
  | "TENANT_MADE_READ_ONLY"
  | "TENANT_DELETION_SCHEDULED"
  | "DOMAIN_ADDED"
  | "DOMAIN_VERIFIED"
  | "DOMAIN_REMOVED"
  | "SUPPORT_TOKEN_ISSUED"
  | "SUPPORT_ENDED";

export interface OperatorEntry {
  readonly action: OperatorAction;
  readonly operator: { readonly id: number | null; readonly email: string };
  /** Undefined for a command. */
  readonly client?: ClientDetails;
  readonly tenantId?: number;
  readonly metadata?: Readonly<Record<string, string | number | boolean | null>>;
}

/** Writes an entry of the operators' log, in the transaction of what it tells of. */
export async function recordOperatorAction(query: RunSql, entry: OperatorEntry): Promise<void> {
  const { action, operator, client, tenantId, metadata } = entry;
  const details = { ...metadata, ...(client ? { user_agent: storedUserAgent(client) ?? "" } : {}) };
  await query`
    insert into platform.logs (
      operator_id, operator_display, action, tenant_id, metadata, ip_address
    )
    values (
      ${operator.id}, ${operator.email}, ${action}, ${tenantId ?? null}, ${json(details)},
      ${client?.ip ?? null}
    )`;
}
