/** `npm run tenant -- delete`: suspends a tenant, and erases it when its grace is over. */
import type { Config } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { AppError } from "../src/errors.ts";
import { eraseCounters } from "../src/plugins/redis-counters.ts";
import { forgetDemoLogin } from "../src/tenants/demo.ts";
import {
  type ErasureReceipt,
  eraseTenant,
  GRACE_DAYS,
  listDueErasures,
  scheduleErasure,
} from "../src/tenants/erasure.ts";
import {
  COMMON,
  confirm,
  countOf,
  parse,
  readSettings,
  showHelp,
  STRING,
  table,
  withDatabase,
} from "./command.ts";

const HELP = `
Deletes a tenant in two steps. The first suspends it and begins its grace; nothing is lost yet, and
npm run tenant -- activate takes it back. The second, when the grace is over, drops its schema and role and removes
every row and counter of it, and prints what was looked for afterwards and not found.

  npm run tenant -- delete acme                     suspends it; it may be erased ${GRACE_DAYS} days from now
  npm run tenant -- delete acme --grace-days 0      … at once
  npm run tenant -- delete acme --erase             erases it, if its grace is over
  npm run tenant -- delete --due --yes              erases every tenant whose grace is over: for a daily job

  --yes   without asking

Archives that were written before (npm run tenant -- export) and backups of the database are not touched.
`;

export async function deleteTenant(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    ...COMMON,
    "grace-days": STRING,
    erase: { type: "boolean", default: false },
    due: { type: "boolean", default: false },
    yes: { type: "boolean", default: false },
  });
  const graceDays = countOf("grace-days", values["grace-days"], 0);
  const [subdomain, ...more] = positionals;
  const isAboutOne = subdomain !== undefined && more.length === 0 && !values.due;
  const isAboutDue = subdomain === undefined && values.due;
  const isContradiction = graceDays !== undefined && (values.erase || values.due);
  if (values.help || isContradiction || !(isAboutOne || isAboutDue)) {
    return showHelp(HELP, values.help);
  }
  const config = readSettings();
  return withDatabase(config, async (database) => {
    if (subdomain !== undefined && !values.erase) {
      await confirm(`Nobody can use "${subdomain}" from now on. Suspend it?`, values.yes);
      await schedule(database, subdomain, graceDays, values.json);
      return;
    }
    const due =
      subdomain === undefined
        ? await withAdmin(database.migrationUrl, (admin) => listDueErasures(admin.query))
        : [subdomain];
    if (due.length > 0) {
      await confirm(`Everything of ${due.join(", ")} is deleted for ever. Go on?`, values.yes);
    }
    const receipts: ErasureReceipt[] = [];
    for (const name of due) {
      try {
        const receipt = await erase(config, database, name);
        receipts.push(receipt);
        if (!values.json) console.log(describe(receipt));
      } catch (error) {
        // Of one alone it is the command's own failure; the next of many is not the worse for it.
        if (subdomain !== undefined || !(error instanceof AppError)) throw error;
        process.exitCode = 1;
        console.error(`${name}: ${error.message}`);
      }
    }
    if (values.json) console.log(JSON.stringify(receipts));
    else if (due.length === 0) console.log("No tenant's grace is over.");
  });
}

async function schedule(
  { migrationUrl }: OpenDatabase,
  subdomain: string,
  graceDays: number | undefined,
  isJson: boolean,
): Promise<void> {
  const tenant = await withAdmin(migrationUrl, (admin) =>
    scheduleErasure(admin.query, subdomain, graceDays),
  );
  if (isJson) {
    console.log(JSON.stringify(tenant));
    return;
  }
  console.log(
    [
      `${tenant.subdomain} is suspended and may be erased after ${tenant.delete_after?.toISOString() ?? ""}:`,
      `  npm run tenant -- delete ${tenant.subdomain} --erase`,
      `Until then it can be taken back:`,
      `  npm run tenant -- activate ${tenant.subdomain}`,
    ].join("\n"),
  );
}

/** Erases a tenant from the database, then what stands elsewhere: counters in Redis, the demo's login. */
async function erase(
  config: Config,
  { migrationUrl }: OpenDatabase,
  subdomain: string,
): Promise<ErasureReceipt & { counters: number | null }> {
  const receipt = await withAdmin(migrationUrl, (admin) => eraseTenant(admin, subdomain));
  await forgetDemoLogin(config.dataDir, receipt.subdomain);
  if (config.redisUrl === undefined) return { ...receipt, counters: null };
  try {
    return { ...receipt, counters: await eraseCounters(config.redisUrl, receipt.tenant_id) };
  } catch {
    console.error("Redis does not answer: request counters of the tenant go within a day.");
    return { ...receipt, counters: null };
  }
}

function describe({
  tenant_id: id,
  subdomain,
  erased_at: at,
  before,
  after,
}: ErasureReceipt): string {
  const rows = after.map(({ place, found }, index) => [
    place,
    String(before[index]?.found ?? 0),
    String(found),
  ]);
  return [
    `Erased "${subdomain}" (id ${id}) at ${at.toISOString()}. Looked for afterwards:`,
    "",
    table([["where", "before", "left"], ...rows]),
  ].join("\n");
}
