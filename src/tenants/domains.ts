import { Resolver } from "node:dns/promises";
import type { AdminConnection } from "../db/admin.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { randomToken } from "../keys.ts";
import { getTenant, tellProcesses } from "./life-cycle.ts";

/** RFC 1123 §2.1: labels of letters, digits and dashes; at least two, the last one of letters. */
const DOMAIN = /^(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$/;

/** Where the record stands, before the domain: an underscore keeps it apart from hosts (RFC 8552). */
const RECORD_PREFIX = "_ouvira";
const VALUE_PREFIX = "ouvira-verification=";

/** Domains of a tenant, verified or not. */
const DOMAINS_MAX = 50;

/** A host name of a tenant's own. */
export interface TenantDomain {
  readonly id: number;
  readonly domain: string;
  readonly is_primary: boolean;
  readonly verified_at: Date | null;
  /** The TXT record that shows that the domain is the tenant's; null once it is verified. */
  readonly record: { readonly name: string; readonly value: string } | null;
}

/** Looks up TXT records; each is a list of strings that belong together (RFC 1035 §3.3.14). */
export type TxtResolver = (name: string) => Promise<string[][]>;

/** How long one name server has for an answer, and how often each is asked: within a request's patience. */
const RESOLVER_TIMEOUT_MS = 2_000;
const RESOLVER_TRIES = 2;

/** @param servers `address:port`; default: the system's name servers */
export function makeTxtResolver(servers?: readonly string[]): TxtResolver {
  const resolver = new Resolver({ timeout: RESOLVER_TIMEOUT_MS, tries: RESOLVER_TRIES });
  if (servers) resolver.setServers(servers);
  return (name) => resolver.resolveTxt(name);
}

interface DomainRow {
  id: number;
  domain: string;
  is_primary: boolean;
  verified_at: Date | null;
  verification_token: string | null;
}

/** A domain as it is stored: lower case. @throws AppError `validation_error` */
export function parseDomain(text: string): string {
  const domain = text.trim().toLowerCase();
  if (DOMAIN.test(domain)) return domain;
  const sentence = `"${text}" is not a host name such as app.example.com.`;
  throw new AppError("validation_error", sentence, { errors: { domain: [sentence] } });
}

/** The domains of a tenant, the primary first. @throws AppError `tenant_not_found` */
export async function listDomains(
  admin: AdminConnection,
  subdomain: string,
): Promise<TenantDomain[]> {
  const { id } = await getTenant(admin.query, subdomain);
  const rows = await admin.query<DomainRow[]>`
    select id, domain, is_primary, verified_at, verification_token
      from public.tenant_domains
     where tenant_id = ${id}
     order by is_primary desc, domain`;
  return rows.map(toDomain);
}

/** A domain of a tenant by its id. @throws AppError `not_found` */
export async function getDomain(
  admin: AdminConnection,
  tenantId: number,
  id: number,
): Promise<TenantDomain> {
  const [row] = await admin.query<DomainRow[]>`
    select id, domain, is_primary, verified_at, verification_token
      from public.tenant_domains
     where tenant_id = ${tenantId} and id = ${id}`;
  if (!row) throw new AppError("not_found", "The tenant has no such domain.");
  return toDomain(row);
}

/**
 * Notes a domain for a tenant, with the record that has to be made. It names the tenant once it is
 * verified; others may note it too until then. Noted again, it keeps its record.
 *
 * @throws AppError `tenant_not_found`, `validation_error`, `conflict` when another tenant holds it or there
 *   are too many
 */
export async function addDomain(
  admin: AdminConnection,
  subdomain: string,
  text: string,
): Promise<TenantDomain> {
  const domain = parseDomain(text);
  const { id } = await getTenant(admin.query, subdomain);
  return admin.transaction(async () => {
    await holdTenant(admin, id);
    const [state] = await admin.query<{ is_held: boolean; count: number }[]>`
      select
        exists (select 1 from public.tenant_domains
                 where domain = ${domain} and verified_at is not null and tenant_id <> ${id}) as is_held,
        (select count(*) from public.tenant_domains where tenant_id = ${id}) as count`;
    if (state?.is_held) throw heldByAnother(domain);
    if ((state?.count ?? 0) >= DOMAINS_MAX) {
      throw new AppError("conflict", `A tenant has at most ${DOMAINS_MAX} domains.`);
    }
    await admin.query`
      insert into public.tenant_domains (tenant_id, domain, verification_token)
      values (${id}, ${domain}, ${randomToken()})
      on conflict (tenant_id, domain) do nothing`;
    return findDomain(admin, id, domain);
  });
}

/**
 * Makes a domain the tenant's when its TXT record says so. The first verified one becomes the primary. Of two
 * tenants that could show the record at the same time the unique index `tenant_domains_one_holder` lets one.
 *
 * @throws AppError `tenant_not_found`, `not_found` for a domain that was not added, `conflict` when the
 *   record is not there or another tenant holds the domain
 */
export async function verifyDomain(
  admin: AdminConnection,
  subdomain: string,
  text: string,
  resolve: TxtResolver = makeTxtResolver(),
): Promise<TenantDomain> {
  const domain = parseDomain(text);
  const { id } = await getTenant(admin.query, subdomain);
  const { record } = await findDomain(admin, id, domain);
  // Outside the transaction: nobody waits for somebody's name server.
  if (record) await requireRecord(resolve, record);
  return admin.transaction(async () => {
    await holdTenant(admin, id);
    try {
      await admin.query`
        update public.tenant_domains
           set verified_at = coalesce(verified_at, now()), verification_token = null,
               is_primary = is_primary or not exists (
                 select 1 from public.tenant_domains where tenant_id = ${id} and is_primary)
         where tenant_id = ${id} and domain = ${domain}`;
    } catch (error) {
      if (violatedUnique(error) !== "tenant_domains_one_holder") throw error;
      throw heldByAnother(domain, error);
    }
    await tellProcesses(admin.query, id);
    return findDomain(admin, id, domain);
  });
}

/**
 * Makes a verified domain the primary one.
 *
 * @throws AppError `tenant_not_found`, `not_found`, `conflict` for one that is not verified
 */
export async function setPrimaryDomain(
  admin: AdminConnection,
  subdomain: string,
  text: string,
): Promise<TenantDomain> {
  const domain = parseDomain(text);
  const { id } = await getTenant(admin.query, subdomain);
  return admin.transaction(async () => {
    await holdTenant(admin, id);
    const { verified_at: verifiedAt } = await findDomain(admin, id, domain);
    if (verifiedAt === null) throw new AppError("conflict", `${domain} is not verified yet.`);
    await admin.query`
      update public.tenant_domains set is_primary = false where tenant_id = ${id} and is_primary`;
    await admin.query`
      update public.tenant_domains set is_primary = true where tenant_id = ${id} and domain = ${domain}`;
    return findDomain(admin, id, domain);
  });
}

/**
 * Takes a domain from a tenant: it names nobody from now on. The next one becomes the primary.
 *
 * @throws AppError `tenant_not_found`, `not_found`
 */
export async function removeDomain(
  admin: AdminConnection,
  subdomain: string,
  text: string,
): Promise<void> {
  const domain = parseDomain(text);
  const { id } = await getTenant(admin.query, subdomain);
  await admin.transaction(async () => {
    await holdTenant(admin, id);
    const { is_primary: wasPrimary } = await findDomain(admin, id, domain);
    await admin.query`
      delete from public.tenant_domains where tenant_id = ${id} and domain = ${domain}`;
    if (wasPrimary) {
      await admin.query`
        update public.tenant_domains set is_primary = true
         where id = (select min(id) from public.tenant_domains
                      where tenant_id = ${id} and verified_at is not null)`;
    }
    await tellProcesses(admin.query, id);
  });
}

/** Of two changes of a tenant's domains the second sees the first. */
async function holdTenant(admin: AdminConnection, id: number): Promise<void> {
  await admin.query`select 1 from public.tenants where id = ${id} for no key update`;
}

async function findDomain(
  admin: AdminConnection,
  tenantId: number,
  domain: string,
): Promise<TenantDomain> {
  const [row] = await admin.query<DomainRow[]>`
    select id, domain, is_primary, verified_at, verification_token
      from public.tenant_domains
     where tenant_id = ${tenantId} and domain = ${domain}`;
  if (!row) throw new AppError("not_found", `The tenant has no domain ${domain}.`);
  return toDomain(row);
}

function toDomain({ verification_token: token, ...row }: DomainRow): TenantDomain {
  const isWaiting = row.verified_at === null && token !== null;
  const record = isWaiting
    ? { name: `${RECORD_PREFIX}.${row.domain}`, value: `${VALUE_PREFIX}${token}` }
    : null;
  return { ...row, record };
}

/** Answers of a name server that mean that there is no such record. */
const NO_RECORD = new Set(["ENOTFOUND", "ENODATA"]);

async function requireRecord(
  resolve: TxtResolver,
  { name, value }: { name: string; value: string },
): Promise<void> {
  const advice = `Make a TXT record ${name} with the value ${value}, and try again.`;
  let records: string[][];
  try {
    records = await resolve(name);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    const detail = NO_RECORD.has(code)
      ? `There is no TXT record ${name} yet. ${advice}`
      : `The name server did not answer (${code || "unknown error"}). Try again.`;
    throw new AppError("conflict", detail, { cause: error });
  }
  if (records.some((parts) => parts.join("").trim() === value)) return;
  throw new AppError("conflict", `The TXT record ${name} says something else. ${advice}`);
}

function heldByAnother(domain: string, cause?: unknown): AppError {
  return new AppError("conflict", `The domain ${domain} belongs to another tenant.`, { cause });
}
