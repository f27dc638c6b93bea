/** `npm run tenant -- …`: what operators do with tenants. */
import { z } from "zod";
import { linkWithToken } from "../src/auth/links.ts";
import { findGuessable } from "../src/auth/password-rules.ts";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { Email, FullName, Password, Phone } from "../src/auth/schemas.ts";
import { withAdmin } from "../src/db/admin.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { AppError } from "../src/errors.ts";
import { parseDomain } from "../src/tenants/domains.ts";
import { createTenant } from "../src/tenants/provisioning.ts";
import { parseSubdomain } from "../src/tenants/subdomains.ts";
import { findTenant, listTenants, type TenantRecord } from "../src/tenants/tenants.ts";
import {
  COMMON,
  parse,
  readSettings,
  runCommand,
  STRING,
  table,
  UsageError,
  withDatabase,
} from "./command.ts";
import { clone, exportToFile, importFromFile } from "./tenant-archive.ts";
import { deleteTenant } from "./tenant-delete.ts";
import { drift } from "./tenant-drift.ts";
import { domain, messages, rename, setStatus, STATUS_COMMANDS } from "./tenant-life-cycle.ts";
import { migrateTenants } from "./tenant-migrate.ts";
import { move } from "./tenant-move.ts";
import { plan } from "./tenant-plan.ts";
import { showStatus } from "./tenant-status.ts";
import { pruneTenantLogs, verifyTenantLogs } from "./tenant-logs.ts";

const HELP = `
Operators' commands for tenants. Each takes --json (one JSON document on stdout) and --help.

  npm run tenant -- create --name "Acme" --subdomain acme --owner-email o@acme.io --owner-phone +201001234567
  npm run tenant -- list
  npm run tenant -- show acme
  npm run tenant -- status                                the fleet on one screen
  npm run tenant -- migrate [--plan]                      bring every schema to this release
  npm run tenant -- suspend | activate | read-only acme
  npm run tenant -- rename acme acme-corp
  npm run tenant -- domain list | add | verify | primary | remove acme [app.acme.example]
  npm run tenant -- plan acme [--limit authenticated=5000/day]
  npm run tenant -- export acme [--out acme.zip]          a tenant as one file
  npm run tenant -- import acme.zip [--subdomain acme-2]  and back, with an id of its own
  npm run tenant -- clone acme acme-staging               a copy that sends no messages
  npm run tenant -- move acme --to-env other.env          to another installation
  npm run tenant -- delete acme [--grace-days 30]         suspend it, and erase it when the grace is over
  npm run tenant -- messages acme off | on
  npm run tenant -- drift [acme]                          are the schemas what the migrations make?
  npm run tenant -- verify-audit [acme]                   are the logs what was written to them?
  npm run tenant -- prune-logs [acme] [--keep-days 400]   delete log entries that are old enough

Exit code 0: done. 1: it failed, the reason is on stderr. 2: the command was not understood.
`;

const CREATE_HELP = `
Creates a tenant with its schema, role, tables and owner: all of it or nothing.

  npm run tenant -- create --name "Acme" --subdomain acme \\
    --owner-email o@acme.io --owner-phone +201001234567 [--owner-name "Ada"] [--owner-password …] [--domain app.acme.io]

  --name            what people call the tenant
  --subdomain       3 to 63 letters, digits and dashes; some are reserved
  --owner-email     the first user, admin of the tenant
  --owner-phone     in international format
  --owner-name      default: Owner
  --owner-password  default: none; a link to set one, good for 72 hours, is printed once
  --domain          a host name of the tenant's own that you vouch for
`;

const CreateOptions = z.object({
  name: z.string("is required").trim().min(1, "is required").max(200),
  subdomain: z.string("is required"),
  "owner-email": Email,
  "owner-phone": z.string("is required").pipe(Phone),
  "owner-name": FullName.default("Owner"),
  "owner-password": Password.optional(),
  domain: z.string().optional(),
});

await runCommand(async () => {
  const [command, ...rest] = process.argv.slice(2);
  if (command === "create") return create(rest);
  if (command === "list") return list(rest);
  if (command === "show") return show(rest);
  if (command === "status") return showStatus(rest);
  if (command === "migrate") return migrateTenants(rest);
  if (command === "drift") return drift(rest);
  if (command === "export") return exportToFile(rest);
  if (command === "import") return importFromFile(rest);
  if (command === "clone") return clone(rest);
  if (command === "move") return move(rest);
  if (command === "plan") return plan(rest);
  if (command === "rename") return rename(rest);
  if (command === "messages") return messages(rest);
  if (command === "delete") return deleteTenant(rest);
  if (command === "domain") return domain(rest);
  if (command !== undefined && STATUS_COMMANDS.includes(command)) return setStatus(command, rest);
  if (command === "verify-audit") return verifyTenantLogs(rest);
  if (command === "prune-logs") return pruneTenantLogs(rest);
  if (command === undefined || command === "--help" || command === "-h") {
    console.log(HELP.trim());
    return undefined;
  }
  throw new UsageError(`There is no command "${command}".\n\n${HELP.trim()}`);
});

async function create(args: string[]): Promise<void> {
  const { values } = parse(args, {
    ...COMMON,
    name: STRING,
    subdomain: STRING,
    "owner-email": STRING,
    "owner-phone": STRING,
    "owner-name": STRING,
    "owner-password": STRING,
    domain: STRING,
  });
  if (values.help) {
    console.log(CREATE_HELP.trim());
    return;
  }
  const parsed = CreateOptions.safeParse(values);
  if (!parsed.success) {
    const complaints = parsed.error.issues.map(
      ({ path, message }) => `--${path.join(".")}: ${message}`,
    );
    throw new UsageError(`${complaints.join("\n")}\n\n${CREATE_HELP.trim()}`);
  }
  const options = parsed.data;
  const subdomain = parseSubdomain(options.subdomain);
  const ownDomain = options.domain === undefined ? {} : { domain: parseDomain(options.domain) };
  const config = readSettings();
  const passwords = new PasswordHasher({ pepper: config.passwordPepper, cost: config.bcryptCost });
  const password = options["owner-password"];
  const guessable =
    password &&
    (await findGuessable(password, {
      full_name: options["owner-name"],
      email: options["owner-email"],
      primary_mobile: options["owner-phone"],
    }));
  if (guessable) throw new UsageError(`--owner-password: ${guessable}`);
  const passwordHash = password === undefined ? undefined : await passwords.hash(password);
  await withDatabase(config, async ({ url, migrationUrl }) => {
    const migrations = await loadTenantMigrations();
    const { passwordToken, ...created } = await withAdmin(migrationUrl, (admin) =>
      createTenant(admin, migrations, apiRoleOf(url).name, {
        name: options.name,
        subdomain,
        ...ownDomain,
        owner: {
          fullName: options["owner-name"],
          email: options["owner-email"],
          phone: options["owner-phone"],
          ...(passwordHash === undefined ? {} : { passwordHash }),
        },
      }),
    );
    const link =
      passwordToken &&
      linkWithToken(
        { frontendUrl: config.frontendUrl, subdomain },
        "reset-password",
        passwordToken,
      );
    if (values.json) {
      console.log(JSON.stringify({ ...created, password_link: link ?? null }));
      return;
    }
    console.log(
      `Created tenant "${created.subdomain}" (id ${created.id}, schema ${created.schema}).`,
    );
    if (link) console.log(`The owner sets a password, within 72 hours and once, at:\n  ${link}`);
  });
}

async function list(args: string[]): Promise<void> {
  const { values } = parse(args, COMMON);
  if (values.help) {
    console.log(
      "Lists every tenant: id, subdomain, state, schema version.\n\n  npm run tenant -- list [--json]",
    );
    return;
  }
  await withDatabase(readSettings(), async ({ migrationUrl }) => {
    const tenants = await withAdmin(migrationUrl, (admin) => listTenants(admin.query));
    if (values.json) {
      console.log(JSON.stringify(tenants));
      return;
    }
    const rows = tenants.map(({ id, subdomain, name, status, version, migration_state: state }) => [
      String(id),
      subdomain,
      status,
      state === "applied" ? version : `${version} (${state})`,
      name,
    ]);
    console.log(table([["id", "subdomain", "status", "version", "name"], ...rows]));
  });
}

async function show(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, COMMON);
  const [subdomain] = positionals;
  if (values.help || subdomain === undefined) {
    const text = "Shows one tenant.\n\n  npm run tenant -- show <subdomain> [--json]";
    if (!values.help) throw new UsageError(text);
    console.log(text);
    return;
  }
  await withDatabase(readSettings(), async ({ migrationUrl }) => {
    const tenant = await withAdmin(migrationUrl, (admin) => findTenant(admin.query, subdomain));
    if (!tenant) throw new AppError("tenant_not_found", `There is no tenant "${subdomain}".`);
    console.log(values.json ? JSON.stringify(tenant) : describe(tenant));
  });
}

function describe(tenant: TenantRecord): string {
  return table([
    ["id", String(tenant.id)],
    ["name", tenant.name],
    ["subdomain", tenant.subdomain],
    ["domains", tenant.domains.join(", ") || "none"],
    ["status", tenant.status],
    ["schema", tenant.schema],
    ["version", tenant.version],
    [
      "migration",
      tenant.last_error
        ? `${tenant.migration_state}: ${tenant.last_error}`
        : tenant.migration_state,
    ],
    ["messages", tenant.sends_messages ? "sent" : "dropped"],
    ...(tenant.delete_after ? [["erased after", tenant.delete_after.toISOString()]] : []),
    ["created", tenant.created_at.toISOString()],
  ]);
}
