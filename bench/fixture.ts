import type postgres from "postgres";

/**
 * Tables of the product's shape for the benchmarks: who may do what in which company. The same in
 * every tenant and in the schema `bare`, which is the bound: no tenancy, no role, no transaction.
 */
const TABLES = `
create table users (id bigint generated always as identity primary key, email text not null unique,
  full_name text not null, is_active boolean not null default true, created_at timestamptz not null default now());
create table companies (id bigint generated always as identity primary key, name text not null,
  status text not null default 'active', parent_id bigint references companies (id), created_at timestamptz not null default now());
create table memberships (id bigint generated always as identity primary key, user_id bigint not null references users (id),
  company_id bigint not null references companies (id), is_active boolean not null default true, unique (user_id, company_id));
create index on memberships (company_id);
create table roles (id bigint generated always as identity primary key, name text not null, company_id bigint references companies (id));
create table permissions (id bigint generated always as identity primary key, code text not null unique);
create table role_permissions (role_id bigint not null references roles (id), permission_id bigint not null references permissions (id),
  granted boolean not null default true, primary key (role_id, permission_id));
create table membership_roles (membership_id bigint not null references memberships (id), role_id bigint not null references roles (id),
  primary key (membership_id, role_id));
create table notifications (id bigint generated always as identity primary key, user_id bigint not null references users (id),
  message text not null, is_read boolean not null default false, created_at timestamptz not null default now());
create index on notifications (user_id, id);
create table logs (id bigint generated always as identity primary key, user_id bigint not null references users (id),
  action text not null, created_at timestamptz not null default now());
create index on logs (user_id, id);
`;

const TABLE_NAMES =
  "users, companies, memberships, roles, permissions, role_permissions, membership_roles, notifications, logs";

export const USERS_PER_TENANT = 20;
const COMPANIES_PER_TENANT = 5;

const ROWS = `
insert into users (email, full_name) select 'user' || n || '@corp.test', 'User ' || n from generate_series(1, ${USERS_PER_TENANT}) n;
insert into companies (name) select 'Company ' || n from generate_series(1, ${COMPANIES_PER_TENANT}) n;
insert into memberships (user_id, company_id) select u, 1 + u % ${COMPANIES_PER_TENANT} from generate_series(1, ${USERS_PER_TENANT}) u;
insert into roles (name) values ('Owner'), ('Admin'), ('Member');
insert into permissions (code) select 'module.action' || n from generate_series(1, 12) n;
insert into role_permissions (role_id, permission_id) select r, p from generate_series(1, 3) r, generate_series(1, 12) p where p % r = 0;
insert into membership_roles (membership_id, role_id) select m, 1 + m % 3 from generate_series(1, ${USERS_PER_TENANT}) m;
insert into notifications (user_id, message) select u, 'Hello ' || n from generate_series(1, ${USERS_PER_TENANT}) u, generate_series(1, 5) n;
insert into logs (user_id, action) select u, 'LOGIN' from generate_series(1, ${USERS_PER_TENANT}) u, generate_series(1, 5) n;
`;

/** A tag that runs what it is given: the bare driver's or a tenant's. */
export type Run = (
  strings: TemplateStringsArray,
  ...values: number[]
) => Promise<readonly object[]>;

/** The joined read of six tables that decides what a user may do in a company. */
export const readPermissions = (run: Run, user: number) => run`
  select p.code
  from users u
  join memberships m on m.user_id = u.id and m.is_active
  join membership_roles mr on mr.membership_id = m.id
  join roles r on r.id = mr.role_id
  join role_permissions rp on rp.role_id = r.id and rp.granted
  join permissions p on p.id = rp.permission_id
  where u.id = ${user}::bigint and u.is_active`;

/** Twelve reads as an API's routes issue them: look-ups by key, short lists, joins. */
export const MIX: readonly ((run: Run, user: number) => Promise<readonly object[]>)[] = [
  readPermissions,
  (run, user) =>
    run`select id, email, full_name, is_active, created_at from users where id = ${user}::bigint`,
  (run, user) =>
    run`select id, email, full_name from users where email = 'user' || ${user}::bigint || '@corp.test'`,
  (run, user) =>
    run`select id, name, status, parent_id, created_at from companies where id = ${1 + (user % 5)}::bigint`,
  (run) => run`select id, name, status, created_at from companies order by id limit 20`,
  (run, user) =>
    run`select id, message, is_read, created_at from notifications where user_id = ${user}::bigint order by id desc limit 20`,
  (run, user) =>
    run`select count(*) as unread from notifications where user_id = ${user}::bigint and not is_read`,
  (run, user) =>
    run`select id, action, created_at from logs where user_id = ${user}::bigint order by id desc limit 20`,
  (run, user) =>
    run`select c.id, c.name from memberships m join companies c on c.id = m.company_id where m.user_id = ${user}::bigint and m.is_active`,
  (run, user) =>
    run`select u.id, u.full_name from memberships m join users u on u.id = m.user_id where m.company_id = ${1 + (user % 5)}::bigint order by u.id limit 20`,
  (run) => run`select id, name from roles where company_id is null order by id`,
  (run, user) =>
    run`select r.name, p.code from roles r join role_permissions rp on rp.role_id = r.id join permissions p on p.id = rp.permission_id where r.id = ${1 + (user % 3)}::bigint and rp.granted`,
];

/** Makes the schema `bare`, which {@link MIX} finds with `search_path=bare`. */
export async function createBareSchema(admin: postgres.Sql, loginRole: string): Promise<void> {
  await admin.unsafe(`begin; create schema bare; set local search_path to bare; ${TABLES} ${ROWS}
    grant usage on schema bare to ${loginRole};
    grant select on ${TABLE_NAMES} to ${loginRole}; commit`);
}

/** Makes one tenant in one round trip and transaction: role, membership, schema, tables, rows. */
export async function createTenant(
  admin: postgres.Sql,
  id: number,
  loginRole: string,
): Promise<void> {
  await admin.unsafe(`begin; create role t_${id}; grant t_${id} to ${loginRole};
    create schema t_${id}; set local search_path to t_${id}; ${TABLES} ${ROWS}
    grant usage on schema t_${id} to t_${id};
    grant select on ${TABLE_NAMES} to t_${id}; commit`);
}
