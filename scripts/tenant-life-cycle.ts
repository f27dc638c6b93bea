/** `npm run tenant -- suspend | activate | read-only | rename | domain`: a tenant's state and names. */
import { type AdminConnection, withAdmin } from "../src/db/admin.ts";
import {
  addDomain,
  listDomains,
  removeDomain,
  setPrimaryDomain,
  type TenantDomain,
  verifyDomain,
} from "../src/tenants/domains.ts";
import { renameTenant, setTenantMessages, setTenantStatus } from "../src/tenants/life-cycle.ts";
import type { TenantStatus } from "../src/tenants/tenants.ts";
import {
  COMMON,
  parse,
  readSettings,
  showHelp,
  table,
  UsageError,
  withDatabase,
} from "./command.ts";

/** What each command makes of a tenant, and how it is said. */
const STATUSES: Readonly<Record<string, { status: TenantStatus; help: string; done: string }>> = {
  suspend: {
    status: "suspended",
    help: "Refuses every request to a tenant with 403 tenant_suspended. Nothing is deleted; activate ends it.",
    done: "is suspended",
  },
  activate: {
    status: "active",
    help: "Lets a tenant work again, whether it was suspended or read-only.",
    done: "is active",
  },
  "read-only": {
    status: "read_only",
    help: "Refuses every change to a tenant with 403 tenant_read_only, logins included; reading goes on.",
    done: "can be read, not changed",
  },
};

/** The commands above. */
export const STATUS_COMMANDS: readonly string[] = Object.keys(STATUSES);

const RENAME_HELP = `
Gives a tenant another subdomain. Its schema stays. Links that were sent name the old one, which another
tenant can take at once.

  npm run tenant -- rename acme acme-corp
`;

const MESSAGES_HELP = `
Says whether the e-mails and SMS of a tenant are sent, or dropped. Codes by SMS then reach nobody: who needs one
cannot log in. A clone begins with off.

  npm run tenant -- messages acme off | on
`;

const DOMAIN_HELP = `
Host names of a tenant's own. A domain names the tenant once a TXT record shows that it is theirs.

  npm run tenant -- domain list acme
  npm run tenant -- domain add acme app.acme.example       prints the record to make
  npm run tenant -- domain verify acme app.acme.example    looks it up; the first one becomes the primary
  npm run tenant -- domain primary acme app.acme.example
  npm run tenant -- domain remove acme app.acme.example
`;

export async function setStatus(command: string, args: string[]): Promise<void> {
  const change = STATUSES[command];
  if (!change) throw new UsageError(`There is no command "${command}".`);
  const help = `${change.help}\n\n  npm run tenant -- ${command} <subdomain> [--json]`;
  const { values, positionals } = parse(args, COMMON);
  const [subdomain, ...more] = positionals;
  if (values.help) {
    console.log(help);
    return;
  }
  if (subdomain === undefined || more.length > 0) throw new UsageError(help);
  await withOwner(async (admin) => {
    const tenant = await setTenantStatus(admin.query, subdomain, change.status);
    console.log(values.json ? JSON.stringify(tenant) : `${tenant.subdomain} ${change.done}.`);
  });
}

export async function rename(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  const [subdomain, newSubdomain, ...more] = positionals;
  if (values.help) {
    console.log(RENAME_HELP.trim());
    return;
  }
  if (subdomain === undefined || newSubdomain === undefined || more.length > 0) {
    throw new UsageError(RENAME_HELP.trim());
  }
  await withOwner(async (admin) => {
    const tenant = await renameTenant(admin.query, subdomain, newSubdomain);
    const line = `${subdomain} is ${tenant.subdomain} now (id ${tenant.id}, schema ${tenant.schema}).`;
    console.log(values.json ? JSON.stringify(tenant) : line);
  });
}

export async function messages(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  const [subdomain, state, ...more] = positionals;
  const isUnderstood = subdomain !== undefined && (state === "on" || state === "off");
  if (values.help || !isUnderstood || more.length > 0) return showHelp(MESSAGES_HELP, values.help);
  return withOwner(async (admin) => {
    const tenant = await setTenantMessages(admin.query, subdomain, state === "on");
    const line = `Messages of ${tenant.subdomain} are ${state === "on" ? "sent" : "dropped"}.`;
    console.log(values.json ? JSON.stringify(tenant) : line);
  });
}

/** What `domain` does, by its first word. */
const DOMAIN_ACTIONS: Readonly<
  Record<
    string,
    (admin: AdminConnection, subdomain: string, domain: string) => Promise<TenantDomain | undefined>
  >
> = {
  add: addDomain,
  verify: (admin, subdomain, name) => verifyDomain(admin, subdomain, name),
  primary: setPrimaryDomain,
  remove: async (admin, subdomain, name) => {
    await removeDomain(admin, subdomain, name);
    return undefined;
  },
};

export async function domain(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  const [action, subdomain, name, ...more] = positionals;
  if (values.help) {
    console.log(DOMAIN_HELP.trim());
    return;
  }
  if (action === undefined || subdomain === undefined || more.length > 0) {
    throw new UsageError(DOMAIN_HELP.trim());
  }
  await withOwner(async (admin) => {
    if (action === "list") {
      const domains = await listDomains(admin, subdomain);
      console.log(values.json ? JSON.stringify(domains) : describe(domains));
      return;
    }
    const act = DOMAIN_ACTIONS[action];
    if (!act || name === undefined) throw new UsageError(DOMAIN_HELP.trim());
    const changed = await act(admin, subdomain, name);
    if (values.json) console.log(JSON.stringify(changed ?? { domain: name, removed: true }));
    else console.log(changed ? describe([changed]) : `${name} was removed.`);
  });
}

/** A line for each domain; those that wait have the record that they wait for. */
function describe(domains: readonly TenantDomain[]): string {
  if (domains.length === 0) return "No domains.";
  const lines = [
    table(
      domains.map(({ domain: name, is_primary: isPrimary, verified_at: verifiedAt }) => [
        name,
        verifiedAt ? `verified ${verifiedAt.toISOString()}` : "not verified",
        isPrimary ? "primary" : "",
      ]),
    ),
  ];
  for (const { record } of domains) {
    if (record)
      lines.push(`\nMake this DNS record, then verify:\n  ${record.name}  TXT  ${record.value}`);
  }
  return lines.join("\n");
}

/** Connects as the role that owns the registry. */
async function withOwner(work: (admin: AdminConnection) => Promise<void>): Promise<void> {
  await withDatabase(readSettings(), ({ migrationUrl }) => withAdmin(migrationUrl, work));
}
