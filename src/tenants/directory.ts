import type { TenantConnection } from "../db/tenant-database.ts";
import { type ChangeFeed, RevocableCache } from "../db/revocable-cache.ts";
import { type OwnRateLimits, readOwnLimits, type StoredRateLimits } from "./plans.ts";
import type { TenantStatus } from "./tenants.ts";

/** What a request needs to know of its tenant. */
export interface Tenant {
  readonly id: number;
  readonly subdomain: string;
  readonly status: TenantStatus;
  /** The newest migration of its schema. */
  readonly version: string;
  /** Instead of the installation's. */
  readonly rateLimits: OwnRateLimits;
}

interface TenantRow extends Omit<Tenant, "rateLimits"> {
  readonly rate_limits: StoredRateLimits;
}

/** NOTIFY channel for changes of the registry; the payload is the tenant's id. */
export const TENANTS_CHANNEL = "ouvira_tenants";

/**
 * Names remembered, those of no tenant included, so that a flood of invented ones costs the database
 * one question each and memory up to a bound: 20,000 entries are about 4 MB.
 */
const NAMES_MAX = 20_000;

/** A tenant that was not heard of for longer is looked up again. */
const AGE_MAX_MS = 60_000;

/** Finds tenants by what a request says, from memory when it can. */
export class TenantDirectory {
  readonly #registry: TenantConnection;
  readonly #cache: RevocableCache<Tenant | null>;

  constructor(registry: TenantConnection, feed: ChangeFeed) {
    this.#registry = registry;
    this.#cache = new RevocableCache(feed, NAMES_MAX, AGE_MAX_MS);
  }

  /** What is remembered, for monitors. */
  get cache(): RevocableCache<unknown> {
    return this.#cache;
  }

  /** The tenant of a subdomain (lower case), or undefined. */
  async findBySubdomain(subdomain: string): Promise<Tenant | undefined> {
    const tenant = await this.#cache.get(`subdomain ${subdomain}`, async () => {
      const [row] = await this.#registry.query<TenantRow[]>`
        select t.id, t.subdomain, t.status, m.version, t.rate_limits
          from public.tenants t
          join public.tenant_migrations m on m.tenant_id = t.id
         where t.subdomain = ${subdomain}`;
      return row ? toTenant(row) : null;
    });
    return tenant ?? undefined;
  }

  /** The tenant that has verified a host name (lower case), or undefined. */
  async findByDomain(domain: string): Promise<Tenant | undefined> {
    const tenant = await this.#cache.get(`domain ${domain}`, async () => {
      const [row] = await this.#registry.query<TenantRow[]>`
        select t.id, t.subdomain, t.status, m.version, t.rate_limits
          from public.tenant_domains d
          join public.tenants t on t.id = d.tenant_id
          join public.tenant_migrations m on m.tenant_id = t.id
         where d.domain = ${domain}
           and d.verified_at is not null`;
      return row ? toTenant(row) : null;
    });
    return tenant ?? undefined;
  }

  /**
   * Forgets everything: which names lead to a tenant is not known from its id, and the registry
   * changes seldom.
   */
  clear(): void {
    this.#cache.clear();
  }
}

function toTenant({ rate_limits: stored, ...tenant }: TenantRow): Tenant {
  return { ...tenant, rateLimits: readOwnLimits(stored) };
}
