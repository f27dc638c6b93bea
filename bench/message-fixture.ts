import type { Fixture } from "./tenants.ts";
import { REGISTRY_ROLE } from "../src/db/tenant-database.ts";

/**
 * As much of the product's database as queued messages need: in each tenant nothing but `messages`, in
 * the registry `tenants` with the columns that are read, and the hints.
 */
export const MESSAGE_FIXTURE: Fixture = {
  async prepare(admin, loginRole) {
    await admin.unsafe(`
      do $$ begin create role ${REGISTRY_ROLE} nologin; exception when duplicate_object then null; end $$;
      grant ${REGISTRY_ROLE} to ${loginRole} with inherit false, set true;
      create table public.tenants (id bigint primary key, status text not null default 'active');
      create table public.message_queues (
        tenant_id bigint      primary key references public.tenants (id) on delete cascade,
        marked_at timestamptz not null default now(),
        due_at    timestamptz not null default now()
      );
      create index on public.message_queues (due_at);
      grant usage on schema public to ${REGISTRY_ROLE};
      grant select on public.tenants to ${REGISTRY_ROLE};
      grant select, insert, update, delete on public.message_queues to ${REGISTRY_ROLE}`);
  },
  async createTenant(admin, id, loginRole) {
    await admin.unsafe(`begin; create role t_${id}; grant t_${id} to ${loginRole};
      create schema t_${id}; set local search_path to t_${id};
      create table messages (id bigint generated always as identity primary key,
        channel text not null, sealed bytea not null, attempts integer not null default 0,
        next_attempt_at timestamptz not null default now(), expires_at timestamptz not null,
        created_at timestamptz not null default now());
      create index messages_due on messages (next_attempt_at);
      grant usage on schema t_${id} to t_${id};
      grant select, insert, update, delete on messages to t_${id};
      insert into public.tenants (id) values (${id}); commit`);
  },
};
