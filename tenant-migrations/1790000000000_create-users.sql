-- Up Migration

-- A person of this tenant. The same address in another tenant is somebody else.
create table users (
  id                bigint      generated always as identity primary key,
  account_uid       uuid        not null unique default gen_random_uuid(),
  username          text        not null unique check (username = lower(username)),
  full_name         text        not null check (length(full_name) between 1 and 200),
  -- Null after an unverified claim to the address gave way to somebody else's.
  email             text        unique check (email = lower(email) and length(email) <= 254),
  -- E.164 (ITU-T), with the plus.
  primary_mobile    text        not null unique check (primary_mobile ~ '^\+[1-9][0-9]{6,14}$'),
  -- Null until a password is set by the link an operator handed out.
  password_hash     text,
  email_verified_at timestamptz,
  phone_verified_at timestamptz,
  is_active         boolean     not null default true,
  is_tenant_admin   boolean     not null default false,
  two_fa_type       text        check (two_fa_type in ('totp', 'sms')),
  last_login        timestamptz,
  date_joined       timestamptz not null default now(),
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

-- A phone number on its way to becoming a user: the code sent to it, and the proof that it was
-- entered. One row a number, so that wrong tries count whoever asked for the code.
create table signups (
  primary_mobile             text        primary key check (primary_mobile ~ '^\+[1-9][0-9]{6,14}$'),
  full_name                  text        not null check (length(full_name) between 1 and 200),
  -- Null: the number has an account, so no code was sent and none fits.
  otp_hash                   bytea,
  otp_expires_at             timestamptz not null,
  otp_failures               integer     not null default 0,
  blocked_until              timestamptz,
  verification_token_hash    bytea       unique,
  verification_expires_at    timestamptz,
  created_at                 timestamptz not null default now(),
  updated_at                 timestamptz not null default now()
);

-- A login, from the password to the logout. Refresh tokens are derived from the salt, the counter
-- and a key that is not in the database: a copy of this row refreshes nothing.
create table login_sessions (
  id                 bigint      generated always as identity primary key,
  user_id            bigint      not null references users (id),
  refresh_salt       bytea       not null,
  refresh_counter    bigint      not null default 0,
  refresh_rotated_at timestamptz not null default now(),
  expires_at         timestamptz not null,
  ended_at           timestamptz,
  ended_because      text        check (ended_because in ('logout', 'refresh_reused', 'password', 'revoked')),
  ip_address         inet,
  user_agent         text,
  created_at         timestamptz not null default now(),
  last_used_at       timestamptz not null default now(),
  check ((ended_at is null) = (ended_because is null))
);

create index login_sessions_of_user on login_sessions (user_id) where ended_at is null;

-- A one-time link to set a password. Kept hashed.
create table password_resets (
  id         bigint      generated always as identity primary key,
  user_id    bigint      not null references users (id),
  token_hash bytea       not null unique,
  expires_at timestamptz not null,
  used_at    timestamptz,
  created_at timestamptz not null default now()
);

-- Wrong passwords in a row, by account and the network they came from: a stranger's failures lock
-- the stranger out, not the owner. `account` is a keyed hash, of the user's id or of an identifier
-- that nobody has: both are counted alike, so that an answer does not tell which exist.
create table login_failures (
  account      bytea       not null,
  network      cidr        not null,
  failures     integer     not null default 0,
  locked_until timestamptz,
  updated_at   timestamptz not null default now(),
  primary key (account, network)
);

create index login_failures_stale on login_failures (updated_at);

-- What happened to somebody's account. Append-only: the role that serves requests can neither
-- change nor delete a row.
create table security_logs (
  id           bigint      generated always as identity primary key,
  user_id      bigint      references users (id),
  user_display text        not null,
  -- YYYYMMDD in UTC
  date         integer     not null default to_char(now() at time zone 'utc', 'YYYYMMDD')::integer,
  action       text        not null,
  metadata     jsonb       not null default '{}',
  ip_address   inet,
  created_at   timestamptz not null default now()
);

create index security_logs_of_user on security_logs (user_id, id);

-- E-mails and SMS on their way. A row is deleted when its message is sent; what it says is encrypted,
-- since codes and links are in it.
create table messages (
  id              bigint      generated always as identity primary key,
  channel         text        not null check (channel in ('email', 'sms')),
  sealed          bytea       not null,
  attempts        integer     not null default 0,
  next_attempt_at timestamptz not null default now(),
  expires_at      timestamptz not null,
  created_at      timestamptz not null default now()
);

create index messages_due on messages (next_attempt_at);

grant select, insert, update on users, login_sessions, password_resets to {{tenant_role}};
grant select, insert, update, delete on signups, login_failures, messages to {{tenant_role}};
grant select, insert on security_logs to {{tenant_role}};

-- Down Migration

drop table messages;
drop table security_logs;
drop table login_failures;
drop table password_resets;
drop table login_sessions;
drop table signups;
drop table users;
