import type { LogCheck, Verification } from "../api/records.ts";
import { callTenant } from "../api/requests.ts";

/** Of both logs, what has been checked so far. */
export type Checked = readonly LogCheck[];

/**
 * Checks the tenant's logs against their seals, from the newest entry back to the first: some thousands a call,
 * and tells after each how far it is.
 *
 * @throws ApiError
 */
export async function checkLogs(
  onProgress: (checked: Checked) => void,
  signal: AbortSignal,
): Promise<Checked> {
  let checked: LogCheck[] = [];
  do {
    const { logs } = await callTenant<Verification>("GET", `audit/verify/${queryFor(checked)}`);
    checked = logs.map((log) =>
      added(
        checked.find((known) => known.log === log.log),
        log,
      ),
    );
    if (signal.aborted) break;
    onProgress(checked);
  } while (checked.some(({ is_complete: isComplete }) => !isComplete));
  return checked;
}

function queryFor(checked: Checked): string {
  const query = new URLSearchParams();
  for (const { log, oldest_seal: oldest } of checked) {
    if (oldest !== null) query.set(`before_${log}`, String(oldest));
  }
  return query.size === 0 ? "" : `?${query.toString()}`;
}

/** What was known of a log, and what the next call found further back in it. */
function added(known: LogCheck | undefined, next: LogCheck): LogCheck {
  if (!known) return next;
  if (known.is_complete) return known;
  return {
    ...known,
    checked_entries: known.checked_entries + next.checked_entries,
    // Nothing older was found: there is nothing to go on from.
    oldest_seal: next.oldest_seal ?? known.oldest_seal,
    is_complete: next.is_complete || next.oldest_seal === null,
    findings: [...known.findings, ...next.findings],
  };
}

/** How much of a log has been checked, of 1. */
export function shareOf({ seals, oldest_seal: oldest, is_complete: isComplete }: LogCheck): number {
  if (isComplete || seals === 0) return 1;
  return oldest === null ? 0 : Math.min(1, (seals - oldest + 1) / seals);
}
