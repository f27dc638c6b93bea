-- Up Migration

-- A hint: this tenant's `messages` may hold something to send at `due_at`. It is written before the
-- message is, so there may be a hint without a message, never a message without a hint. What is to be
-- sent stays in the tenant's schema; a worker that looks for work reads this table and no other.
create table public.message_queues (
  tenant_id bigint      primary key references public.tenants (id) on delete cascade,
  -- When something was last said to be queued: the row stays until a transaction that was open then
  -- must have ended.
  marked_at timestamptz not null default now(),
  -- When to look next. Pushed ahead by the worker that looks, so that others leave the tenant to it.
  due_at    timestamptz not null default now()
);

create index message_queues_due on public.message_queues (due_at);

-- The API marks, looks and forgets.
grant select, insert, update, delete on public.message_queues to ouvira_registry;

-- Down Migration

drop table public.message_queues;
