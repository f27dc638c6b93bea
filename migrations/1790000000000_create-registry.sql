-- Up Migration

-- A customer of the product: one row, one schema t_<id>, one role of the same name. The subdomain
-- can change, the id never does and is never used again.
create table public.tenants (
  id         bigint      generated always as identity primary key,
  name       text        not null check (length(name) between 1 and 200),
  -- createTenant relies on this: two creates of one subdomain make one tenant. RFC 1035 §2.3.4: a
  -- label has at most 63 octets.
  subdomain  text        not null unique
                         check (subdomain ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  status     text        not null default 'active'
                         check (status in ('active', 'read_only', 'suspended')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- A host name of a tenant's own. It names the tenant once it is verified.
create table public.tenant_domains (
  id          bigint      generated always as identity primary key,
  tenant_id   bigint      not null references public.tenants (id) on delete cascade,
  domain      text        not null check (domain = lower(domain) and length(domain) <= 253),
  is_primary  boolean     not null default false,
  verified_at timestamptz,
  created_at  timestamptz not null default now(),
  unique (tenant_id, domain)
);

-- Many may claim a domain, one holds it.
create unique index tenant_domains_one_holder
  on public.tenant_domains (domain)
  where verified_at is not null;

create unique index tenant_domains_one_primary
  on public.tenant_domains (tenant_id)
  where is_primary;

-- The fleet at a glance: how far each tenant's schema is. What was applied is said by the schema's
-- own pgmigrations; this row is written in the same transaction, so that one query finds who is
-- behind. `version` is the newest migration applied, '' before the first.
create table public.tenant_migrations (
  tenant_id   bigint      primary key references public.tenants (id) on delete cascade,
  version     text        not null default '',
  state       text        not null default 'pending'
                          check (state in ('pending', 'running', 'applied', 'failed')),
  attempts    integer     not null default 0,
  last_error  text,
  duration_ms integer     not null default 0,
  updated_at  timestamptz not null default now()
);

create index tenant_migrations_behind on public.tenant_migrations (version, state);

-- The API finds tenants; it changes nothing here.
grant usage on schema public to ouvira_registry;
grant select on public.tenants, public.tenant_domains, public.tenant_migrations to ouvira_registry;

-- Down Migration

drop table public.tenant_migrations;
drop table public.tenant_domains;
drop table public.tenants;
