-- Up Migration

-- A company of this tenant, perhaps below another. Rights do not pass from one to the other.
create table companies (
  id                bigint      generated always as identity primary key,
  name              text        not null check (length(name) between 1 and 200),
  description       text        not null default '' check (length(description) <= 5000),
  address           text        not null default '' check (length(address) <= 1000),
  status            text        not null default 'active'
                                check (status in ('active', 'deactivated', 'deleted')),
  create_by         bigint      not null references users (id),
  parent_company    bigint      references companies (id),
  is_parent_company boolean     not null default false,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  deleted_at        timestamptz,
  is_deleted        boolean     not null generated always as (deleted_at is not null) stored,
  check ((status = 'deleted') = (deleted_at is not null)),
  check (parent_company <> id)
);

-- A name is one company's, however it is written, until that is deleted.
create unique index companies_one_name on companies (lower(name)) where deleted_at is null;
create index companies_of_parent on companies (parent_company) where deleted_at is null;

create table company_settings (
  company                 bigint      primary key references companies (id),
  default_language        text        not null default 'en',
  default_currency        text        not null default 'USD',
  timezone                text        not null default 'UTC',
  fiscal_year_start_month integer     not null default 1
                                      check (fiscal_year_start_month between 1 and 12),
  feature_flags           jsonb       not null default '{}'
                                      check (jsonb_typeof(feature_flags) = 'object'),
  updated_at              timestamptz not null default now()
);

-- The image itself: whatever takes the tenant's schema along takes it too.
create table company_logos (
  company      bigint      primary key references companies (id),
  content_type text        not null check (content_type in ('image/png', 'image/jpeg', 'image/webp')),
  bytes        bytea       not null check (length(bytes) <= 524288),
  -- The first half of its SHA-256, in hexadecimal: its ETag.
  digest       text        not null,
  updated_at   timestamptz not null default now()
);

grant select, insert, update on companies, company_settings to {{tenant_role}};
grant select, insert, update, delete on company_logos to {{tenant_role}};

-- Down Migration

drop table company_logos;
drop table company_settings;
drop table companies;
