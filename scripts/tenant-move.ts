/** `npm run tenant -- move`: a tenant to another installation. */
import { readFile } from "node:fs/promises";
import { parseEnv } from "node:util";
import { type Config, readConfig } from "../src/config.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { AppError } from "../src/errors.ts";
import { Keys } from "../src/keys.ts";
import { moveTenant, type Relocation, type TargetInstallation } from "../src/tenants/relocation.ts";
import {
  COMMON,
  confirm,
  parse,
  readSettings,
  showHelp,
  STRING,
  UsageError,
  withDatabase,
} from "./command.ts";
import { Progress } from "./progress.ts";
import { withTemporaryFile } from "./tenant-archive.ts";

const HELP = `
Moves a tenant to another installation of the product: read-only here, archived, restored there with its domains,
compared table by table on both sides, active there. Here it stays, read-only, until you delete it.

  npm run tenant -- move acme --to-env /etc/ouvira/other.env
  npm run tenant -- move acme --to postgres://owner:…@other.example:5432/ouvira

  --to-env           a file with the other installation's settings: DATABASE_URL, DATABASE_MIGRATION_URL, ENCRYPTION_KEY, …
  --to               its DATABASE_MIGRATION_URL, where roles and secrets are those of this installation; who lists
                     the processes of this machine meanwhile sees it
  --reset-passwords  where PASSWORD_PEPPER is another: everybody sets a new password
  --yes              without asking

The other one has its registry (npm run migrate). People log in again: logins stay behind. When something fails, the
tenant is here what it was before and nothing of it is there; so it is after Ctrl-C. A move that is killed leaves it read-only here, and
perhaps a read-only copy there, to be deleted. Point DNS to the other installation when it is done.
`;

export async function move(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    ...COMMON,
    to: STRING,
    "to-env": STRING,
    "reset-passwords": { type: "boolean", default: false },
    yes: { type: "boolean", default: false },
  });
  const [subdomain, ...more] = positionals;
  const targets = [values.to, values["to-env"]].filter((target) => target !== undefined);
  if (values.help || subdomain === undefined || more.length > 0 || targets.length !== 1) {
    return showHelp(HELP, values.help);
  }
  const config = readSettings();
  return withDatabase(config, async (database) => {
    const target = await targetOf(config, database, values.to, values["to-env"]);
    await confirm(`Nobody can change anything in "${subdomain}" meanwhile. Move it?`, values.yes);
    const progress = new Progress({ isQuiet: values.json });
    const keys = new Keys(config);
    let isStopped = false;
    const source = { migrationUrl: database.migrationUrl, keys, secrets: config };
    const relocation = await withTemporaryFile(
      (file) =>
        moveTenant(source, target, subdomain, {
          file,
          resetsPasswords: values["reset-passwords"],
          onStep: (step) => {
            if (isStopped) throw new AppError("conflict", "The move was stopped and undone.");
            progress.say(step);
          },
        }),
      () => {
        isStopped = true;
        progress.say("Stopping: what was done is undone.");
      },
    );
    console.log(values.json ? JSON.stringify(relocation) : describe(relocation));
  });
}

async function targetOf(
  config: Config,
  { url }: OpenDatabase,
  to: string | undefined,
  envFile: string | undefined,
): Promise<TargetInstallation> {
  const migrations = await loadTenantMigrations();
  if (to !== undefined) {
    if (!/^postgres(ql)?:\/\//.test(to)) throw new UsageError("--to takes a postgres:// URL.");
    const apiRole = apiRoleOf(url).name;
    return { migrationUrl: to, apiRole, migrations, keys: new Keys(config), secrets: config };
  }
  const other = readConfig(parseEnv(await readEnvFile(envFile ?? "")), "command");
  if (other.databaseUrl === undefined) {
    throw new UsageError(`${envFile} does not name a database (DATABASE_URL).`);
  }
  return {
    migrationUrl: other.databaseMigrationUrl ?? other.databaseUrl,
    apiRole: apiRoleOf(other.databaseUrl).name,
    migrations,
    keys: new Keys(other),
    secrets: other,
  };
}

async function readEnvFile(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch {
    throw new UsageError(`The file ${file} cannot be read.`);
  }
}

function describe({ source, target, compared }: Relocation): string {
  return [
    `Moved "${source.subdomain}": ${target.rows} rows, ${compared} tables the same on both sides.`,
    `It works there (id ${target.id}) and is read-only here (id ${source.id}). When all is well there, here:`,
    `  npm run tenant -- delete ${source.subdomain}`,
    `The way back, as long as nobody has worked there:`,
    `  npm run tenant -- activate ${source.subdomain}     here`,
    `  npm run tenant -- delete ${target.subdomain}       there`,
  ].join("\n");
}
