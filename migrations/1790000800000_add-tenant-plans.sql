-- Up Migration

alter table public.tenants
  -- For whoever bills: nothing ends by itself when it has passed. Null: no end is known.
  add column paid_until timestamptz,
  add column on_trial boolean not null default false,
  -- The tenant's own limits instead of the installation's: scope → `5000/day`, or `0` for none.
  add column rate_limits jsonb not null default '{}' check (jsonb_typeof(rate_limits) = 'object');

-- Down Migration

alter table public.tenants
  drop column rate_limits,
  drop column on_trial,
  drop column paid_until;
