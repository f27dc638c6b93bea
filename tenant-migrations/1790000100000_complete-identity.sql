-- Up Migration

-- A phone number on its way to becoming a user: the code sent to it, and the proof that it was
-- entered. One row for a number and the network that asked: what a stranger asks for does not replace
-- the code that the number's owner is about to enter. Sign-ups last minutes: none is carried over.
drop table signups;
create table signups (
  primary_mobile          text        not null check (primary_mobile ~ '^\+[1-9][0-9]{6,14}$'),
  network                 cidr        not null,
  full_name               text        not null check (length(full_name) between 1 and 200),
  -- Null: the number has an account, so no code was sent and none fits; or the code was used.
  otp_hash                bytea,
  otp_expires_at          timestamptz not null,
  -- Wrong codes entered while this one was good, from wherever.
  otp_failures            integer     not null default 0,
  verification_token_hash bytea       unique,
  verification_expires_at timestamptz,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now(),
  primary key (primary_mobile, network)
);

create index signups_stale on signups (updated_at);

-- Wrong passwords and codes in a row, by what they were tried on and the network they came from: a
-- stranger's failures lock the stranger out, not the owner. `subject` is a keyed hash, of a user's id,
-- a number or an identifier that nobody has: all are counted alike, so that an answer does not tell
-- which exist.
alter table login_failures rename to failures;
alter table failures rename column account to subject;
alter index login_failures_pkey rename to failures_pkey;
alter index login_failures_stale rename to failures_stale;

-- Passwords that a user had before the present one, newest last; the newest few may not come back.
create table password_history (
  id            bigint      generated always as identity primary key,
  user_id       bigint      not null references users (id),
  password_hash text        not null,
  created_at    timestamptz not null default now()
);

create index password_history_of_user on password_history (user_id, id);

-- What shows, besides the password, that it is the user: on once users.two_fa_type says so, on its way
-- to that before.
create table second_factors (
  user_id         bigint      primary key references users (id),
  method          text        not null check (method in ('totp', 'sms')),
  -- The authenticator app's secret, encrypted.
  sealed_secret   bytea,
  -- acceptTotp relies on this: the newest 30-second step (RFC 6238) whose code was accepted.
  last_step       bigint      not null default 0,
  -- The code sent by SMS to confirm a change of settings.
  code_hash       bytea,
  code_expires_at timestamptz,
  confirmed_at    timestamptz,
  created_at      timestamptz not null default now(),
  check ((method = 'totp') = (sealed_secret is not null)),
  check ((code_hash is null) = (code_expires_at is null))
);

-- Codes for the day the phone is gone. Kept hashed; each works once.
create table backup_codes (
  id         bigint      generated always as identity primary key,
  user_id    bigint      not null references users (id),
  code_hash  bytea       not null,
  used_at    timestamptz,
  created_at timestamptz not null default now(),
  unique (user_id, code_hash)
);

-- A login whose password was right and whose second factor is still to come. Kept hashed: the token
-- opens nothing but the second step.
create table login_challenges (
  id              bigint      generated always as identity primary key,
  user_id         bigint      not null references users (id),
  token_hash      bytea       not null unique,
  is_remembered   boolean     not null,
  -- The code sent by SMS; null with an authenticator app.
  code_hash       bytea,
  code_expires_at timestamptz,
  expires_at      timestamptz not null,
  created_at      timestamptz not null default now(),
  check ((code_hash is null) = (code_expires_at is null))
);

create index login_challenges_of_user on login_challenges (user_id);
create index login_challenges_stale on login_challenges (expires_at);

-- An address that a user says is theirs, until the link sent there is followed. A new address is here
-- alone: users.email stays the old one meanwhile.
create table email_verifications (
  id         bigint      generated always as identity primary key,
  user_id    bigint      not null references users (id),
  email      text        not null check (email = lower(email) and length(email) <= 254),
  token_hash bytea       not null unique,
  expires_at timestamptz not null,
  created_at timestamptz not null default now()
);

create index email_verifications_of_user on email_verifications (user_id);
create index email_verifications_stale on email_verifications (expires_at);
create index password_resets_of_user on password_resets (user_id);
create index password_resets_stale on password_resets (expires_at);
create index login_sessions_stale on login_sessions (coalesce(ended_at, expires_at));

-- purgeStale forgets these; security_logs stay.
grant delete on password_resets, login_sessions to {{tenant_role}};
grant select, insert, update, delete
  on signups, password_history, second_factors, backup_codes, login_challenges, email_verifications
  to {{tenant_role}};

-- Down Migration

revoke delete on password_resets, login_sessions from {{tenant_role}};
drop index login_sessions_stale;
drop index password_resets_stale;
drop index password_resets_of_user;
drop table email_verifications;
drop table login_challenges;
drop table backup_codes;
drop table second_factors;
drop table password_history;
alter index failures_stale rename to login_failures_stale;
alter index failures_pkey rename to login_failures_pkey;
alter table failures rename column subject to account;
alter table failures rename to login_failures;
drop table signups;
create table signups (
  primary_mobile             text        primary key check (primary_mobile ~ '^\+[1-9][0-9]{6,14}$'),
  full_name                  text        not null check (length(full_name) between 1 and 200),
  otp_hash                   bytea,
  otp_expires_at             timestamptz not null,
  otp_failures               integer     not null default 0,
  blocked_until              timestamptz,
  verification_token_hash    bytea       unique,
  verification_expires_at    timestamptz,
  created_at                 timestamptz not null default now(),
  updated_at                 timestamptz not null default now()
);
grant select, insert, update, delete on signups to {{tenant_role}};
