-- Up Migration

-- What can be allowed or denied. Built-in ones are what the code asks for; a tenant's admins add their
-- own, for applications that ask by code.
create table permissions (
  id          bigint      generated always as identity primary key,
  code        text        not null check (code ~ '^[a-z][a-z0-9_.-]{0,99}$'),
  module      text        not null check (length(module) between 1 and 100),
  description text        not null default '' check (length(description) <= 1000),
  is_built_in boolean     not null default false,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  deleted_at  timestamptz,
  is_deleted  boolean     not null generated always as (deleted_at is not null) stored
);

create unique index permissions_one_code on permissions (code) where deleted_at is null;

-- A set of permissions: a system role of every company, or one company's own.
create table roles (
  id             bigint      generated always as identity primary key,
  role           text        not null check (length(role) between 1 and 100),
  "desc"         text        not null default '' check (length("desc") <= 1000),
  company        bigint      references companies (id),
  is_system_role boolean     not null default false,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  deleted_at     timestamptz,
  is_deleted     boolean     not null generated always as (deleted_at is not null) stored,
  check (is_system_role = (company is null))
);

create unique index roles_one_name on roles (company, lower(role)) where deleted_at is null;
create unique index roles_one_system_name on roles (lower(role)) where is_system_role;

-- What a role allows; or, with granted false, takes from whoever has it, whatever else they have.
create table role_permissions (
  id         bigint      generated always as identity primary key,
  role       bigint      not null references roles (id),
  permission bigint      not null references permissions (id),
  granted    boolean     not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  is_deleted boolean     not null generated always as (deleted_at is not null) stored
);

create unique index role_permissions_one on role_permissions (role, permission)
  where deleted_at is null;

-- A user's membership of a company.
create table user_companies (
  id                 bigint      generated always as identity primary key,
  "user"             bigint      not null references users (id),
  company            bigint      not null references companies (id),
  is_primary_company boolean     not null default false,
  is_active          boolean     not null default true,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  deleted_at         timestamptz,
  is_deleted         boolean     not null generated always as (deleted_at is not null) stored
);

create unique index user_companies_one on user_companies ("user", company) where deleted_at is null;
create unique index user_companies_one_primary on user_companies ("user")
  where is_primary_company and deleted_at is null;
create index user_companies_of_company on user_companies (company) where deleted_at is null;

-- The roles of a membership.
create table user_company_roles (
  id           bigint      generated always as identity primary key,
  user_company bigint      not null references user_companies (id),
  role         bigint      not null references roles (id),
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  deleted_at   timestamptz,
  is_deleted   boolean     not null generated always as (deleted_at is not null) stored
);

create unique index user_company_roles_one on user_company_roles (user_company, role)
  where deleted_at is null;
create index user_company_roles_of_role on user_company_roles (role) where deleted_at is null;

insert into roles (role, "desc", is_system_role) values
  ('Owner', 'Everything in the company, its deletion included.', true),
  ('Admin', 'Everything in the company but its deletion.', true),
  ('Member', 'Sees the company.', true);

insert into permissions (code, module, description, is_built_in)
values {{built_in_permissions}}
on conflict (code) where deleted_at is null
  do update set module = excluded.module, description = excluded.description, is_built_in = true;

-- An offer to join one company, sent to one e-mail address. Rows stay after they end, as the record of
-- who was let in, by whom and when.
create table invitations (
  id          bigint      generated always as identity primary key,
  email       text        not null check (email = lower(email) and length(email) <= 254),
  company     bigint      not null references companies (id),
  role        bigint      not null references roles (id),
  token_hash  bytea       not null unique,
  invited_by  bigint      not null references users (id),
  status      text        not null default 'pending'
                          check (status in ('pending', 'accepted', 'revoked', 'expired')),
  accepted_by bigint      references users (id),
  expires_at  timestamptz not null,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  deleted_at  timestamptz,
  is_deleted  boolean     not null generated always as (deleted_at is not null) stored
);

-- createInvitation relies on this: one pending offer per address and company.
create unique index invitations_one_pending on invitations (company, email)
  where status = 'pending' and deleted_at is null;

grant select, insert, update
  on permissions, roles, role_permissions, user_companies, user_company_roles, invitations
  to {{tenant_role}};

-- Down Migration

drop table invitations;
drop table user_company_roles;
drop table user_companies;
drop table role_permissions;
drop table roles;
drop table permissions;
