import type { StoredRateLimits } from "./plans.ts";
import type { FleetGroup } from "./fleet-status.ts";
import type { Page, Range } from "../pages.ts";
import { searchPattern } from "../pages.ts";
import { type RunSql, sql } from "../db/sql.ts";

export type TenantStatus = "active" | "read_only" | "suspended";

/** A tenant as operators see it, with how far its schema is. */
export interface TenantRecord {
  id: number;
  name: string;
  subdomain: string;
  status: TenantStatus;
  domains: string[];
  schema: string;
  version: string;
  migration_state: FleetGroup["state"];
  last_error: string | null;
  /** False: what it queues is dropped unsent. */
  sends_messages: boolean;
  /** For whoever bills; null: no end is known. */
  paid_until: Date | null;
  on_trial: boolean;
  /** Its own limits instead of the installation's. */
  rate_limits: StoredRateLimits;
  /** When it may be erased; null: it is not to be. */
  delete_after: Date | null;
  created_at: Date;
}

const selectTenants = sql`
  select
    t.id, t.name, t.subdomain, t.status,
    coalesce((
      select jsonb_agg(d.domain order by d.is_primary desc, d.domain)
        from public.tenant_domains d
       where d.tenant_id = t.id and d.verified_at is not null), '[]') as domains,
    't_' || t.id                                                      as schema,
    m.version, m.state as migration_state, m.last_error,
    t.sends_messages, t.paid_until, t.on_trial, t.rate_limits, t.delete_after, t.created_at
  from public.tenants t
  join public.tenant_migrations m on m.tenant_id = t.id`;

/** Every tenant, oldest first. */
export async function listTenants(query: RunSql): Promise<TenantRecord[]> {
  return query<TenantRecord[]>`${selectTenants} order by t.id`;
}

/** The tenant of a subdomain, or undefined. */
export async function findTenant(
  query: RunSql,
  subdomain: string,
): Promise<TenantRecord | undefined> {
  const [tenant] = await query<TenantRecord[]>`
    ${selectTenants} where t.subdomain = ${subdomain.toLowerCase()}`;
  return tenant;
}

/** The tenant of an id, or undefined. */
export async function findTenantById(query: RunSql, id: number): Promise<TenantRecord | undefined> {
  const [tenant] = await query<TenantRecord[]>`${selectTenants} where t.id = ${id}`;
  return tenant;
}

export interface TenantFilter {
  /** Part of a name, a subdomain or a domain. */
  readonly search?: string | undefined;
  readonly status?: TenantStatus | undefined;
}

/** Some tenants, oldest first. */
export async function findTenants(
  query: RunSql,
  { search, status }: TenantFilter,
  { limit, offset }: Range,
): Promise<Page<TenantRecord>> {
  const pattern = searchPattern(search);
  const where = sql`
    where (${status ?? null}::text is null or t.status = ${status ?? null})
      and (${pattern}::text is null or t.name ilike ${pattern} or t.subdomain ilike ${pattern}
           or exists (select 1 from public.tenant_domains d
                       where d.tenant_id = t.id and d.domain ilike ${pattern}))`;
  const results = await query<TenantRecord[]>`
    ${selectTenants} ${where} order by t.id limit ${limit}::bigint offset ${offset}::bigint`;
  const [counted] = await query<{ count: number }[]>`
    select count(*) as count from public.tenants t ${where}`;
  return { count: counted?.count ?? 0, results };
}
