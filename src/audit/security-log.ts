import { json } from "../db/sql.ts";
import type { TenantSql } from "../db/transactions.ts";

/** What can happen to somebody's account. Stored and sent as it is: add, never rename. */
export type SecurityAction =
  | "ACCOUNT_PROVISIONED"
  | "SIGNUP_REQUESTED"
  | "OTP_RESENT"
  | "OTP_VERIFIED"
  | "OTP_FAILED"
  | "SIGNUP_COMPLETED"
  | "LOGIN_SUCCEEDED"
  | "LOGIN_FAILED"
  | "LOGIN_LOCKED"
  | "REFRESH_REUSED"
  | "LOGOUT"
  | "PASSWORD_RESET";

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

/** Writes an entry; it commits with the change that `tx` makes, or not at all. */
export async function recordSecurity(tx: TenantSql, entry: SecurityEntry): Promise<void> {
  const metadata = { ...entry.metadata, user_agent: storedUserAgent(entry.client) ?? "" };
  await tx`
    insert into security_logs (user_id, user_display, action, metadata, ip_address)
    values (
      ${entry.userId}, ${entry.userDisplay}, ${entry.action}, ${json(metadata)}, ${entry.client.ip}
    )`;
}
