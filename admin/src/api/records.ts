/** Rows as the API answers them; times are ISO 8601. */

export type TenantStatus = "active" | "read_only" | "suspended";
export type MigrationState = "pending" | "running" | "applied" | "failed";

export interface Tenant {
  id: number;
  name: string;
  subdomain: string;
  status: TenantStatus;
  domains: string[];
  schema: string;
  version: string;
  migration_state: MigrationState;
  last_error: string | null;
  sends_messages: boolean;
  paid_until: string | null;
  on_trial: boolean;
  rate_limits: Record<string, string>;
  delete_after: string | null;
  created_at: string;
}

export interface TenantUsage {
  users: number;
  active_users: number;
  companies: number;
  pending_invitations: number;
  activity_entries: number;
  security_entries: number;
  bytes: number;
  last_login: string | null;
}

export interface TenantDomain {
  id: number;
  domain: string;
  is_primary: boolean;
  verified_at: string | null;
  record: { name: string; value: string } | null;
}

export interface LedgerEntry {
  /** The tenant's. */
  id: number;
  subdomain: string;
  version: string;
  state: MigrationState;
  attempts: number;
  last_error: string | null;
  duration_ms: number;
  updated_at: string;
}

export interface User {
  id: number;
  username: string;
  full_name: string;
  email: string | null;
  primary_mobile: string;
  is_active: boolean;
  is_tenant_admin: boolean;
  is_2fa_enabled: boolean;
  date_joined: string;
  last_login: string | null;
}

export interface CompanySettings {
  default_language: string;
  default_currency: string;
  timezone: string;
  fiscal_year_start_month: number;
  feature_flags: Record<string, unknown>;
}

/** What a list has of a company. */
export interface CompanyListItem {
  id: number;
  name: string;
  status: "active" | "deactivated" | "deleted";
  is_parent_company: boolean;
  created_at: string;
}

export interface Company extends CompanyListItem {
  description: string;
  address: string;
  create_by: number;
  parent_company: number | null;
  settings: CompanySettings;
  updated_at: string;
}

export interface Role {
  id: number;
  role: string;
  desc: string;
  company: number | null;
  is_system_role: boolean;
}

export interface RolePermission {
  id: number;
  role: number;
  permission: number;
  permission_code: string;
  granted: boolean;
}

export interface Permission {
  id: number;
  code: string;
  module: string;
  description: string;
  is_built_in: boolean;
}

export interface Membership {
  id: number;
  user: number;
  company: number;
  is_primary_company: boolean;
  is_active: boolean;
  created_at: string;
}

export interface MembershipRole {
  id: number;
  user_company: { id: number; user: number; company: number; is_active: boolean };
  role: { id: number; role: string; desc: string; company: number | null };
}

export interface Invitation {
  id: number;
  email: string;
  company: number;
  role: number;
  status: "pending" | "accepted" | "revoked" | "expired";
  invited_by: number;
  expires_at: string;
  created_at: string;
}

interface LogEntry {
  id: number;
  user: number | null;
  user_display: string;
  action: string;
  ip_address: string | null;
  created_at: string;
}

export interface ActivityEntry extends LogEntry {
  company: number | null;
  entity_type: string;
  entity_id: number;
  old_values: Record<string, unknown>;
  new_values: Record<string, unknown>;
}

export interface SecurityEntry extends LogEntry {
  metadata: Record<string, unknown>;
}

export interface LogCheck {
  log: "activity" | "security";
  seals: number;
  checked_entries: number;
  unsealed_entries: number;
  pending_checkpoints: number;
  oldest_seal: number | null;
  is_complete: boolean;
  findings: { kind: string; seal: number; entry_id: number | null; detail: string }[];
}

export interface Verification {
  status: "intact" | "broken";
  logs: LogCheck[];
}
