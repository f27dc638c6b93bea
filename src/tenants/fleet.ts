import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { AdminConnection, withAdmin } from "../db/admin.ts";
import { newestVersion, type TenantMigration } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import { type BehindTenant, findBehind } from "./fleet-plan.ts";
import { tryMigration } from "./tenant-migration.ts";

export interface FleetReport {
  /** The version that tenants were brought to. */
  readonly version: string;
  /** Tenants there are. */
  readonly total: number;
  readonly migrated: readonly FleetResult[];
  readonly failed: readonly FleetResult[];
  /** Tenants that are behind and were not begun, because the run ended before. */
  readonly left: number;
  /** Why it ended before all were tried; null when it did not. */
  readonly stopped: "canary" | "failure_budget" | "interrupted" | null;
  readonly durationMs: number;
}

export interface FleetResult {
  readonly id: number;
  readonly subdomain: string;
  /** Tries of this run. */
  readonly tries: number;
  /** Of all tries, without the pauses between them. */
  readonly durationMs: number;
  readonly error?: string;
}

export interface FleetOptions {
  /** Tenants migrated at a time; DDL is work for the server's cores. */
  readonly parallel?: number;
  /** A migration's name, older or newer than what is there. Default: the newest. */
  readonly target?: string;
  /** The subdomain of who goes first, alone. Default: the oldest that has not failed before. */
  readonly canary?: string;
  /** So many tenants may fail; then no other is begun. */
  readonly failureBudget?: number;
  /** Tries for a tenant whose lock somebody holds, and for other errors that pass. */
  readonly triesMax?: number;
  /** Pause before the second try; it doubles with each. */
  readonly retryDelayMs?: number;
  /**
   * How long to wait for a lock. Whoever comes after the one who waits, waits too: shorter than a
   * request's statement may take.
   */
  readonly lockTimeoutMs?: number;
  readonly statementTimeoutMs?: number;
  /** Told who runs another fleet migration, which is then waited for. Without it the run is refused. */
  readonly onBusy?: (message: string) => void;
  /** Aborted: what is under way is finished, nothing more is begun. */
  readonly signal?: AbortSignal;
  readonly onResult?: (result: FleetResult, done: number, total: number) => void;
  /** A try failed and there will be another. */
  readonly onRetry?: (tenant: BehindTenant, error: string, delayMs: number) => void;
}

const DEFAULTS = {
  failureBudget: 10,
  // 0.5 + 1 + 2 + 4 s of pauses: who holds a lock for longer is looked at by a person.
  triesMax: 5,
  retryDelayMs: 500,
  lockTimeoutMs: 1_000,
  statementTimeoutMs: 60_000,
} as const;

/** Lets one fleet migration run at a time, whatever it is started from. */
const FLEET_LOCK = "ouvira fleet migration";
const LOCK_RETRY_MS = 100;

/**
 * Brings every tenant's schema to a version. One query finds who is behind; one of them goes first, alone,
 * and when its migration fails nobody else is touched. Each tenant is one transaction with its ledger row, so that a
 * run that is killed leaves every tenant on one version or the other, and the run after it does the rest. A
 * tenant whose tables are locked is tried again later and keeps no other waiting; one that fails stays where
 * it is, with its error in the ledger, until too many have.
 *
 * @throws AppError `conflict` while another fleet migration runs, unless that is to be waited for
 */
export async function migrateFleet(
  url: string,
  migrations: readonly TenantMigration[],
  options: FleetOptions = {},
): Promise<FleetReport> {
  const startedAt = performance.now();
  const target = options.target ?? newestVersion(migrations);
  return withAdmin(url, async (admin) => {
    await holdFleet(admin, options.onBusy);
    const behind = await findBehind(admin.query, target, options.canary);
    const [count] = await admin.query<{ total: number }[]>`
      select count(*) as total from public.tenants`;
    const run = new FleetRun(url, migrations, target, behind, admin, options);
    const stopped = await run.run();
    return {
      version: target,
      total: count?.total ?? 0,
      migrated: run.migrated,
      failed: run.failed,
      left: behind.length - run.migrated.length - run.failed.length,
      stopped,
      durationMs: Math.round(performance.now() - startedAt),
    };
  });
}

/**
 * Takes the lock. Whoever waits for it asks again and again: a statement that waits keeps a snapshot, and what
 * is migrated beside it may have to wait for that one.
 *
 * @throws AppError `conflict` naming who holds it, where nobody is told of it instead
 */
async function holdFleet(
  admin: AdminConnection,
  onBusy: ((message: string) => void) | undefined,
): Promise<void> {
  if (await tryFleetLock(admin)) return;
  const [holder] = await admin.query<{ pid: number; address: string | null; since: string }[]>`
    select a.pid, host(a.client_addr) as address, to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') as since
      from pg_locks l
      join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory'
       and l.granted
       and l.database = (select oid from pg_database where datname = current_database())
       and l.objid = (hashtext(${FLEET_LOCK})::bigint & 4294967295)::oid`;
  const who = holder
    ? ` (since ${holder.since}, from ${holder.address ?? "this machine"}, server process ${holder.pid})`
    : "";
  const message = `Another migration of the fleet is running${who}.`;
  if (!onBusy) throw new AppError("conflict", message);
  onBusy(message);
  while (!(await tryFleetLock(admin))) await sleep(LOCK_RETRY_MS);
}

async function tryFleetLock({ query }: AdminConnection): Promise<boolean> {
  const [lock] = await query<{ is_held: boolean }[]>`
    select pg_try_advisory_lock(hashtext(${FLEET_LOCK})::bigint) as is_held`;
  return lock?.is_held === true;
}

/** A tenant that waits for its next try. */
interface QueuedTenant {
  readonly tenant: BehindTenant;
  readonly tries: number;
  readonly spentMs: number;
  /** By performance.now(). */
  readonly notBefore: number;
}

class FleetRun {
  readonly migrated: FleetResult[] = [];
  readonly failed: FleetResult[] = [];

  readonly #url: string;
  readonly #migrations: readonly TenantMigration[];
  readonly #target: string;
  readonly #lockHolder: AdminConnection;
  readonly #options: FleetOptions & typeof DEFAULTS;
  readonly #total: number;
  readonly #queue: QueuedTenant[];
  /** Those that a worker has in hand: one of them may come back to the queue. */
  #underWay = 0;
  #wake: (() => void)[] = [];

  constructor(
    url: string,
    migrations: readonly TenantMigration[],
    target: string,
    behind: readonly BehindTenant[],
    lockHolder: AdminConnection,
    options: FleetOptions,
  ) {
    this.#url = url;
    this.#migrations = migrations;
    this.#target = target;
    this.#lockHolder = lockHolder;
    this.#options = { ...DEFAULTS, ...options } as FleetOptions & typeof DEFAULTS;
    this.#total = behind.length;
    this.#queue = behind.map((tenant) => ({ tenant, tries: 0, spentMs: 0, notBefore: 0 }));
  }

  async run(): Promise<FleetReport["stopped"]> {
    const { parallel = availableParallelism(), signal } = this.#options;
    const wakeAll = () => this.#wakeAll();
    signal?.addEventListener("abort", wakeAll);
    try {
      // One whose tables are locked says nothing about the migration: the next one goes first then.
      await this.#work(() => this.migrated.length + this.failed.length > 0);
      if (this.failed.length > 0) return "canary";
      const workers = Math.min(parallel, this.#queue.length);
      await Promise.all(Array.from({ length: workers }, () => this.#work(() => false)));
      if (this.#queue.length === 0) return null;
      return this.#isSpent ? "failure_budget" : "interrupted";
    } finally {
      signal?.removeEventListener("abort", wakeAll);
    }
  }

  get #isSpent(): boolean {
    return this.failed.length > this.#options.failureBudget;
  }

  /** Whether another tenant may be begun. Without its lock the run is not alone any more. */
  get #mayGoOn(): boolean {
    return !this.#isSpent && !this.#options.signal?.aborted && this.#lockHolder.isOpen;
  }

  /** Takes tenants one after the other, over a connection of its own that is replaced when it is lost. */
  async #work(isEnough: () => boolean): Promise<void> {
    const { lockTimeoutMs, statementTimeoutMs } = this.#options;
    let admin: AdminConnection | undefined;
    try {
      while (!isEnough()) {
        const next = await this.#next();
        if (!next) return;
        try {
          if (!admin?.isOpen) {
            admin = await AdminConnection.open(this.#url, {
              applicationName: "ouvira migration",
              lockTimeoutMs,
              statementTimeoutMs,
            });
          }
          await this.#migrate(admin, next);
        } catch (error) {
          // The server cannot be reached: this tenant has had a try.
          const message = error instanceof Error ? error.message : String(error);
          this.#settle(next, { error: message, isWorthRetrying: true }, 0);
        }
      }
    } finally {
      await admin?.close();
    }
  }

  async #migrate(admin: AdminConnection, queued: QueuedTenant): Promise<void> {
    const startedAt = performance.now();
    const outcome = await tryMigration(admin, this.#migrations, this.#target, queued.tenant);
    this.#settle(queued, outcome, performance.now() - startedAt);
  }

  #settle(
    { tenant, tries: triesBefore, spentMs }: QueuedTenant,
    { error, isWorthRetrying }: { error: string | undefined; isWorthRetrying: boolean },
    durationMs: number,
  ): void {
    const { triesMax, retryDelayMs, onResult, onRetry } = this.#options;
    const tries = triesBefore + 1;
    const spent = spentMs + durationMs;
    this.#underWay -= 1;
    if (error !== undefined && isWorthRetrying && tries < triesMax && this.#mayGoOn) {
      const delayMs = retryDelayMs * 2 ** (tries - 1) * (0.5 + Math.random());
      const notBefore = performance.now() + delayMs;
      this.#queue.push({ tenant, tries, spentMs: spent, notBefore });
      onRetry?.(tenant, error, delayMs);
    } else {
      const result: FleetResult = {
        id: tenant.id,
        subdomain: tenant.subdomain,
        tries,
        durationMs: Math.round(spent),
        ...(error === undefined ? {} : { error }),
      };
      (error === undefined ? this.migrated : this.failed).push(result);
      onResult?.(result, this.migrated.length + this.failed.length, this.#total);
    }
    this.#wakeAll();
  }

  /** The next tenant whose time has come; undefined when there will be none. */
  async #next(): Promise<QueuedTenant | undefined> {
    while (this.#mayGoOn) {
      const now = performance.now();
      const index = this.#queue.findIndex(({ notBefore }) => notBefore <= now);
      if (index >= 0) {
        this.#underWay += 1;
        return this.#queue.splice(index, 1)[0];
      }
      if (this.#queue.length === 0 && this.#underWay === 0) return undefined;
      await this.#sleep(Math.min(...this.#queue.map(({ notBefore }) => notBefore)) - now);
    }
    return undefined;
  }

  /** Until the time has passed, another tenant is settled, or the run is to end. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, Math.ceil(ms)) : undefined;
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #wakeAll(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const one of wake) one();
  }
}
