import postgres from "postgres";
import { newUsername } from "../auth/users.ts";
import { type AdminConnection, identifier } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import {
  APPLIED_TABLE,
  newestVersion,
  type TenantMigration,
  upgradeText,
} from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import { randomToken, sha256 } from "../keys.ts";
import { TENANTS_CHANNEL } from "./directory.ts";

export interface NewTenant {
  readonly name: string;
  /** Checked by parseSubdomain. */
  readonly subdomain: string;
  /** A host name of the tenant's own that the operator vouches for. */
  readonly domain?: string;
  readonly owner: NewOwner;
}

export interface NewOwner {
  readonly fullName: string;
  /** Lower case. */
  readonly email: string;
  /** E.164. */
  readonly phone: string;
  /** Without one a token to set it is made. */
  readonly passwordHash?: string;
}

export interface CreatedTenant {
  id: number;
  name: string;
  subdomain: string;
  schema: string;
  version: string;
  /** The secret of a link with which the owner sets a password, when none was given. */
  passwordToken: string | undefined;
}

/** How long the owner has to set the first password, in hours. */
const FIRST_PASSWORD_HOURS = 72;

/** SQLSTATE of `create role` when the cluster has one of that name, and what it hits when it just got one. */
const DUPLICATE_OBJECT = "42710";
const ROLE_NAME_INDEX = "pg_authid_rolname_index";

/** How often an id that is taken by another database of the cluster is stepped over. */
const ID_ATTEMPTS_MAX = 10;

/**
 * Creates a tenant: registry row, role, schema, tables, grants and owner in one transaction, or
 * nothing. The unique constraint on `tenants.subdomain` arbitrates between two creates of one
 * subdomain.
 *
 * @param apiRole the role that serves requests and is to act for the tenant
 * @param within run in the transaction, once the tenant is there
 * @throws AppError `conflict` when the subdomain or the domain is taken
 */
export async function createTenant(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  apiRole: string,
  tenant: NewTenant,
  within: (tenantId: number) => Promise<void> = () => Promise.resolve(),
): Promise<CreatedTenant> {
  return withFreshId(admin, async () => {
    const created = await createInTransaction(admin, migrations, apiRole, tenant);
    await within(created.id);
    return created;
  });
}

/**
 * Runs the transaction that makes a tenant, again with the next id when the cluster has a role of that name.
 *
 * @throws AppError `conflict` when a domain belongs to another tenant
 */
export async function withFreshId<T>(admin: AdminConnection, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await admin.transaction(work);
    } catch (error) {
      if (!(error instanceof postgres.PostgresError)) throw error;
      if (error.constraint_name === "tenant_domains_one_holder") {
        throw new AppError("conflict", "The domain belongs to another tenant.", { cause: error });
      }
      const isRoleTaken =
        error.code === DUPLICATE_OBJECT || error.constraint_name === ROLE_NAME_INDEX;
      if (!isRoleTaken || attempt === ID_ATTEMPTS_MAX) throw error;
      await stepOverTakenIds(admin);
    }
  }
}

/**
 * Makes a tenant's role and schema, runs `text` there and leaves the schema on the path for the rest of the
 * transaction.
 */
export async function createSchema(
  admin: AdminConnection,
  tenantId: number,
  apiRole: string,
  text: string,
): Promise<string> {
  const schema = tenantSchema(tenantId);
  const login = (await isCitus(admin)) ? "login" : "nologin";
  // One message: the DDL is the cost, round trips would add to it.
  await admin.execute(`
    create role ${schema} ${login};
    grant ${schema} to ${identifier(apiRole)} with inherit false, set true;
    create schema ${schema};
    grant usage on schema ${schema} to ${schema};
    set local search_path to ${schema};
    ${APPLIED_TABLE}
    ${text}`);
  return schema;
}

/**
 * Whether the server coordinates a cluster of Citus: its nodes then connect to each other as the role that acts.
 * The role has no password; who may connect as it is said in pg_hba.conf (docs/SCALING.md).
 */
async function isCitus(admin: AdminConnection): Promise<boolean> {
  const [row] = await admin.query<{ is_citus: boolean }[]>`
    select exists (select 1 from pg_extension where extname = 'citus') as is_citus`;
  return row?.is_citus ?? false;
}

async function createInTransaction(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  apiRole: string,
  { name, subdomain, domain, owner }: NewTenant,
): Promise<CreatedTenant> {
  const startedAt = performance.now();
  const [row] = await admin.query<{ id: number }[]>`
    insert into public.tenants (name, subdomain) values (${name}, ${subdomain})
    on conflict (subdomain) do nothing
    returning id`;
  if (!row) throw new AppError("conflict", `The subdomain "${subdomain}" is taken.`);
  if (domain !== undefined) {
    await admin.query`
      insert into public.tenant_domains (tenant_id, domain, is_primary, verified_at)
      values (${row.id}, ${domain}, true, now())`;
  }
  const text = upgradeText(migrations, [], tenantSchema(row.id));
  const schema = await createSchema(admin, row.id, apiRole, text);
  const passwordToken = await insertOwner(admin, owner);
  const version = newestVersion(migrations);
  await admin.query`
    insert into public.tenant_migrations (tenant_id, version, state, attempts, duration_ms)
    values (${row.id}, ${version}, 'applied', 1, ${Math.round(performance.now() - startedAt)})`;
  // Whoever remembers that there is no such tenant forgets it.
  await admin.query`select pg_notify(${TENANTS_CHANNEL}, ${String(row.id)})`;
  return { id: row.id, name, subdomain, schema, version, passwordToken };
}

async function insertOwner(
  admin: AdminConnection,
  { fullName, email, phone, passwordHash }: NewOwner,
): Promise<string | undefined> {
  const [user] = await admin.query<{ id: number }[]>`
    insert into users (
      username, full_name, email, primary_mobile, password_hash,
      email_verified_at, phone_verified_at, is_tenant_admin
    )
    values (
      ${newUsername()}, ${fullName}, ${email}, ${phone}, ${passwordHash ?? null},
      now(), now(), true
    )
    returning id`;
  if (!user) throw new Error("The owner was not created");
  await admin.query`
    insert into security_logs (user_id, user_display, action, metadata)
    values (${user.id}, ${email}, 'ACCOUNT_PROVISIONED', '{}')`;
  if (passwordHash !== undefined) return undefined;
  const token = randomToken();
  await admin.query`
    insert into password_resets (user_id, token_hash, expires_at)
    values (${user.id}, ${sha256(token)}, now() + make_interval(hours => ${FIRST_PASSWORD_HOURS}::int))`;
  return token;
}

/**
 * Moves the sequence of ids past every `t_<n>` of the cluster. Roles belong to the whole cluster:
 * another database of this product there may have taken the next ones.
 */
async function stepOverTakenIds(admin: AdminConnection): Promise<void> {
  await admin.query`
    select setval(
      pg_get_serial_sequence('public.tenants', 'id'),
      greatest(
        (select max(substring(rolname from 3)::bigint) from pg_roles where rolname ~ '^t_[0-9]{1,15}$'),
        (select last_value from public.tenants_id_seq)))`;
}
