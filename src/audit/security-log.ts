import { json, sql, type Statement } from "../db/sql.ts";
import type { TenantSql } from "../db/transactions.ts";

/** What can happen to somebody's account. Stored and sent as it is: add, never rename. */
export type SecurityAction =
  | "ACCOUNT_PROVISIONED"
  | "SIGNUP_REQUESTED"
  | "OTP_RESENT"
  | "OTP_VERIFIED"
  | "OTP_FAILED"
  | "OTP_BLOCKED"
  | "SIGNUP_COMPLETED"
  | "LOGIN_SUCCEEDED"
  | "LOGIN_FAILED"
  | "LOGIN_LOCKED"
  | "LOGIN_CHALLENGED"
  | "SECOND_FACTOR_SENT"
  | "SECOND_FACTOR_FAILED"
  | "SECOND_FACTOR_LOCKED"
  | "SECOND_FACTOR_ENROLLED"
  | "SECOND_FACTOR_ENABLED"
  | "SECOND_FACTOR_DISABLED"
  | "SECOND_FACTOR_RESET"
  | "BACKUP_CODES_REISSUED"
  | "TOKEN_REFRESHED"
  | "REFRESH_REUSED"
  | "SESSION_ENDED"
  | "LOGOUT"
  | "PASSWORD_CONFIRMATION_FAILED"
  | "PASSWORD_CONFIRMATION_LOCKED"
  | "PASSWORD_FORGOTTEN"
  | "PASSWORD_RESET"
  | "PASSWORD_CHANGED"
  | "EMAIL_VERIFICATION_SENT"
  | "EMAIL_CHANGE_REQUESTED"
  | "EMAIL_VERIFIED"
  | "EMAIL_CHANGED"
  | "ACCOUNT_DISABLED"
  | "ACCOUNT_ENABLED"
  | "TENANT_ADMIN_GRANTED"
  | "TENANT_ADMIN_REVOKED"
  | "SUPPORT_ACCESS_GRANTED"
  | "SUPPORT_ACCESS_ENDED";

export interface SecurityEntry {
  readonly action: SecurityAction;
  /** Null when it is not known who it was. */
  readonly userId: number | null;
  /** How the log names the person: an address or a masked one, never a secret. */
  readonly userDisplay: string;
  readonly client: ClientDetails;
  readonly metadata?: Readonly<Record<string, string | number | boolean>>;
}

/** Where a request came from. */
export interface ClientDetails {
  readonly ip: string;
  readonly userAgent: string | undefined;
}

/** Longest User-Agent kept, in characters. */
const USER_AGENT_LENGTH_MAX = 300;

/** A User-Agent as it is stored: no control characters, of bounded length. */
export function storedUserAgent({ userAgent }: ClientDetails): string | null {
  return userAgent?.replace(/[\u0000-\u001f]/g, " ").slice(0, USER_AGENT_LENGTH_MAX) ?? null;
}

/** Writes an entry with the commit of the change that `tx` makes: both are there, or neither. */
export function recordSecurity(tx: TenantSql, entry: SecurityEntry): void {
  tx.withCommit(securityInsert(entry));
}

/** What {@link recordSecurity} writes, for connections that are not a tenant's. */
export function securityInsert(entry: SecurityEntry): Statement {
  const metadata = { ...entry.metadata, user_agent: storedUserAgent(entry.client) ?? "" };
  return sql`
    insert into security_logs (user_id, user_display, action, metadata, ip_address)
    values (
      ${entry.userId}, ${entry.userDisplay}, ${entry.action}, ${json(metadata)}, ${entry.client.ip}
    )`;
}
