-- Up Migration

-- What a TXT record has to say so that a tenant holds a domain; null for one that an operator vouched for.
alter table public.tenant_domains
  add column verification_token text unique check (length(verification_token) >= 32);

-- Down Migration

alter table public.tenant_domains drop column verification_token;
