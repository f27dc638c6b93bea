import { allows, denied, findAccess } from "../access-control/access.ts";
import type { Actor } from "../audit/actor.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";

/** Companies above one another at most. */
export const DEPTH_MAX = 20;

/**
 * Holds a tenant's hierarchy for the transaction: of two moves, each fine by itself, that would close a
 * cycle together, the second sees what the first did.
 * https://www.postgresql.org/docs/18/explicit-locking.html#ADVISORY-LOCKS
 */
export async function lockHierarchy(tx: TenantSql): Promise<void> {
  await tx`
    select pg_advisory_xact_lock(hashtextextended('companies of ' || current_schema(), 0))`;
}

/**
 * Whether a company may be put below `parentId`; the hierarchy is held by the caller.
 *
 * @param id undefined for one that is about to be made
 * @throws AppError `validation_error` for a parent that the caller does not see, `permission_denied`
 *   for one they may not change, `conflict` when it is below the company itself or too deep
 */
export async function checkParent(
  tx: TenantSql,
  actor: Actor,
  id: number | null,
  parentId: number,
): Promise<void> {
  const access = await findAccess(tx, actor.userId, parentId);
  if (!access) {
    throw new AppError("validation_error", "The request body is invalid.", {
      errors: { parent_company: ["There is no such company."] },
    });
  }
  if (!allows(access, "company.update")) throw denied("You may not change that parent company.");
  const [above] = await tx<{ depth: number; is_cycle: boolean }[]>`
    with recursive above (id, depth) as (
      select ${parentId}::bigint, 1
      union all
      select c.parent_company, above.depth + 1
        from companies c
        join above on above.id = c.id
       where c.parent_company is not null and above.depth < ${DEPTH_MAX + 1}::int
    )
    select max(depth) as depth, coalesce(bool_or(id = ${id}::bigint), false) as is_cycle from above`;
  if (above?.is_cycle) {
    throw new AppError("conflict", "The parent is this company itself, or below it.");
  }
  const [below] = await tx<{ depth: number }[]>`
    with recursive below (id, depth) as (
      select ${id}::bigint, 1
      union all
      select c.id, below.depth + 1
        from companies c
        join below on below.id = c.parent_company
       where c.deleted_at is null and below.depth < ${DEPTH_MAX + 1}::int
    )
    select max(depth) as depth from below`;
  if ((above?.depth ?? 0) + (below?.depth ?? 1) > DEPTH_MAX) {
    throw new AppError("conflict", `Companies are at most ${DEPTH_MAX} levels deep.`);
  }
}
