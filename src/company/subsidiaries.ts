import { isVisibleTo, requireAccess } from "../access-control/access.ts";
import type { Actor } from "../audit/actor.ts";
import { sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { type Page, type Range, readPage } from "../pages.ts";
import { COMPANY_LIST_FIELDS } from "./companies.ts";
import { DEPTH_MAX } from "./hierarchy.ts";
import type { Subsidiary } from "./schemas.ts";

/**
 * The companies below one, nearest first, as far as the caller sees them: rights do not pass from a
 * company to those below it, so a member of the parent alone sees none.
 *
 * @throws AppError `not_found` when the caller does not see the company itself
 */
export async function listSubsidiaries(
  tenant: TenantConnection,
  actor: Actor,
  id: number,
  { limit, offset }: Range,
): Promise<Page<Subsidiary>> {
  await requireAccess(tenant.query, actor, id, "member");
  const below = sql`
    with recursive below (id, depth) as (
      select c.id, 1 from companies c where c.parent_company = ${id} and c.deleted_at is null
      union all
      select c.id, below.depth + 1
        from companies c
        join below on below.id = c.parent_company
       where c.deleted_at is null and below.depth < ${DEPTH_MAX}::int
    )`;
  const isVisible = isVisibleTo(actor.userId, sql`c.id`);
  return readPage<Subsidiary>(
    tenant,
    sql`
      ${below}
      select ${COMPANY_LIST_FIELDS}, c.parent_company
        from below
        join companies c on c.id = below.id
        left join company_logos l on l.company = c.id
       where ${isVisible}
       order by below.depth, lower(c.name), c.id
       limit ${limit}::int offset ${offset}::int`,
    sql`
      ${below}
      select count(*) as count from below join companies c on c.id = below.id where ${isVisible}`,
    // Recursive, so not on a connection that others wait for.
    false,
  );
}
