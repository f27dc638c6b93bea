-- Up Migration

-- What a link of the chain that seals a tenant's log must be, kept where the tenant's own role cannot reach
-- it: each entry's id (8 bytes) and digest (32), so that it can be said which one was changed.
create table public.log_checkpoints (
  tenant_id        bigint      not null references public.tenants (id) on delete cascade,
  log              text        not null check (log in ('activity', 'security')),
  number           bigint      not null check (number > 0),
  last_transaction xid8        not null,
  last_id          bigint      not null,
  entries          bytea       not null check (length(entries) > 0 and length(entries) % 40 = 0),
  digest           bytea       not null check (length(digest) = 32),
  created_at       timestamptz not null default now(),
  primary key (tenant_id, log, number)
);

-- That the oldest entries of a log were pruned, up to and with this link: without it they were cut off.
create table public.log_receipts (
  id             bigint      generated always as identity primary key,
  tenant_id      bigint      not null references public.tenants (id) on delete cascade,
  log            text        not null check (log in ('activity', 'security')),
  through_number bigint      not null check (through_number > 0),
  digest         bytea       not null check (length(digest) = 32),
  -- Entries deleted.
  entries        bigint      not null,
  -- Only what was sealed before this was pruned.
  cutoff         timestamptz not null,
  -- True: although the part that was pruned did not hold what its checkpoints say.
  is_forced      boolean     not null,
  pruned_at      timestamptz not null default now(),
  unique (tenant_id, log, through_number)
);

-- Days that entries of a tenant's logs are kept; null: for ever.
alter table public.tenants add column log_retention_days integer check (log_retention_days > 0);

-- The API adds checkpoints and reads; it changes and deletes none.
grant select, insert on public.log_checkpoints to ouvira_registry;
grant select on public.log_receipts to ouvira_registry;

-- Down Migration

alter table public.tenants drop column log_retention_days;
drop table public.log_receipts;
drop table public.log_checkpoints;
