import { companiesWith, denied, requireAccess } from "../access-control/access.ts";
import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { Actor } from "./actor.ts";
import { type LogPage, type LogPlace, type LogSource, readLogPage } from "./log-pages.ts";
import { periodConditions, type Period } from "./log-period.ts";
import type { ActivityEntry } from "./schemas.ts";

const FIELDS = sql`
  l.id, l.user_id as "user", l.user_display, l.company_id as company, l.date, l.entity_type, l.entity_id,
  l.action, l.old_values, l.new_values, host(l.ip_address) as ip_address, l.created_at`;

export interface ActivityFilter extends Period {
  readonly company?: number | undefined;
  readonly entityType?: string | undefined;
  readonly entityId?: number | undefined;
  readonly action?: string | undefined;
  readonly user?: number | undefined;
}

/**
 * What was changed in the companies whose log the caller may see; for the tenant's admins, all of it.
 *
 * @throws AppError `not_found` for a company the caller does not see, `permission_denied` where they may
 *   not see the log: there, or anywhere; `validation_error` for a cursor that is none
 */
export async function listActivity(
  tenant: TenantConnection,
  actor: Actor,
  filter: ActivityFilter,
  place: LogPlace,
  limit: number,
): Promise<LogPage<ActivityEntry>> {
  return readLogPage<ActivityEntry>(
    tenant,
    activitySource(filter, await companiesToShow(tenant, actor, filter.company)),
    place,
    limit,
  );
}

/** What the caller changed, wherever. @throws AppError `validation_error` for a cursor that is none */
export async function listOwnActivity(
  tenant: TenantConnection,
  userId: number,
  filter: Pick<ActivityFilter, "action" | "from" | "until">,
  place: LogPlace,
  limit: number,
): Promise<LogPage<ActivityEntry>> {
  return readLogPage<ActivityEntry>(
    tenant,
    activitySource({ ...filter, user: userId }, null),
    place,
    limit,
  );
}

/** What is read for a filter; exported to be explained. */
export function activitySource(
  filter: ActivityFilter,
  companies: readonly number[] | null,
): LogSource {
  const conditions: Statement[] = [...periodConditions(filter)];
  if (filter.entityType !== undefined) conditions.push(sql`l.entity_type = ${filter.entityType}`);
  if (filter.entityId !== undefined) conditions.push(sql`l.entity_id = ${filter.entityId}`);
  if (filter.action !== undefined) conditions.push(sql`l.action = ${filter.action}`);
  if (filter.user !== undefined) conditions.push(sql`l.user_id = ${filter.user}`);
  return { fields: FIELDS, table: sql`activity_logs`, conditions, companies };
}

async function companiesToShow(
  tenant: TenantConnection,
  actor: Actor,
  company: number | undefined,
): Promise<readonly number[] | null> {
  if (company !== undefined) {
    await requireAccess(tenant.query, actor, company, "audit.view");
    return [company];
  }
  const companies = await companiesWith(tenant.query, actor, "audit.view");
  if (companies === "all") return null;
  if (companies.length === 0) throw denied();
  return companies;
}
