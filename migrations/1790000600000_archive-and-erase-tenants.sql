-- Up Migration

alter table public.tenants
  -- Set while the tenant is to be erased, suspended until then: not before this moment.
  add column delete_after timestamptz,
  -- False: what is queued is dropped unsent. A copy for trying things out tells nobody.
  add column sends_messages boolean not null default true,
  -- Which archive it was made from, and what its logs were sealed with there.
  add column origin jsonb check (jsonb_typeof(origin) = 'object'),
  add constraint tenants_deleted_are_suspended check (delete_after is null or status = 'suspended');

-- That a tenant was erased, and that look-ups found nothing left of it: no name, no person.
create table public.erased_tenants (
  tenant_id  bigint      primary key,
  erased_at  timestamptz not null default now(),
  -- What was looked for → how many were found: 0.
  receipt    jsonb       not null
);

-- Down Migration

drop table public.erased_tenants;
alter table public.tenants
  drop constraint tenants_deleted_are_suspended,
  drop column origin,
  drop column sends_messages,
  drop column delete_after;
