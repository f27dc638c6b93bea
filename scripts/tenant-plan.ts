/** `npm run tenant -- plan`: what a tenant has paid for, and its own limits. */
import { withAdmin } from "../src/db/admin.ts";
import { getTenant } from "../src/tenants/life-cycle.ts";
import { type PlanChange, setTenantPlan } from "../src/tenants/plans.ts";
import type { TenantRecord } from "../src/tenants/tenants.ts";
import {
  COMMON,
  parse,
  readSettings,
  showHelp,
  STRING,
  table,
  UsageError,
  withDatabase,
} from "./command.ts";

const HELP = `
Shows or changes a tenant's plan. That it is paid until a day that has passed changes nothing by itself: who bills
suspends it. Limits hold within a second, in every process.

  npm run tenant -- plan acme
  npm run tenant -- plan acme --paid-until 2027-01-01 --no-trial
  npm run tenant -- plan acme --paid-until never --trial
  npm run tenant -- plan acme --limit authenticated=5000/day --limit login=20/min
  npm run tenant -- plan acme --limit anonymous=0 --limit login=default

  --limit   anonymous, authenticated, login, otpSend, otpVerify, finalize or refresh; 0: none, default: the
            installation's (RATE_LIMIT_…)
`;

export async function plan(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    ...COMMON,
    "paid-until": STRING,
    trial: { type: "boolean", default: false },
    "no-trial": { type: "boolean", default: false },
    limit: { type: "string", multiple: true, default: [] },
  });
  const [subdomain, ...more] = positionals;
  const isContradiction = values.trial && values["no-trial"];
  if (values.help || subdomain === undefined || more.length > 0 || isContradiction) {
    return showHelp(HELP, values.help);
  }
  const change: PlanChange = {
    ...(values["paid-until"] === undefined ? {} : { paid_until: dayOf(values["paid-until"]) }),
    ...(values.trial || values["no-trial"] ? { on_trial: values.trial } : {}),
    ...(values.limit.length === 0 ? {} : { rate_limits: limitsOf(values.limit) }),
  };
  return withDatabase(readSettings(), ({ migrationUrl }) =>
    withAdmin(migrationUrl, async (admin) => {
      const tenant =
        Object.keys(change).length === 0
          ? await getTenant(admin.query, subdomain)
          : await setTenantPlan(admin.query, subdomain, change);
      console.log(values.json ? JSON.stringify(tenant) : describe(tenant));
    }),
  );
}

/** The beginning of a day in UTC, or a moment; null for ever. @throws UsageError */
function dayOf(text: string): Date | null {
  if (text === "never") return null;
  const date = new Date(text);
  // Of the 31st of February JavaScript makes the 3rd of March.
  const isDay = /^\d{4}-\d{2}-\d{2}(T[\d:.]+Z)?$/.test(text) && !Number.isNaN(date.getTime());
  if (isDay && date.toISOString().startsWith(text.slice(0, 10))) return date;
  throw new UsageError("--paid-until takes a day such as 2027-01-01, or never.");
}

function limitsOf(texts: readonly string[]): Record<string, string | null> {
  return Object.fromEntries(
    texts.map((text) => {
      const [scope, rate, ...more] = text.split("=");
      if (!scope || !rate || more.length > 0) {
        throw new UsageError("--limit takes a name and a limit: authenticated=5000/day.");
      }
      return [scope, rate === "default" ? null : rate];
    }),
  );
}

function describe({
  subdomain,
  paid_until: until,
  on_trial: onTrial,
  rate_limits: limits,
}: TenantRecord): string {
  const passed = until !== null && until.getTime() < Date.now() ? " (passed)" : "";
  return table([
    ["tenant", subdomain],
    ["paid until", until === null ? "not said" : `${until.toISOString()}${passed}`],
    ["on trial", onTrial ? "yes" : "no"],
    [
      "own limits",
      Object.entries(limits)
        .map(([scope, rate]) => `${scope}=${rate}`)
        .join(", ") || "none",
    ],
  ]);
}
