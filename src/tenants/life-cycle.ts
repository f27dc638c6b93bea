import type { RunSql } from "../db/sql.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { TENANTS_CHANNEL } from "./directory.ts";
import { parseSubdomain } from "./subdomains.ts";
import { findTenant, type TenantRecord, type TenantStatus } from "./tenants.ts";

/** @throws AppError `tenant_not_found` */
export async function getTenant(query: RunSql, subdomain: string): Promise<TenantRecord> {
  const tenant = await findTenant(query, subdomain);
  if (!tenant) throw new AppError("tenant_not_found", `There is no tenant "${subdomain}".`);
  return tenant;
}

/**
 * Says what a tenant may do: everything, read, or nothing. Every process knows within a second; a request
 * that is under way then is finished. The same status again changes nothing. A tenant that was to be erased
 * and may do something again is not to be erased any more.
 *
 * @throws AppError `tenant_not_found`
 */
export async function setTenantStatus(
  query: RunSql,
  subdomain: string,
  status: TenantStatus,
): Promise<TenantRecord> {
  const { id } = await getTenant(query, subdomain);
  await query`
    update public.tenants
       set status = ${status}, updated_at = now(),
           delete_after = case when ${status}::text = 'suspended' then delete_after end
     where id = ${id} and status <> ${status}`;
  await tellProcesses(query, id);
  return getTenant(query, subdomain);
}

/**
 * Gives a tenant another subdomain. Its id, schema and role stay; links that were sent name the old one,
 * which is free for another tenant at once.
 *
 * @throws AppError `tenant_not_found`, `validation_error` for a name that is malformed or reserved,
 *   `conflict` for one that is taken
 */
export async function renameTenant(
  query: RunSql,
  subdomain: string,
  newSubdomain: string,
): Promise<TenantRecord> {
  const name = parseSubdomain(newSubdomain);
  const { id } = await getTenant(query, subdomain);
  try {
    await query`update public.tenants set subdomain = ${name}, updated_at = now() where id = ${id}`;
  } catch (error) {
    if (violatedUnique(error) === undefined) throw error;
    throw new AppError("conflict", `The subdomain "${name}" is taken.`, { cause: error });
  }
  await tellProcesses(query, id);
  return getTenant(query, name);
}

/**
 * Says whether the e-mails and SMS of a tenant are sent, or dropped.
 *
 * @throws AppError `tenant_not_found`
 */
export async function setTenantMessages(
  query: RunSql,
  subdomain: string,
  sendsMessages: boolean,
): Promise<TenantRecord> {
  const { id } = await getTenant(query, subdomain);
  await query`
    update public.tenants set sends_messages = ${sendsMessages}, updated_at = now() where id = ${id}`;
  return getTenant(query, subdomain);
}

/**
 * Gives a tenant another name, as people call it.
 *
 * @throws AppError `tenant_not_found`
 */
export async function setTenantName(
  query: RunSql,
  subdomain: string,
  name: string,
): Promise<TenantRecord> {
  const { id } = await getTenant(query, subdomain);
  await query`update public.tenants set name = ${name}, updated_at = now() where id = ${id}`;
  return getTenant(query, subdomain);
}

/** Whoever remembers something of the tenant, or that there is none of its name, forgets it. */
export async function tellProcesses(query: RunSql, tenantId: number): Promise<void> {
  await query`select pg_notify(${TENANTS_CHANNEL}, ${String(tenantId)})`;
}
