import { type RateLimit, type RateLimitScope } from "../config.ts";
import { parseRate, RATE_LIMIT_SCOPES } from "../config-rate-limits.ts";
import { json, type RunSql } from "../db/sql.ts";
import { AppError } from "../errors.ts";
import { getTenant, tellProcesses } from "./life-cycle.ts";
import type { TenantRecord } from "./tenants.ts";

/** A tenant's own limits: null where nothing is counted; what is absent is the installation's. */
export type OwnRateLimits = Readonly<Partial<Record<RateLimitScope, RateLimit | null>>>;

/** Own limits as they are stored: `5000/day`, or `0` for none. */
export type StoredRateLimits = Readonly<Partial<Record<RateLimitScope, string>>>;

export interface PlanChange {
  /** Null: no end is known. */
  readonly paid_until?: Date | null | undefined;
  readonly on_trial?: boolean | undefined;
  /** Null gives a scope back to the installation's limit; scopes that are absent stay. */
  readonly rate_limits?: Readonly<Record<string, string | null | undefined>> | undefined;
}

const NO_LIMITS_OF_ITS_OWN: OwnRateLimits = Object.freeze({});

/**
 * Changes a tenant's plan: how long it is paid for, whether it is on trial, which limits it has. Limits hold in
 * every process within a second; a new window begins with them. That `paid_until` has passed changes nothing
 * by itself: who bills suspends.
 *
 * @throws AppError `tenant_not_found`, `validation_error` for a scope or a limit that there is not
 */
export async function setTenantPlan(
  query: RunSql,
  subdomain: string,
  { paid_until: paidUntil, on_trial: onTrial, rate_limits: rateLimits = {} }: PlanChange,
): Promise<TenantRecord> {
  const changes = Object.entries(rateLimits).filter(([, rate]) => rate !== undefined);
  for (const [scope, rate] of changes) requireRate(scope, rate ?? null);
  const kept = Object.fromEntries(changes.filter(([, rate]) => rate !== null));
  const given = changes.map(([scope]) => scope);
  const { id } = await getTenant(query, subdomain);
  await query`
    update public.tenants set
      paid_until  = case when ${paidUntil !== undefined} then ${paidUntil ?? null}::timestamptz
                         else paid_until end,
      on_trial    = coalesce(${onTrial ?? null}, on_trial),
      rate_limits = (rate_limits - ${given}::text[]) || ${json(kept)}::jsonb,
      updated_at  = now()
    where id = ${id}`;
  await tellProcesses(query, id);
  return getTenant(query, subdomain);
}

function requireRate(scope: string, rate: string | null): void {
  const known: readonly string[] = RATE_LIMIT_SCOPES;
  const sentence = known.includes(scope)
    ? rate !== null &&
      parseRate(rate) === undefined &&
      "A limit is like 5000/day, 100/hour or 5/min, or 0."
    : `There is no limit "${scope}": ${known.join(", ")}.`;
  if (!sentence) return;
  throw new AppError("validation_error", sentence, {
    errors: { [`rate_limits.${scope}`]: [sentence] },
  });
}

/** What is stored, as requests are counted by it. What cannot be read is left out. */
export function readOwnLimits(stored: StoredRateLimits): OwnRateLimits {
  const limits: Partial<Record<RateLimitScope, RateLimit | null>> = {};
  for (const scope of RATE_LIMIT_SCOPES) {
    const rate = stored[scope];
    const limit = rate === undefined ? undefined : parseRate(rate);
    if (limit !== undefined) limits[scope] = limit === "off" ? null : limit;
  }
  return Object.keys(limits).length === 0 ? NO_LIMITS_OF_ITS_OWN : limits;
}
