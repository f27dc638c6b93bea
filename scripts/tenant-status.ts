/** `npm run tenant -- status`: the fleet on one screen. */
import { withAdmin } from "../src/db/admin.ts";
import { loadTenantMigrations, newestVersion } from "../src/db/tenant-migrations.ts";
import {
  type FleetAttention,
  type FleetStatus,
  getFleetStatus,
} from "../src/tenants/fleet-status.ts";
import { COMMON, parse, readSettings, table, UsageError, withDatabase } from "./command.ts";

const HELP = `
Shows the fleet on one screen: how many tenants work, how far their schemas are, what failed.

  npm run tenant -- status [--json]

Exit code 0: every schema is of this release. 1: some are behind, or failed.
`;

export async function showStatus(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  if (values.help) {
    console.log(HELP.trim());
    return;
  }
  if (positionals.length > 0) throw new UsageError(HELP.trim());
  await withDatabase(readSettings(), ({ migrationUrl }) =>
    withAdmin(migrationUrl, async (admin) => {
      const version = newestVersion(await loadTenantMigrations());
      const fleet = await getFleetStatus(admin.query, version);
      if (fleet.behind > 0) process.exitCode = 1;
      console.log(values.json ? JSON.stringify(fleet) : describe(fleet));
    }),
  );
}

/** What somebody may have to look at, as one line; undefined when there is nothing. */
function describeAttention({
  to_be_erased: toBeErased,
  due_for_erasure: due,
  past_paid_until: pastPaid,
  without_messages: muted,
}: FleetAttention): string | undefined {
  const parts = [
    toBeErased > 0 && `${toBeErased} to be erased (${due} due)`,
    pastPaid > 0 && `${pastPaid} past the day they are paid until`,
    muted > 0 && `${muted} without messages`,
  ].filter((part) => part !== false);
  return parts.length === 0 ? undefined : `besides    ${parts.join(", ")}`;
}

function describe({
  version,
  tenants,
  behind,
  statuses,
  attention,
  groups,
  failed,
}: FleetStatus): string {
  const { active, read_only: readOnly, suspended } = statuses;
  const lines = [
    `release    ${version}`,
    `tenants    ${tenants}: ${active} active, ${readOnly} read-only, ${suspended} suspended`,
    `schemas    ${behind === 0 ? "all of this release" : `${behind} behind: npm run migrate`}`,
  ];
  const besides = describeAttention(attention);
  if (besides) lines.push(besides);
  if (behind > 0) {
    const rows = groups.map((group) => [
      String(group.tenants),
      group.state,
      group.version || "no version",
    ]);
    lines.push("", table([["tenants", "state", "version"], ...rows]));
  }
  if (failed.length > 0) {
    const rows = failed.map((one) => [
      one.subdomain,
      String(one.attempts),
      one.version || "no version",
      (one.last_error ?? "").replace(/\s+/g, " "),
    ]);
    lines.push("", "newest failures", table([["tenant", "tries", "stays on", "error"], ...rows]));
  }
  return lines.join("\n");
}
