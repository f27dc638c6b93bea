import type { ClientDetails } from "../audit/security-log.ts";
import type { AdminPool } from "../db/admin-pool.ts";
import type { TenantMigration } from "../db/tenant-migrations.ts";
import type { Keys } from "../keys.ts";
import type { TxtResolver } from "../tenants/domains.ts";

/** What the platform's API works with; only where the service may act as the owner of the tables. */
export interface Platform {
  readonly pool: AdminPool;
  /** The role that serves requests, and acts for the tenants that are made. */
  readonly apiRole: string;
  /** Read once, when the first tenant is made. */
  readonly migrations: () => Promise<readonly TenantMigration[]>;
  /** Looks up the records of domains; default: the system's name servers. */
  readonly resolveTxt?: TxtResolver;
}

/** What functions for operators need besides the connection they run on. */
export interface OperatorContext {
  readonly keys: Keys;
  readonly client: ClientDetails;
}

/** Stands for a tenant's id where operators' keys and tokens are made: no tenant has it. */
export const PLATFORM_ID = 0;
