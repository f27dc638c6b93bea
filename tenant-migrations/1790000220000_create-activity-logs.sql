-- Up Migration

-- What was changed, by whom, in which company. Append-only: the role that serves requests can neither
-- change nor delete a row.
create table activity_logs (
  id             bigint      generated always as identity primary key,
  user_id        bigint      references users (id),
  user_display   text        not null,
  -- Null for what belongs to the whole tenant.
  company_id     bigint      references companies (id),
  -- YYYYMMDD in UTC
  date           integer     not null default to_char(now() at time zone 'utc', 'YYYYMMDD')::integer,
  entity_type    text        not null,
  entity_id      bigint      not null,
  action         text        not null,
  old_values     jsonb       not null default '{}',
  new_values     jsonb       not null default '{}',
  ip_address     inet,
  created_at     timestamptz not null default now(),
  -- Sealing relies on this: ids are given out in another order than transactions commit.
  transaction_id xid8        not null default pg_current_xact_id()
);

-- A page of the log costs the same at any depth: each filter has an index in the log's order.
create index activity_logs_newest on activity_logs (created_at, id);
create index activity_logs_of_company on activity_logs (company_id, created_at, id);
create index activity_logs_of_user on activity_logs (user_id, created_at, id);
create index activity_logs_of_entity on activity_logs (entity_type, entity_id, created_at, id);
create index activity_logs_of_action on activity_logs (action, created_at, id);
create index activity_logs_sealed on activity_logs (transaction_id, id);

alter table security_logs add column transaction_id xid8 not null default pg_current_xact_id();
create index security_logs_newest on security_logs (created_at, id);
create index security_logs_in_order_of_user on security_logs (user_id, created_at, id);
create index security_logs_sealed on security_logs (transaction_id, id);
drop index security_logs_of_user;

-- A link of the chain that seals a log: so many entries, after those of the link before, have this
-- digest together with that link's. Append-only as the logs are.
create table log_seals (
  log              text        not null check (log in ('activity', 'security')),
  number           bigint      not null check (number > 0),
  -- The newest entry sealed, in the order of (transaction_id, id).
  last_transaction xid8        not null,
  last_id          bigint      not null,
  entries          integer     not null check (entries > 0),
  digest           bytea       not null check (length(digest) = 32),
  created_at       timestamptz not null default now(),
  -- sealLog relies on this: of two who seal the same entries one fails.
  primary key (log, number)
);

-- What concerns one person, until they have read it and after.
create table notifications (
  id         bigint      generated always as identity primary key,
  user_id    bigint      not null references users (id),
  message    text        not null check (length(message) <= 1000),
  read_at    timestamptz,
  created_at timestamptz not null default now()
);

create index notifications_of_user on notifications (user_id, id);
create index notifications_unread on notifications (user_id) where read_at is null;

-- The devices a user has logged in with before.
create index login_sessions_by_user on login_sessions (user_id);

grant select, insert on activity_logs, log_seals to {{tenant_role}};
grant select, insert, update on notifications to {{tenant_role}};

-- Down Migration

drop index login_sessions_by_user;
drop table notifications;
drop table log_seals;
create index security_logs_of_user on security_logs (user_id, id);
drop index security_logs_sealed;
drop index security_logs_in_order_of_user;
drop index security_logs_newest;
alter table security_logs drop column transaction_id;
drop table activity_logs;
