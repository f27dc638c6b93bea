import type { RunSql } from "../db/sql.ts";

/** How many wrong tries in a row are too many, and how long nothing is accepted then. */
export interface FailureLimit {
  readonly triesMax: number;
  readonly lockMinutes: number;
}

/** The network of failures that count wherever they come from. */
export const EVERYWHERE = "::/0";

export interface CountedTry {
  /** Whether the try may be made. */
  readonly isAllowed: boolean;
  /** Whether it is the last one: should it fail, what follows is refused. */
  readonly isLast: boolean;
}

/**
 * Counts a try before it is made, in one statement on one row, so that no number of parallel tries
 * gets more than the limit. A success forgets the count ({@link forgetFailures}); so does a pause as
 * long as the lock.
 *
 * @param subject what is tried on, keyed: never an identifier in clear
 */
export async function countTry(
  tx: RunSql,
  subject: Buffer,
  network: string,
  { triesMax, lockMinutes }: FailureLimit,
): Promise<CountedTry> {
  const [row] = await tx<{ failures: number }[]>`
    insert into failures as f (subject, network, failures, locked_until)
    values (
      ${subject}, ${network}::cidr, 1,
      case when ${triesMax}::int <= 1 then now() + make_interval(mins => ${lockMinutes}::int) end
    )
    on conflict (subject, network) do update set
      failures     = case
        when f.updated_at <= now() - make_interval(mins => ${lockMinutes}::int) then 1
        when f.locked_until <= now() then 1
        else f.failures + 1
      end,
      locked_until = case
        when f.updated_at <= now() - make_interval(mins => ${lockMinutes}::int) then null
        when f.locked_until <= now() then null
        when f.locked_until is null and f.failures + 1 >= ${triesMax}::int
          then now() + make_interval(mins => ${lockMinutes}::int)
        else f.locked_until
      end,
      -- Tries while it is locked do not make the lock longer.
      updated_at   = case when f.locked_until > now() then f.updated_at else now() end
    returning failures`;
  const failures = row?.failures ?? Infinity;
  return { isAllowed: failures <= triesMax, isLast: failures === triesMax };
}

/** Whether tries are refused at the moment; counts nothing. */
export async function isLocked(tx: RunSql, subject: Buffer, network: string): Promise<boolean> {
  const rows = await tx`
    select 1 from failures
     where subject = ${subject} and network = ${network}::cidr and locked_until > now()`;
  return rows.length > 0;
}

/** Sets a count back after a success; with no network, all of a subject's. */
export async function forgetFailures(
  tx: RunSql,
  subject: Buffer,
  network: string | null = null,
): Promise<void> {
  await tx`
    delete from failures
     where subject = ${subject} and (${network}::cidr is null or network = ${network}::cidr)`;
}
