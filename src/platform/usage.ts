import postgres from "postgres";
import { identifier, type AdminConnection } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { getTenantById } from "./tenants.ts";

/** How much there is of a tenant, and whether anybody uses it. */
export interface TenantUsage {
  readonly users: number;
  /** Who have logged in, or whose login was used, in the last 30 days. */
  readonly active_users: number;
  readonly companies: number;
  readonly pending_invitations: number;
  /** From the ids, which have gaps: never fewer than there are. */
  readonly activity_entries: number;
  readonly security_entries: number;
  /** Of the tables of the schema, with their indexes. */
  readonly bytes: number;
  readonly last_login: Date | null;
}

/** Days within which a user counts as active. */
const ACTIVE_DAYS = 30;

/** Counting users and companies of the largest tenant takes a fraction of it; an operator waits no longer. */
const STATEMENT_TIMEOUT_MS = 5_000;

/** https://www.postgresql.org/docs/18/errcodes-appendix.html */
const UNDEFINED_TABLE = "42P01";

/**
 * Counts what a tenant has. Reading only, in a transaction that ends after some seconds a statement.
 *
 * @param admin in a transaction
 * @throws AppError `not_found`; `not_ready` while its schema is older than this release
 */
export async function getTenantUsage(admin: AdminConnection, id: number): Promise<TenantUsage> {
  const { schema } = await getTenantById(admin, id);
  await admin.execute(`set local statement_timeout to ${STATEMENT_TIMEOUT_MS}`);
  await admin.execute(`set local search_path to ${identifier(tenantSchema(id))}`);
  try {
    const [counted] = await admin.query<Omit<TenantUsage, "bytes">[]>`
      select
        (select count(*) from users) as users,
        (select count(*) from users u
          where u.last_login > now() - make_interval(days => ${ACTIVE_DAYS}::int)
             or exists (
               select 1 from login_sessions s
                where s.user_id = u.id
                  and s.last_used_at > now() - make_interval(days => ${ACTIVE_DAYS}::int)
             )) as active_users,
        (select count(*) from companies where deleted_at is null) as companies,
        (select count(*) from invitations where status = 'pending' and expires_at > now())
          as pending_invitations,
        (select coalesce(max(id) - min(id) + 1, 0) from activity_logs) as activity_entries,
        (select coalesce(max(id) - min(id) + 1, 0) from security_logs) as security_entries,
        (select max(last_login) from users) as last_login`;
    const [size] = await admin.query<{ bytes: number }[]>`
      select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint as bytes
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = ${schema} and c.relkind = 'r'`;
    if (!counted || !size) throw new Error("Nothing was counted");
    return { ...counted, bytes: size.bytes };
  } catch (error) {
    if (!(error instanceof postgres.PostgresError) || error.code !== UNDEFINED_TABLE) throw error;
    throw new AppError("not_ready", "This tenant's schema is older than this release.", {
      cause: error,
    });
  }
}
