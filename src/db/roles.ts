import postgres from "postgres";
import { type AdminConnection, identifier, literal } from "./admin.ts";
import { AppError } from "../errors.ts";
import type { RunSql } from "./sql.ts";
import { REGISTRY_ROLE } from "./tenant-database.ts";

/** PostgreSQL whose `grant … with inherit false, set true` the roles rest on. */
const SERVER_VERSION_MIN = 160_000;

/** SQLSTATEs of a role that came to be, or rights that changed, between a look and the change. */
const ROLE_RACE_CODES = new Set(["42710", "23505", "XX000"]);
const ATTEMPTS_MAX = 5;

/** SQLSTATE of a right that is not held. */
const INSUFFICIENT_PRIVILEGE = "42501";

/** Roles that one statement grants: each takes a lock. */
const ROLES_PER_GRANT = 100;

/** Who the API logs in as, from its connection URL. */
export interface ApiRole {
  readonly name: string;
  /** Set when the role has to be made. */
  readonly password: string;
}

/** @throws TypeError when `url` is not a URL */
export function apiRoleOf(url: string): ApiRole {
  const { username, password } = new URL(url);
  return { name: decodeURIComponent(username), password: decodeURIComponent(password) };
}

/**
 * Makes the roles that do not exist yet and closes what PostgreSQL leaves open to everybody. The
 * API's role may log in and nothing else: it takes on a tenant's role for a transaction at a time,
 * and inherits none. Safe to run again, and beside another run.
 * https://www.postgresql.org/docs/18/role-membership.html
 */
export async function ensureRoles(admin: AdminConnection, api: ApiRole): Promise<void> {
  const [server] = await admin.query<{ version: number; database: string; me: string }[]>`
    select
      current_setting('server_version_num')::int as version,
      current_database()                         as database,
      current_user::text                         as me`;
  if (!server) throw new Error("The server does not answer");
  if (server.version < SERVER_VERSION_MIN) {
    throw new Error(
      `PostgreSQL ${Math.floor(server.version / 10_000)} is too old: 16 or newer is needed`,
    );
  }
  for (let attempt = 1; ; attempt += 1) {
    try {
      await admin.transaction(() => makeRoles(admin, api, server.database));
      return;
    } catch (error) {
      // Roles are the cluster's and `create role` has no `if not exists`: another database of the
      // product may have been making the same one. It is there the next time.
      const code = error instanceof postgres.PostgresError ? error.code : "";
      if (code === INSUFFICIENT_PRIVILEGE) throw notOurs(error);
      const isRaced = ROLE_RACE_CODES.has(code);
      if (!isRaced || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

function notOurs(cause: unknown): AppError {
  return new AppError(
    "conflict",
    "The role of DATABASE_MIGRATION_URL may not make the roles of an installation, or another installation on this PostgreSQL server has made them: it needs createrole, and a server (not only a database) of its own.",
    { cause },
  );
}

/**
 * Gives the API's role those tenants' roles that it does not have: all of them, where it is another one than
 * before. Safe to run again.
 */
export async function grantTenantRoles(admin: AdminConnection, { name }: ApiRole): Promise<void> {
  const missing = await admin.query<{ role: string }[]>`
    select r.rolname::text as role
      from public.tenants t
      join pg_roles r on r.rolname = 't_' || t.id
     where not exists (
       select 1 from pg_auth_members m join pg_roles a on a.oid = m.member
        where m.roleid = r.oid and a.rolname = ${name} and m.set_option)
     order by t.id`;
  for (let start = 0; start < missing.length; start += ROLES_PER_GRANT) {
    const roles = missing.slice(start, start + ROLES_PER_GRANT).map(({ role }) => identifier(role));
    await admin.execute(
      `grant ${roles.join(", ")} to ${identifier(name)} with inherit false, set true`,
    );
  }
}

async function makeRoles(admin: AdminConnection, api: ApiRole, database: string): Promise<void> {
  const existing = await admin.query<{ rolname: string }[]>`
      select rolname from pg_roles where rolname = any(${[REGISTRY_ROLE, api.name]}::text[])`;
  const has = (name: string) => existing.some(({ rolname }) => rolname === name);
  const databaseName = identifier(database);
  const apiName = identifier(api.name);
  if (!has(REGISTRY_ROLE)) await admin.execute(`create role ${REGISTRY_ROLE} nologin`);
  if (!has(api.name)) {
    await admin.execute(
      `create role ${apiName} login noinherit nosuperuser nocreatedb nocreaterole password ${literal(api.password)}`,
    );
  }
  await admin.execute(`
      revoke all on database ${databaseName} from public;
      grant connect on database ${databaseName} to ${apiName};
      revoke all on schema public from public;
      grant ${REGISTRY_ROLE} to ${apiName} with inherit false, set true`);
}

/**
 * What makes the role that logged in unfit to serve requests, a sentence each, whatever role `query` has taken on;
 * empty when it is fit. A superuser, or an owner of tables, reads every tenant whatever role it has taken on before.
 * Who owns what is asked of pg_shdepend, which has an index for it: pg_class has 150 rows a tenant and none.
 * https://www.postgresql.org/docs/18/catalog-pg-shdepend.html
 */
export async function findRoleGaps(query: RunSql): Promise<string[]> {
  const [role] = await query<
    {
      name: string;
      is_superuser: boolean;
      can_create_role: boolean;
      can_create_database: boolean;
      bypasses_row_security: boolean;
      can_create_schema: boolean;
      can_make_temporary: boolean;
      inherited: string | null;
      owns_tables: boolean;
    }[]
  >`
    select
      r.rolname::text                                                     as name,
      r.rolsuper                                                          as is_superuser,
      r.rolcreaterole                                                     as can_create_role,
      r.rolcreatedb                                                       as can_create_database,
      r.rolbypassrls                                                      as bypasses_row_security,
      has_database_privilege(r.oid, current_database(), 'create')         as can_create_schema,
      has_database_privilege(r.oid, current_database(), 'temporary')      as can_make_temporary,
      (select min(g.rolname::text)
         from pg_auth_members m
         join pg_roles g on g.oid = m.roleid
        where m.member = r.oid and m.inherit_option)                      as inherited,
      exists (
        select 1
          from pg_shdepend d
          join pg_database b on b.oid = d.dbid
         where d.refclassid = 'pg_authid'::regclass
           and d.refobjid = r.oid
           and d.deptype = 'o'
           and d.classid = 'pg_class'::regclass
           and b.datname = current_database())                            as owns_tables
    from pg_roles r
    where r.rolname = session_user`;
  if (!role) return ["The database does not know the role it was asked with."];
  const gaps: [boolean, string][] = [
    [role.is_superuser, "is a superuser"],
    [role.can_create_role, "may create roles"],
    [role.can_create_database, "may create databases"],
    [role.bypasses_row_security, "bypasses row security"],
    [role.can_create_schema, "may create schemas"],
    [role.can_make_temporary, "may create temporary tables"],
    [role.inherited !== null, `inherits the rights of ${role.inherited}`],
    [role.owns_tables, "owns tables"],
  ];
  return gaps
    .filter(([isGap]) => isGap)
    .map(
      ([, what]) =>
        `DATABASE_URL: the role ${role.name} ${what}; give the API a role that may only log in (npm run migrate makes it).`,
    );
}
