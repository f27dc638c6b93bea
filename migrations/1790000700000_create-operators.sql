-- Up Migration

-- What the product's own operators need. The API's role has no rights here: the platform's API works as the
-- role that owns it, in the processes that have DATABASE_MIGRATION_URL.
create schema platform;
revoke all on schema platform from public;

-- A person who runs the installation; not a user of any tenant.
create table platform.operators (
  id                bigint      generated always as identity primary key,
  email             text        not null unique check (email = lower(email) and length(email) <= 254),
  password_hash     text        not null,
  is_active         boolean     not null default true,
  -- The authenticator app's secret, encrypted; in force once it is confirmed.
  sealed_secret     bytea,
  -- acceptOperatorCode relies on this: the newest 30-second step (RFC 6238) whose code was accepted.
  last_step         bigint      not null default 0,
  totp_confirmed_at timestamptz,
  last_login        timestamptz,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  check (totp_confirmed_at is null or sealed_secret is not null)
);

-- A login, from the password to the logout. Refresh tokens are derived, as users' are.
create table platform.sessions (
  id                 bigint      generated always as identity primary key,
  operator_id        bigint      not null references platform.operators (id),
  refresh_salt       bytea       not null,
  refresh_counter    bigint      not null default 0,
  refresh_rotated_at timestamptz not null default now(),
  expires_at         timestamptz not null,
  ended_at           timestamptz,
  ip_address         inet,
  created_at         timestamptz not null default now()
);

create index sessions_of_operator on platform.sessions (operator_id) where ended_at is null;

-- A login whose password was right and whose code is still to come. Kept hashed.
create table platform.challenges (
  id          bigint      generated always as identity primary key,
  operator_id bigint      not null references platform.operators (id),
  token_hash  bytea       not null unique,
  expires_at  timestamptz not null
);

-- Wrong passwords and codes in a row, as in a tenant's schema.
create table platform.failures (
  subject      bytea       not null,
  network      cidr        not null,
  failures     integer     not null default 0,
  locked_until timestamptz,
  updated_at   timestamptz not null default now(),
  primary key (subject, network)
);

-- What operators did. Entries of a tenant stay when it is erased: they name its id alone.
create table platform.logs (
  id               bigint      generated always as identity primary key,
  operator_id      bigint      references platform.operators (id),
  operator_display text        not null,
  action           text        not null,
  tenant_id        bigint,
  metadata         jsonb       not null default '{}',
  ip_address       inet,
  created_at       timestamptz not null default now()
);

create index logs_of_tenant on platform.logs (tenant_id, id);

-- An operator's leave to act in one tenant for a quarter of an hour, for a reason.
create table public.support_sessions (
  id               bigint      generated always as identity primary key,
  tenant_id        bigint      not null references public.tenants (id) on delete cascade,
  operator_id      bigint      not null,
  operator_display text        not null,
  reason           text        not null check (length(reason) between 1 and 500),
  can_write        boolean     not null,
  expires_at       timestamptz not null,
  ended_at         timestamptz,
  created_at       timestamptz not null default now()
);

create index support_sessions_of_tenant on public.support_sessions (tenant_id);
create index support_sessions_of_operator on public.support_sessions (operator_id) where ended_at is null;

-- Processes that serve the tenant ask whether it is still good.
grant select on public.support_sessions to ouvira_registry;

-- Down Migration

drop table public.support_sessions;
drop schema platform cascade;
