import { requireTenantAdmin } from "../access-control/access.ts";
import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { Actor } from "./actor.ts";
import { type LogPage, type LogPlace, type LogSource, readLogPage } from "./log-pages.ts";
import { periodConditions, type Period } from "./log-period.ts";
import type { SecurityEntry } from "./schemas.ts";

const FIELDS = sql`
  l.id, l.user_id as "user", l.user_display, l.date, l.action, l.metadata,
  host(l.ip_address) as ip_address, l.created_at`;

export interface SecurityFilter extends Period {
  readonly action?: string | undefined;
  /** Somebody, everybody and nobody; undefined for the caller. */
  readonly user?: number | "all" | undefined;
}

/**
 * What happened to the caller's account; for the tenant's admins, to anybody's.
 *
 * @throws AppError `permission_denied` for somebody else's, `validation_error` for a cursor that is none
 */
export async function listSecurity(
  tenant: TenantConnection,
  actor: Actor,
  { user = ownEntries(actor), action, ...period }: SecurityFilter,
  place: LogPlace,
  limit: number,
): Promise<LogPage<SecurityEntry>> {
  if (user !== actor.userId) await requireTenantAdmin(tenant.query, actor);
  return readLogPage<SecurityEntry>(
    tenant,
    securitySource({ user, action, ...period }),
    place,
    limit,
  );
}

/** What is read when nobody is named: one's own entries; an operator has none. */
function ownEntries({ userId, operator }: Actor): number | "all" {
  return operator === undefined ? userId : "all";
}

/** What is read for a filter; exported to be explained. */
export function securitySource({ user, action, ...period }: SecurityFilter): LogSource {
  const conditions: Statement[] = [...periodConditions(period)];
  if (action !== undefined) conditions.push(sql`l.action = ${action}`);
  const leading =
    user === undefined || user === "all"
      ? undefined
      : {
          columns: sql`l.user_id`,
          values: sql`${user}::bigint`,
          descending: sql`l.user_id desc`,
        };
  return { fields: FIELDS, table: sql`security_logs`, leading, conditions, companies: null };
}
