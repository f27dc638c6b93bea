/** `npm run tenant -- migrate`, and the fleet's part of `npm run migrate`. */
import { withAdmin } from "../src/db/admin.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { findVersion, loadTenantMigrations, newestVersion } from "../src/db/tenant-migrations.ts";
import { type FleetOptions, type FleetReport, migrateFleet } from "../src/tenants/fleet.ts";
import { type FleetPlan, planFleet } from "../src/tenants/fleet-plan.ts";
import {
  COMMON,
  confirm,
  countOf,
  parse,
  readSettings,
  STRING,
  table,
  UsageError,
  withDatabase,
} from "./command.ts";
import { Progress } from "./progress.ts";

/** What a migration of the fleet can be told. */
export const FLEET_HELP = `
  --plan                 say what would run where, and change nothing
  --to <migration>       to this version instead of the newest, up or down: its name or its digits
  --canary <subdomain>   who goes first, alone (default: the oldest that has not failed)
  --parallel <n>         tenants at a time (default: the cores of this machine)
  --failure-budget <n>   tenants that may fail before no other is begun (default 10)
  --tries <n>            tries for a tenant whose tables are locked (default 5, pauses doubling from 0.5 s)
  --lock-timeout <ms>    wait for a lock at most so long; requests wait as well meanwhile (default 1000)
  --statement-timeout <ms>   (default 60000)
  --yes                  go back to an older version without asking

One tenant goes first; when its migration fails nothing else is touched. A tenant that fails stays on its
version and keeps no other waiting. Stopped with Ctrl-C, what is under way is finished; stopped in any other
way, nothing is half done: run it again and it does the rest. Of two runs at once one works, the other ends
with exit code 1. Exit code 0: all tenants are of the version.`;

const HELP = `
Brings every tenant's schema to the version of this release. (npm run migrate does the registry first.)

  npm run tenant -- migrate
  npm run tenant -- migrate --plan
  npm run tenant -- migrate --canary acme --parallel 4 --failure-budget 3
  npm run tenant -- migrate --to 1790000210000 --yes
${FLEET_HELP}
`;

/** The options of {@link FLEET_HELP}. */
export const FLEET_OPTIONS = {
  plan: { type: "boolean", default: false },
  yes: { type: "boolean", default: false },
  to: STRING,
  canary: STRING,
  parallel: STRING,
  "failure-budget": STRING,
  tries: STRING,
  "lock-timeout": STRING,
  "statement-timeout": STRING,
} as const;

export interface FleetValues {
  plan: boolean;
  yes: boolean;
  json: boolean;
  to?: string | undefined;
  canary?: string | undefined;
  parallel?: string | undefined;
  "failure-budget"?: string | undefined;
  tries?: string | undefined;
  "lock-timeout"?: string | undefined;
  "statement-timeout"?: string | undefined;
}

export async function migrateTenants(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { ...COMMON, ...FLEET_OPTIONS });
  if (values.help) {
    console.log(HELP.trim());
    return;
  }
  if (positionals.length > 0) throw new UsageError(HELP.trim());
  const options = fleetOptions(values);
  await withDatabase(readSettings(), async (database) => {
    const fleet = await migrateOrPlan(database, values, options);
    if (values.json) console.log(JSON.stringify(fleet));
  });
}

/** @throws UsageError for a number that is none */
export function fleetOptions(values: FleetValues): FleetOptions {
  const numbers = {
    parallel: countOf("parallel", values.parallel, 1),
    failureBudget: countOf("failure-budget", values["failure-budget"], 0),
    triesMax: countOf("tries", values.tries, 1),
    lockTimeoutMs: countOf("lock-timeout", values["lock-timeout"], 1),
    statementTimeoutMs: countOf("statement-timeout", values["statement-timeout"], 1),
  };
  const given = Object.entries(numbers).filter(([, value]) => value !== undefined);
  return {
    ...(Object.fromEntries(given) as FleetOptions),
    ...(values.canary === undefined ? {} : { canary: values.canary }),
  };
}

/**
 * Migrates the fleet, or says what would be done; prints it unless `--json` is given, and sets the exit code.
 */
export async function migrateOrPlan(
  { migrationUrl }: OpenDatabase,
  values: FleetValues,
  options: FleetOptions,
): Promise<FleetReport | FleetPlan> {
  const migrations = await loadTenantMigrations();
  const target =
    values.to === undefined ? newestVersion(migrations) : findVersion(migrations, values.to);
  const plan = await withAdmin(migrationUrl, (admin) =>
    planFleet(admin.query, migrations, target, options.canary),
  );
  if (values.plan) {
    if (!values.json) console.log(describePlan(plan));
    return plan;
  }
  const down = plan.groups.filter(({ direction }) => direction === "down");
  if (down.length > 0) {
    const tenants = down.reduce((sum, group) => sum + group.tenants, 0);
    await confirm(
      `${tenants} tenants go back to ${target}: what the newer migrations added is deleted. Go on?`,
      values.yes,
    );
  }
  const report = await runFleet(migrationUrl, migrations, { ...options, target }, values.json);
  if (report.failed.length > 0 || report.left > 0) process.exitCode = 1;
  if (!values.json) console.log(describeReport(report));
  return report;
}

async function runFleet(
  migrationUrl: string,
  migrations: Parameters<typeof migrateFleet>[1],
  options: FleetOptions,
  isJson: boolean,
): Promise<FleetReport> {
  const progress = new Progress({ isQuiet: isJson });
  const stop = new AbortController();
  const onSignal = () => {
    progress.say("Stopping: what is under way is finished. Again to stop at once.");
    stop.abort();
  };
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  try {
    return await migrateFleet(migrationUrl, migrations, {
      ...options,
      signal: stop.signal,
      onResult: ({ subdomain, durationMs, error }, done, total) => {
        if (error === undefined)
          progress.step(done, total, `${subdomain}: done in ${durationMs} ms`);
        else progress.say(`${done}/${total} ${subdomain}: ${error}`);
      },
      onRetry: ({ subdomain }, error, delayMs) =>
        progress.say(`${subdomain}: ${error}; again in ${(delayMs / 1_000).toFixed(1)} s`),
    });
  } finally {
    progress.end();
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
}

function describePlan({ target, total, groups, canary }: FleetPlan): string {
  if (groups.length === 0) return `All ${total} tenants are of ${target}: nothing to do.`;
  const rows = groups.map(({ version, tenants, direction, migrations, problem }) => [
    String(tenants),
    version || "no version",
    problem ??
      (migrations.length === 0 ? "nothing to run" : `${direction}: ${migrations.join(", ")}`),
  ]);
  return [
    `to ${target}; first and alone: ${canary ?? "nobody"}`,
    "",
    table([["tenants", "from", "what runs"], ...rows]),
  ].join("\n");
}

const STOPPED = {
  canary: "Stopped: the tenant that went first failed.",
  failure_budget: "Stopped: more tenants failed than may.",
  interrupted: "Stopped before the end.",
} as const;

function describeReport({ version, total, migrated, failed, left, stopped }: FleetReport): string {
  const lines = [
    `fleet: ${total} tenants, ${migrated.length} migrated, ${failed.length} failed, version ${version}`,
  ];
  if (stopped)
    lines.push(
      `${STOPPED[stopped]} ${left} ${left === 1 ? "tenant was" : "tenants were"} not begun.`,
    );
  return lines.join("\n");
}
