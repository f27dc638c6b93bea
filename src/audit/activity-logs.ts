import { companiesWith, denied, requireAccess } from "../access-control/access.ts";
import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { Actor } from "./actor.ts";
import {
  type LeadingFilter,
  type LogPage,
  type LogPlace,
  type LogSource,
  readLogPage,
} from "./log-pages.ts";
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
  const { entityType, entityId, action, user } = filter;
  const conditions: Statement[] = [...periodConditions(filter)];
  let leading: LeadingFilter | undefined;
  /** One leads, the first of those that there are; the others are looked at on the way. */
  const add = (columns: Statement, values: Statement, descending: Statement) => {
    if (companies === null && !leading) leading = { columns, values, descending };
    else conditions.push(sql`(${columns}) = (${values})`);
  };
  if (entityType !== undefined && entityId !== undefined) {
    add(
      sql`l.entity_type, l.entity_id`,
      sql`${entityType}::text, ${entityId}::bigint`,
      sql`l.entity_type desc, l.entity_id desc`,
    );
  }
  if (user !== undefined) add(sql`l.user_id`, sql`${user}::bigint`, sql`l.user_id desc`);
  if (action !== undefined) add(sql`l.action`, sql`${action}::text`, sql`l.action desc`);
  if (entityType !== undefined && entityId === undefined) {
    conditions.push(sql`l.entity_type = ${entityType}`);
  }
  if (entityId !== undefined && entityType === undefined) {
    conditions.push(sql`l.entity_id = ${entityId}`);
  }
  return { fields: FIELDS, table: sql`activity_logs`, leading, conditions, companies };
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
