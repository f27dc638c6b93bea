import { setTimeout as sleep } from "node:timers/promises";
import type { TenantConnection, TenantDatabase } from "../db/tenant-database.ts";
import { addCheckpoint, findNewestCheckpoint } from "./log-checkpoints.ts";
import {
  BEGINNING,
  findHead,
  hasAfter,
  laterOf,
  type Log,
  LOGS,
  remakeAfter,
  type Seal,
  sealNext,
  type SealWithLeaves,
} from "./seals.ts";

/** How long after a change its entry is sealed, in milliseconds, while no transaction stays open. */
const INTERVAL_MS = 10_000;

/** How often every tenant is looked at: for what commands and processes that ended have written. */
const SWEEP_INTERVAL_MS = 3_600_000;

/**
 * How long that pauses after each tenant, of the time it took: a round over thousands then works a tenth of the
 * time.
 */
const SWEEP_PAUSE = 9;

/** When the first such round begins after the start. */
const SWEEP_DELAY_MS = 60_000;

/**
 * Failures of a tenant, one after the other, until it is left to the next round over all, or its next
 * change: what fails so often needs somebody, and not a line every 10 seconds.
 */
const FAILURES_MAX = 5;

/** The migration that makes `log_seals`: tenants before it have nothing to seal with. */
const FIRST_VERSION = "1790000220000";

/** Tenants read from the registry at a time. */
const TENANTS_PER_READ = 500;

export interface SealerLog {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
}

export interface LogSealerOptions {
  readonly database: TenantDatabase;
  readonly log: SealerLog;
  readonly intervalMs?: number;
  readonly sweepDelayMs?: number;
  readonly sweepIntervalMs?: number;
}

/**
 * Seals what is written to the tenants' logs, soon after it is written and never in a request. Any number
 * of processes may do so at once.
 */
export class LogSealer {
  readonly #options: LogSealerOptions;
  #marked = new Set<number>();
  /** Of tenants that failed, how often since they last did not. */
  readonly #failures = new Map<number, number>();
  #timer: NodeJS.Timeout | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;
  readonly #stopped = new AbortController();

  constructor(options: LogSealerOptions) {
    this.#options = options;
  }

  start(): void {
    const { sweepDelayMs = SWEEP_DELAY_MS, intervalMs = INTERVAL_MS } = this.#options;
    this.#timer = setInterval(() => void this.sealMarked(), intervalMs).unref();
    this.#sweepAfter(sweepDelayMs);
  }

  /** Says that something may have been written to a tenant's logs. */
  mark(tenantId: number): void {
    this.#marked.add(tenantId);
  }

  /**
   * Seals the marked tenants, one after the other. Marks of those with entries of open transactions, or
   * that failed less than {@link FAILURES_MAX} times in a row, stay. Never throws.
   */
  sealMarked(): Promise<void> {
    this.#running ??= this.#sealAll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Ends after what is under way. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    clearInterval(this.#timer);
    clearTimeout(this.#sweepTimer);
    await this.#running;
    await this.#sweeping;
  }

  async #sealAll(): Promise<void> {
    // A mark that is made meanwhile is for the next round.
    const round = this.#marked;
    this.#marked = new Set();
    for (const tenantId of round) {
      if (this.#stopped.signal.aborted) return;
      await this.#sealTenant(tenantId);
    }
  }

  /** Never throws: what fails is tried again in the next round. */
  async #sealTenant(tenantId: number): Promise<void> {
    const { database, log } = this.#options;
    const tenant = database.tenant(tenantId);
    let hasFailed = false;
    for (const name of LOGS) {
      try {
        const isDone = await sealLog(tenant, database.registry, tenantId, name, log);
        if (!isDone) this.#marked.add(tenantId);
      } catch (error) {
        // Its tables may be away for a migration, or the tenant itself.
        hasFailed = true;
        log.warn({ err: error, tenant: tenantId, log: name }, "a log could not be sealed");
      }
    }
    this.#countFailures(tenantId, hasFailed);
  }

  #countFailures(tenantId: number, hasFailed: boolean): void {
    if (!hasFailed) {
      this.#failures.delete(tenantId);
      return;
    }
    const failures = (this.#failures.get(tenantId) ?? 0) + 1;
    this.#failures.set(tenantId, failures);
    if (failures < FAILURES_MAX) this.#marked.add(tenantId);
  }

  #sweepAfter(delayMs: number): void {
    this.#sweepTimer = setTimeout(() => {
      this.#sweeping = this.#sweep();
    }, delayMs).unref();
  }

  async #sweep(): Promise<void> {
    const { database, log, sweepIntervalMs = SWEEP_INTERVAL_MS } = this.#options;
    const { signal } = this.#stopped;
    try {
      for (let after = 0; !signal.aborted;) {
        const tenants = await database.registry.query<{ id: number }[]>`
          select t.id
            from public.tenants t
            join public.tenant_migrations m on m.tenant_id = t.id and m.version >= ${FIRST_VERSION}
           where t.id > ${after}
           order by t.id
           limit ${TENANTS_PER_READ}::int`;
        for (const { id } of tenants) {
          const startedAt = performance.now();
          await this.#sealTenant(id);
          const pauseMs = (performance.now() - startedAt) * SWEEP_PAUSE;
          await sleep(pauseMs, undefined, { signal, ref: false });
          after = id;
        }
        if (tenants.length === 0) break;
      }
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ err: error }, "the tenants whose logs are to be sealed could not be read");
    }
    if (!signal.aborted) this.#sweepAfter(sweepIntervalMs);
  }
}

/**
 * Seals one log as far as it can be. Each link is committed in the tenant's schema, then its checkpoint in
 * the registry, then a line goes to the log stream; a process that ends between leaves the rest to the
 * next run. Checkpoints are written in the order of the links, whoever made them: where there is one, there
 * are all before it.
 *
 * @returns false when entries are left, of transactions that are still open or began after one that is
 */
export async function sealLog(
  tenant: TenantConnection,
  registry: TenantConnection,
  tenantId: number,
  name: Log,
  log: SealerLog,
): Promise<boolean> {
  const publish = async (seal: SealWithLeaves) => {
    await addCheckpoint(registry.query, tenantId, seal);
    log.info(
      {
        tenant: tenantId,
        log: name,
        number: seal.number,
        entries: seal.entries,
        digest: seal.digest.toString("hex"),
      },
      "log sealed",
    );
  };
  let newest: Seal | undefined = await findNewestCheckpoint(registry.query, tenantId, name);
  for (;;) {
    const head = await findHead(tenant.query, name);
    if ((head?.number ?? 0) > (newest?.number ?? 0)) {
      for (const seal of await remakeAfter(tenant, name, newest)) {
        await publish(seal);
        newest = seal;
      }
      continue;
    }
    const checkpoint = newest;
    const seal = await tenant.transaction((tx) => sealNext(tx, name, checkpoint));
    if (!seal) break;
    // Another process has made links before this one meanwhile, and may not live to write their checkpoints.
    if (seal.number !== (newest?.number ?? 0) + 1) continue;
    await publish(seal);
    newest = seal;
  }
  const place = laterOf(await findHead(tenant.query, name), newest)?.place ?? BEGINNING;
  return !(await hasAfter(tenant.query, name, place));
}
