import { type ChangeFeed, RevocableCache } from "../db/revocable-cache.ts";
import type { TenantDatabase } from "../db/tenant-database.ts";

/** Who is calling, as far as guards need to know. */
export interface Principal {
  readonly userId: number;
  readonly sessionId: number;
  readonly isTenantAdmin: boolean;
  /** Set for an operator of the platform who acts in the tenant: no user of it. */
  readonly support?: { readonly display: string; readonly canWrite: boolean };
}

interface UserState {
  isActive: boolean;
  isTenantAdmin: boolean;
  /** Live logins: id → when it ends, in milliseconds since 1970. */
  sessions: ReadonlyMap<number, number>;
}

/** Users remembered: at about 300 bytes each 15 MB. */
const USERS_MAX = 50_000;
const AGE_MAX_MS = 300_000;

/**
 * Whether the login behind an access token is alive and its user active. Remembered in the process and
 * forgotten by the NOTIFY of the transaction that ends a login or changes a user (`tenant:user`).
 */
export class Principals {
  readonly #database: TenantDatabase;
  readonly #cache: RevocableCache<UserState | null>;

  constructor(database: TenantDatabase, feed: ChangeFeed) {
    this.#database = database;
    this.#cache = new RevocableCache(feed, USERS_MAX, AGE_MAX_MS);
  }

  /** The caller behind a token's claims; undefined when the login has ended, "disabled" for the user. */
  async find(
    tenantId: number,
    userId: number,
    sessionId: number,
  ): Promise<Principal | "disabled" | undefined> {
    const key = `${tenantId}:${userId}`;
    const load = () => this.#load(tenantId, userId);
    let state = await this.#cache.get(key, load);
    // A login begun after the answer was kept.
    if (state && !state.sessions.has(sessionId)) state = await this.#cache.reload(key, load);
    const endsAt = state?.sessions.get(sessionId);
    if (!state || endsAt === undefined || endsAt <= Date.now()) return undefined;
    if (!state.isActive) return "disabled";
    return { userId, sessionId, isTenantAdmin: state.isTenantAdmin };
  }

  /** What is remembered, for monitors. */
  get cache(): RevocableCache<unknown> {
    return this.#cache;
  }

  /** Forgets a user: `tenant:user`. */
  revoke(key: string): void {
    this.#cache.revoke(key);
  }

  clear(): void {
    this.#cache.clear();
  }

  async #load(tenantId: number, userId: number): Promise<UserState | null> {
    const [row] = await this.#database.tenant(tenantId).query<
      { is_active: boolean; is_tenant_admin: boolean; sessions: [number, number][] }[]
    >`
      select
        u.is_active,
        u.is_tenant_admin,
        coalesce((
          select jsonb_agg(jsonb_build_array(s.id, floor(extract(epoch from s.expires_at) * 1000)))
            from login_sessions s
           where s.user_id = u.id and s.ended_at is null and s.expires_at > now()), '[]') as sessions
      from users u
      where u.id = ${userId}`;
    if (!row) return null;
    return {
      isActive: row.is_active,
      isTenantAdmin: row.is_tenant_admin,
      sessions: new Map(row.sessions),
    };
  }
}
