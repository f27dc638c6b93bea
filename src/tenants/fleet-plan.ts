import type { RunSql } from "../db/sql.ts";
import { stepsBetween, type TenantMigration } from "../db/tenant-migrations.ts";

/** Tenants of one version, and what would run for each of them. */
export interface PlannedGroup {
  /** "" before the first migration. */
  readonly version: string;
  readonly tenants: number;
  readonly direction: "up" | "down";
  /** Names, in the order in which they run. Empty: only the ledger is to be put right. */
  readonly migrations: readonly string[];
  /** Why it cannot be done; null when it can. */
  readonly problem: string | null;
}

/** What a migration of the fleet would do. Made from the ledger: no schema is looked at. */
export interface FleetPlan {
  readonly target: string;
  /** Tenants there are. */
  readonly total: number;
  readonly groups: readonly PlannedGroup[];
  /** Whoever goes first and alone; undefined when there is nothing to do. */
  readonly canary: string | undefined;
}

/** A tenant that is not where it should be. */
export interface BehindTenant {
  readonly id: number;
  readonly subdomain: string;
  readonly version: string;
}

/**
 * Tenants that are not of a version, or not done with it, in the order in which they are to be migrated: the
 * canary first, those that failed before last, so that a tenant that cannot be migrated does not stand in
 * the way of all others every time.
 */
export async function findBehind(
  query: RunSql,
  target: string,
  canary?: string,
): Promise<BehindTenant[]> {
  return query<BehindTenant[]>`
    select t.id, t.subdomain, m.version
      from public.tenants t
      join public.tenant_migrations m on m.tenant_id = t.id
     where m.version <> ${target} or m.state <> 'applied'
     order by t.subdomain = ${canary ?? ""} desc, m.state = 'failed', t.id`;
}

/** @param canary the subdomain of who is to go first; undefined: the oldest tenant that has not failed */
export async function planFleet(
  query: RunSql,
  migrations: readonly TenantMigration[],
  target: string,
  canary?: string,
): Promise<FleetPlan> {
  const behind = await findBehind(query, target, canary);
  const [count] = await query<{ total: number }[]>`select count(*) as total from public.tenants`;
  const sizes = new Map<string, number>();
  for (const { version } of behind) sizes.set(version, (sizes.get(version) ?? 0) + 1);
  const groups = [...sizes].map(([version, tenants]) =>
    planGroup(migrations, version, target, tenants),
  );
  return { target, total: count?.total ?? 0, groups, canary: behind[0]?.subdomain };
}

function planGroup(
  migrations: readonly TenantMigration[],
  version: string,
  target: string,
  tenants: number,
): PlannedGroup {
  const length = migrations.findIndex(({ name }) => name === version) + 1;
  if (length === 0 && version !== "") {
    const problem = `${version} is not a migration of this release`;
    return { version, tenants, direction: "up", migrations: [], problem };
  }
  const applied = migrations.slice(0, length).map(({ name }) => name);
  const steps = stepsBetween(migrations, applied, target);
  return {
    version,
    tenants,
    direction: steps.direction,
    migrations: steps.migrations.map(({ name }) => name),
    problem: null,
  };
}
