import postgres from "postgres";
import { type AdminConnection, identifier } from "../db/admin.ts";
import { json, type RunSql, Statement } from "../db/sql.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { getTenant, tellProcesses } from "./life-cycle.ts";
import type { TenantRecord } from "./tenants.ts";

/** Days between saying that a tenant is to be erased and erasing it, unless said otherwise. */
export const GRACE_DAYS = 30;

/** Where something of a tenant was looked for, and how much was found. */
export interface Trace {
  readonly place: string;
  readonly found: number;
}

/** That a tenant is gone. */
export interface ErasureReceipt {
  readonly tenant_id: number;
  readonly subdomain: string;
  readonly erased_at: Date;
  /** Rows and objects there were; those below `after` are what is left, which is nothing. */
  readonly before: readonly Trace[];
  readonly after: readonly Trace[];
}

/**
 * Suspends a tenant and says when it may be erased: nothing is deleted now, and activating it takes it back.
 * Said again, the time starts anew.
 *
 * @throws AppError `tenant_not_found`
 */
export async function scheduleErasure(
  query: RunSql,
  subdomain: string,
  graceDays: number = GRACE_DAYS,
): Promise<TenantRecord> {
  const { id } = await getTenant(query, subdomain);
  await query`
    update public.tenants
       set status = 'suspended', updated_at = now(),
           delete_after = now() + make_interval(days => ${graceDays}::int)
     where id = ${id}`;
  await tellProcesses(query, id);
  return getTenant(query, subdomain);
}

/** Subdomains of the tenants whose grace is over, the longest first. */
export async function listDueErasures(query: RunSql): Promise<string[]> {
  const rows = await query<{ subdomain: string }[]>`
    select subdomain from public.tenants where delete_after <= now() order by delete_after, id`;
  return rows.map(({ subdomain }) => subdomain);
}

/**
 * Erases a tenant whose grace is over: schema, role and every row of the registry in one transaction, then
 * looks in the catalog for what is left. The receipt stays in `public.erased_tenants`, without a name. Its id
 * is never used again.
 *
 * @throws AppError `tenant_not_found`; `conflict` when it was not scheduled, its grace is not over, or
 *   something of it is still in use
 */
export async function eraseTenant(
  admin: AdminConnection,
  subdomain: string,
): Promise<ErasureReceipt> {
  const { id, subdomain: name } = await getTenant(admin.query, subdomain);
  const before = await findTraces(admin, id);
  await admin
    .transaction(() => eraseInTransaction(admin, id, name, before))
    .catch((error: unknown) => {
      throw isLockTimeout(error) ? stillInUse(name, error) : error;
    });
  const after = await findTraces(admin, id);
  const left = after.filter(({ found }) => found > 0);
  if (left.length > 0) {
    const places = left.map(({ place, found }) => `${place} (${found})`).join(", ");
    throw new Error(`Something of the tenant ${id} is left: ${places}`);
  }
  const [record] = await admin.query<{ erased_at: Date }[]>`
    update public.erased_tenants set receipt = ${json({ before, after })} where tenant_id = ${id}
    returning erased_at`;
  if (!record) throw new Error("The receipt was not written");
  return { tenant_id: id, subdomain: name, erased_at: record.erased_at, before, after };
}

async function eraseInTransaction(
  admin: AdminConnection,
  id: number,
  name: string,
  before: readonly Trace[],
): Promise<void> {
  const [row] = await admin.query<{ is_due: boolean | null }[]>`
    select delete_after <= now() as is_due from public.tenants where id = ${id} for update`;
  if (!row) throw new AppError("tenant_not_found", `There is no tenant "${name}".`);
  if (row.is_due === null) {
    throw new AppError("conflict", `"${name}" was not said to be deleted.`);
  }
  if (!row.is_due) throw new AppError("conflict", `The grace of "${name}" is not over yet.`);
  const schema = identifier(tenantSchema(id));
  // One tenant's objects take some 300 locks: one tenant for each transaction.
  await admin.execute(`drop schema if exists ${schema} cascade`);
  await admin.query`delete from public.tenants where id = ${id}`;
  await admin.execute(`drop role if exists ${schema}`);
  // Killed before the look-ups, it is known all the same that it was erased.
  await admin.query`
    insert into public.erased_tenants (tenant_id, receipt) values (${id}, ${json({ before })})`;
  await tellProcesses(admin.query, id);
}

/** SQLSTATE lock_not_available: somebody's statement is still at one of the tenant's tables. */
function isLockTimeout(error: unknown): boolean {
  return error instanceof postgres.PostgresError && error.code === "55P03";
}

function stillInUse(name: string, cause: unknown): AppError {
  return new AppError("conflict", `Something of "${name}" is still in use. Try again.`, { cause });
}

/**
 * Looks for whatever belongs to a tenant: objects of its schema and role in the catalog, and rows of every
 * table of the registry that refers to tenants, so that a new one is looked into, too.
 */
async function findTraces(admin: AdminConnection, id: number): Promise<Trace[]> {
  const schema = tenantSchema(id);
  const [catalog] = await admin.query<Record<string, number>[]>`
    select
      (select count(*) from pg_namespace where nspname = ${schema})               as schemas,
      (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = ${schema})                                               as relations,
      (select count(*) from pg_roles where rolname = ${schema})                    as roles,
      (select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid
        where r.rolname = ${schema})                                               as role_memberships,
      (select count(*) from public.tenants where id = ${id})                       as tenants`;
  const traces = Object.entries(catalog ?? {}).map(([place, found]) => ({ place, found }));
  const tables = await admin.query<{ name: string; column: string }[]>`
    select f.conrelid::regclass::text as name, quote_ident(a.attname) as column
      from pg_constraint f
      join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
     where f.contype = 'f' and f.confrelid = 'public.tenants'::regclass
     order by 1`;
  for (const { name, column } of tables) {
    const [row] = await admin.query<{ found: number }[]>`
      select count(*) as found from ${piece(name)} where ${piece(column)} = ${id}`;
    traces.push({ place: name, found: row?.found ?? 0 });
  }
  return traces;
}

/** A name that the catalog gave, quoted where it has to be. */
function piece(name: string): Statement {
  return new Statement(name, []);
}
