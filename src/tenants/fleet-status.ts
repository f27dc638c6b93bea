import { type RunSql, sql } from "../db/sql.ts";
import type { Page, Range } from "../pages.ts";
import type { TenantStatus } from "./tenants.ts";

/** Tenants of one version and state of migration. */
export interface FleetGroup {
  readonly version: string;
  readonly state: "pending" | "running" | "applied" | "failed";
  readonly tenants: number;
}

/** A tenant whose last migration did not go through. */
export interface FailedTenant {
  readonly id: number;
  readonly subdomain: string;
  readonly version: string;
  readonly attempts: number;
  readonly last_error: string | null;
  readonly updated_at: Date;
}

export interface FleetAttention {
  /** Suspended until they are erased. */
  readonly to_be_erased: number;
  /** Of those, whose grace is over. */
  readonly due_for_erasure: number;
  /** Paid until a day that has passed. */
  readonly past_paid_until: number;
  /** Whose e-mails and SMS are dropped. */
  readonly without_messages: number;
}

export interface FleetStatus {
  /** The newest migration of this release. */
  readonly version: string;
  readonly tenants: number;
  /** Not of that version, or not done. */
  readonly behind: number;
  readonly statuses: Readonly<Record<TenantStatus, number>>;
  /** What somebody may have to look at. */
  readonly attention: FleetAttention;
  /** Newest version first. */
  readonly groups: readonly FleetGroup[];
  /** The newest failures, at most {@link FAILED_MAX}. */
  readonly failed: readonly FailedTenant[];
}

const NOTHING_TO_SEE: FleetAttention = {
  to_be_erased: 0,
  due_for_erasure: 0,
  past_paid_until: 0,
  without_messages: 0,
};

/** Failures that fit on a screen. */
const FAILED_MAX = 10;

/** How many tenants are of each version and state, newest version first. */
export async function getFleetGroups(query: RunSql): Promise<FleetGroup[]> {
  return query<FleetGroup[]>`
    select version, state, count(*) as tenants
      from public.tenant_migrations
     group by version, state
     order by version desc, state`;
}

/** Whether any tenant is not of a version, or not done with it. */
export async function isFleetBehind(query: RunSql, version: string): Promise<boolean> {
  const [row] = await query<{ is_behind: boolean }[]>`
    select exists (
      select 1 from public.tenant_migrations
       where version <> ${version} or state <> 'applied') as is_behind`;
  return row?.is_behind ?? false;
}

/**
 * The whole fleet from the registry alone, whatever the number of tenants: no schema is looked at
 * (`drift` does).
 *
 * @param version the newest migration of this release
 */
export async function getFleetStatus(query: RunSql, version: string): Promise<FleetStatus> {
  const groups = await getFleetGroups(query);
  const [statuses] = await query<FleetStatus["statuses"][]>`
    select
      count(*) filter (where status = 'active')    as active,
      count(*) filter (where status = 'read_only') as read_only,
      count(*) filter (where status = 'suspended') as suspended
    from public.tenants`;
  const [attention] = await query<FleetAttention[]>`
    select
      count(*) filter (where delete_after is not null) as to_be_erased,
      count(*) filter (where delete_after <= now())    as due_for_erasure,
      count(*) filter (where paid_until <= now())      as past_paid_until,
      count(*) filter (where not sends_messages)       as without_messages
    from public.tenants`;
  const failed = await query<FailedTenant[]>`
    select t.id, t.subdomain, m.version, m.attempts, m.last_error, m.updated_at
      from public.tenant_migrations m
      join public.tenants t on t.id = m.tenant_id
     where m.state = 'failed'
     order by m.updated_at desc, t.id
     limit ${FAILED_MAX}::int`;
  const total = groups.reduce((sum, { tenants }) => sum + tenants, 0);
  const done = groups
    .filter((group) => group.version === version && group.state === "applied")
    .reduce((sum, { tenants }) => sum + tenants, 0);
  return {
    version,
    tenants: total,
    behind: total - done,
    statuses: statuses ?? { active: 0, read_only: 0, suspended: 0 },
    attention: attention ?? NOTHING_TO_SEE,
    groups,
    failed,
  };
}

/** A tenant's line in the ledger. */
export interface LedgerEntry extends FailedTenant {
  readonly state: FleetGroup["state"];
  readonly duration_ms: number;
}

/** Some lines of the ledger: failures first, then by tenant. */
export async function findLedgerEntries(
  query: RunSql,
  state: FleetGroup["state"] | undefined,
  { limit, offset }: Range,
): Promise<Page<LedgerEntry>> {
  const where = sql`where ${state ?? null}::text is null or m.state = ${state ?? null}`;
  const results = await query<LedgerEntry[]>`
    select t.id, t.subdomain, m.version, m.state, m.attempts, m.last_error, m.duration_ms, m.updated_at
      from public.tenant_migrations m
      join public.tenants t on t.id = m.tenant_id
      ${where}
     order by m.state = 'failed' desc, t.id
     limit ${limit}::bigint offset ${offset}::bigint`;
  const [counted] = await query<{ count: number }[]>`
    select count(*) as count from public.tenant_migrations m ${where}`;
  return { count: counted?.count ?? 0, results };
}
