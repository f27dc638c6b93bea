import {
  accessFrom,
  type AccessRow,
  accessStatement,
  isVisibleTo,
  requireAccess,
} from "../access-control/access.ts";
import { recordActivity } from "../audit/activity-log.ts";
import { type Actor, requireUser } from "../audit/actor.ts";
import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { type Page, type Range, readPage, searchPattern } from "../pages.ts";
import { checkParent, lockHierarchy } from "./hierarchy.ts";
import type { Company, CompanyChange, CompanyListItem, NewCompany } from "./schemas.ts";

/** How lists may be ordered: what `?ordering=` names, and the SQL of it. */
const ORDER_BY = {
  name: sql`lower(c.name), c.id`,
  "-name": sql`lower(c.name) desc, c.id desc`,
  created_at: sql`c.created_at, c.id`,
  "-created_at": sql`c.created_at desc, c.id desc`,
} as const;
export type CompanyOrdering = keyof typeof ORDER_BY;
// Object.keys gives the keys, in the order they are written in.
export const COMPANY_ORDERINGS = Object.keys(ORDER_BY) as CompanyOrdering[];

export interface CompanyFilter {
  readonly search: string | undefined;
  /** Only companies directly below this one. */
  readonly parent: number | undefined;
  readonly ordering: CompanyOrdering;
}

/** Where a company's logo is; changes with its content, so that it can be kept. */
const LOGO = sql`
  case when l.digest is not null then '/api/company/' || c.id || '/logo/?v=' || l.digest end`;

/** The fields of a list, from `companies c` and `company_logos l`. */
export const COMPANY_LIST_FIELDS: Statement = sql`
  c.id, c.name, ${LOGO} as logo, c.status, c.is_parent_company, c.created_at`;

/** The companies that the caller sees: their own, or all of the tenant's for its admins. */
export async function listCompanies(
  tenant: TenantConnection,
  userId: number,
  { search, parent, ordering }: CompanyFilter,
  { limit, offset }: Range,
): Promise<Page<CompanyListItem>> {
  const conditions = [sql`c.deleted_at is null`, isVisibleTo(userId, sql`c.id`)];
  if (search !== undefined) conditions.push(sql`c.name ilike ${searchPattern(search)}`);
  if (parent !== undefined) conditions.push(sql`c.parent_company = ${parent}`);
  const where = conditions.reduce((all, condition) => sql`${all} and ${condition}`);
  return readPage<CompanyListItem>(
    tenant,
    sql`
      select ${COMPANY_LIST_FIELDS}
        from companies c
        left join company_logos l on l.company = c.id
       where ${where}
       order by ${ORDER_BY[ordering]}
       limit ${limit}::int offset ${offset}::int`,
    sql`select count(*) as count from companies c where ${where}`,
    search === undefined && offset === 0,
  );
}

/**
 * A company that the caller belongs to, in one round trip.
 *
 * @throws AppError `not_found` also for one they do not belong to
 */
export async function getCompany(
  tenant: TenantConnection,
  { userId }: Actor,
  id: number,
): Promise<Company> {
  const [[access], [company]] = await tenant.batch<[AccessRow[], Company[]]>(() => [
    accessStatement(userId, id),
    companyStatement(id),
  ]);
  if (!company || !accessFrom(access)) throw noSuchCompany();
  return company;
}

/**
 * Makes a company with its settings; the creator becomes its Owner, in the same transaction. The
 * unique index `companies_one_name` arbitrates between two of one name.
 *
 * @throws AppError `conflict` for a taken name or a hierarchy that is too deep, `validation_error` for a
 *   parent that the caller does not see, `permission_denied` for one they may not change, and for an operator
 */
export async function createCompany(
  tx: TenantSql,
  actor: Actor,
  {
    name,
    description,
    address,
    parent_company: parent = null,
    is_parent_company: isParent,
  }: NewCompany,
): Promise<Company> {
  requireUser(actor);
  if (parent !== null) {
    await lockHierarchy(tx);
    await checkParent(tx, actor, null, parent);
  }
  const [row] = await unlessNameTaken(
    tx<{ id: number }[]>`
      insert into companies (name, description, address, parent_company, is_parent_company, create_by)
      values (${name}, ${description}, ${address}, ${parent}, ${isParent}, ${actor.userId})
      returning id`,
  );
  if (!row) throw new Error("The company was not created");
  await tx`insert into company_settings (company) values (${row.id})`;
  await makeOwner(tx, actor.userId, row.id);
  const company = await findCompany(tx, row.id);
  recordActivity(tx, actor, {
    action: "CREATE",
    entity: "Company",
    entityId: row.id,
    companyId: row.id,
    after: company,
  });
  return company;
}

/** Their first company is a user's primary one; `user_companies_one_primary` lets one be. */
async function makeOwner(tx: TenantSql, userId: number, companyId: number): Promise<void> {
  // Of two companies that one user makes at the same time, the second waits to see the first.
  await tx`select 1 from users where id = ${userId} for no key update`;
  await tx`
    with membership as (
      insert into user_companies ("user", company, is_primary_company)
      values (
        ${userId}, ${companyId},
        not exists (select 1 from user_companies
                     where "user" = ${userId} and is_primary_company and deleted_at is null))
      returning id
    )
    insert into user_company_roles (user_company, role)
    select membership.id, roles.id
      from membership, roles
     where roles.is_system_role and roles.role = 'Owner'`;
}

/** What a status may become. */
const NEXT_STATUS: Readonly<Record<Company["status"], readonly Company["status"][]>> = {
  active: ["deactivated"],
  deactivated: ["active", "deleted"],
  deleted: [],
};

/**
 * Changes a company. Its row is held, so that changes of one company come one after the other; a new
 * parent is checked while the tenant's hierarchy is held, so that no two moves close a cycle together.
 * The status `deleted` is {@link deleteCompany}, of a deactivated company.
 *
 * @throws AppError `not_found`, `permission_denied`, `conflict` for a taken name, a change of status
 *   that there is not, a cycle or too deep a hierarchy, `validation_error` for a parent that the caller
 *   does not see
 */
export async function changeCompany(
  tx: TenantSql,
  actor: Actor,
  id: number,
  change: CompanyChange,
): Promise<Company> {
  const isDeletion = change.status === "deleted";
  if (change.parent_company !== undefined || isDeletion) await lockHierarchy(tx);
  await lockCompany(tx, id);
  await requireAccess(tx, actor, id, "company.update");
  const before = await findCompany(tx, id);
  const after = { ...before, ...sentFields(change) };
  if (after.status !== before.status && !NEXT_STATUS[before.status].includes(after.status)) {
    throw new AppError(
      "conflict",
      `A company that is ${before.status} cannot become ${after.status}.`,
    );
  }
  if (after.parent_company !== null && after.parent_company !== before.parent_company) {
    await checkParent(tx, actor, id, after.parent_company);
  }
  await unlessNameTaken(tx`
    update companies set
      name = ${after.name}, description = ${after.description}, address = ${after.address},
      parent_company = ${after.parent_company}, is_parent_company = ${after.is_parent_company},
      status = ${isDeletion ? before.status : after.status}, updated_at = now()
    where id = ${id}`);
  const changed = await findCompany(tx, id);
  recordActivity(tx, actor, {
    action: "UPDATE",
    entity: "Company",
    entityId: id,
    companyId: id,
    before,
    after: changed,
  });
  return isDeletion ? softDelete(tx, actor, changed) : changed;
}

/**
 * Deletes a company: it answers 404 from now on, and its name is free. Its rows stay, as the record.
 *
 * @throws AppError `not_found`, `permission_denied` unless the caller is its owner, `conflict` while
 *   there are companies below it
 */
export async function deleteCompany(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  await lockHierarchy(tx);
  await lockCompany(tx, id);
  await requireAccess(tx, actor, id, "owner");
  await softDelete(tx, actor, await findCompany(tx, id));
}

/** The hierarchy and the company are held by the caller. */
async function softDelete(tx: TenantSql, actor: Actor, company: Company): Promise<Company> {
  await requireAccess(tx, actor, company.id, "owner");
  const below = await tx`
    select 1 from companies where parent_company = ${company.id} and deleted_at is null limit 1`;
  if (below.length > 0) {
    throw new AppError(
      "conflict",
      "There are companies below this one. Move or delete them first.",
    );
  }
  const [deleted] = await tx<Pick<Company, "status" | "updated_at" | "deleted_at">[]>`
    update companies set status = 'deleted', deleted_at = now(), updated_at = now()
     where id = ${company.id}
    returning status, updated_at, deleted_at`;
  // A user's primary company is one that there is.
  await tx`
    update user_companies set is_primary_company = false, updated_at = now()
     where company = ${company.id} and is_primary_company`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "Company",
    entityId: company.id,
    companyId: company.id,
    before: company,
  });
  return { ...company, ...deleted, is_deleted: true };
}

/**
 * Holds a company for the transaction. Whatever changes a company, its settings, roles, members or
 * invitations holds it first and asks for permission then: a right that is taken away at the same time
 * is gone before the change, or after it.
 */
export async function lockCompany(tx: TenantSql, id: number): Promise<void> {
  await tx`select 1 from companies where id = ${id} for no key update`;
}

/** @throws AppError `not_found` */
async function findCompany(tx: TenantSql, id: number): Promise<Company> {
  const [company] = await tx<Company[]>`${companyStatement(id)}`;
  if (!company) throw noSuchCompany();
  return company;
}

function companyStatement(id: number): Statement {
  return sql`
    select
      c.id, c.name, ${LOGO} as logo, c.description, c.address, c.status, c.create_by,
      c.parent_company, c.is_parent_company,
      jsonb_build_object(
        'default_language', s.default_language,
        'default_currency', s.default_currency,
        'timezone', s.timezone,
        'fiscal_year_start_month', s.fiscal_year_start_month,
        'feature_flags', s.feature_flags) as settings,
      c.created_at, c.updated_at, c.deleted_at, c.is_deleted
    from companies c
    join company_settings s on s.company = c.id
    left join company_logos l on l.company = c.id
    where c.id = ${id} and c.deleted_at is null`;
}

export function noSuchCompany(): AppError {
  return new AppError("not_found", "There is no such company.");
}

/** The fields that were sent: one that was not leaves what is there. */
function sentFields<Change extends object>(
  change: Change,
): { [Field in keyof Change]?: Exclude<Change[Field], undefined> } {
  // What is undefined is left out, which the types of entries cannot say.
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)) as {
    [Field in keyof Change]?: Exclude<Change[Field], undefined>;
  };
}

async function unlessNameTaken<T>(statement: Promise<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    if (violatedUnique(error) !== "companies_one_name") throw error;
    throw new AppError("conflict", "There is a company of this name.", { cause: error });
  }
}
