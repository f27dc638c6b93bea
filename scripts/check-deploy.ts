/** `npm run check-deploy`: is this configuration fit for production? Every finding at once. */
import postgres from "postgres";
import { type Config, readConfig } from "../src/config.ts";
import { ConfigError } from "../src/config-error.ts";
import { type AdminConnection, withAdmin } from "../src/db/admin.ts";
import { findRoleGaps } from "../src/db/roles.ts";
import { REGISTRY_ROLE } from "../src/db/tenant-database.ts";
import { loadTenantMigrations, newestVersion } from "../src/db/tenant-migrations.ts";
import { pingRedis } from "../src/plugins/redis-counters.ts";
import { isFleetBehind } from "../src/tenants/fleet-status.ts";
import { COMMON, loadEnvFile, parse, runCommand, showHelp } from "./command.ts";

const HELP = `
Says whether this configuration is fit for production: every setting, the database and Redis.

  npm run check-deploy              every finding, one a line; exit code 1 when there is any
  npm run check-deploy -- --json    {"findings": [...], "advice": [...]}

Settings are those of the environment and .env, judged as for APP_ENV=production. It changes nothing.
`;

/** How long the database has for a statement. */
const PATIENCE_MS = 5_000;

/** SQLSTATEs of a registry, a role or a right that `npm run migrate` makes. */
const UNMIGRATED_CODES = new Set(["42P01", "42501", "22023"]);

await runCommand(async () => {
  const { values, positionals } = parse(process.argv.slice(2), COMMON);
  if (values.help || positionals.length > 0) {
    showHelp(HELP, values.help);
    return;
  }
  loadEnvFile();
  const { config, findings } = readProduction();
  // Whatever else is missing, what can be asked is asked.
  const { DATABASE_URL: databaseUrl, REDIS_URL: redisUrl } = process.env;
  findings.push(
    ...(await findDatabaseGaps(config?.databaseUrl ?? databaseUrl)),
    ...(await findRedisGaps(config?.redisUrl ?? redisUrl)),
  );
  const advice = config ? advise(config) : [];
  if (values.json) console.log(JSON.stringify({ findings, advice }));
  else {
    for (const finding of findings) console.log(`- ${finding}`);
    for (const line of advice) console.log(`  (advice) ${line}`);
    console.log(
      findings.length === 0
        ? "Nothing stands against serving users with this."
        : `${findings.length} ${findings.length === 1 ? "finding" : "findings"}.`,
    );
  }
  if (findings.length > 0) process.exitCode = 1;
});

/** The settings as production reads them; undefined while they have gaps. */
function readProduction(): { config: Config | undefined; findings: string[] } {
  const findings =
    process.env["APP_ENV"] === "production"
      ? []
      : ["APP_ENV is not production: set APP_ENV=production to serve users."];
  try {
    return { config: readConfig({ ...process.env, APP_ENV: "production" }), findings };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { config: undefined, findings: [...findings, ...error.findings] };
  }
}

/** What the service would stumble over in the database. */
async function findDatabaseGaps(databaseUrl: string | undefined): Promise<string[]> {
  if (databaseUrl === undefined || !/^postgres(ql)?:/.test(databaseUrl)) return [];
  try {
    return await withAdmin(
      databaseUrl,
      async (admin) => [...(await findRoleGaps(admin.query)), ...(await findRegistryGaps(admin))],
      { statementTimeoutMs: PATIENCE_MS },
    );
  } catch (error) {
    return [`DATABASE_URL: the database cannot be reached (${reasonOf(error)}).`];
  }
}

async function findRegistryGaps(admin: AdminConnection): Promise<string[]> {
  const version = newestVersion(await loadTenantMigrations());
  try {
    const isBehind = await admin.transaction(async () => {
      await admin.execute(`set local role ${REGISTRY_ROLE}`);
      return isFleetBehind(admin.query, version);
    });
    return isBehind ? ["Tenants are not of this release: run npm run migrate."] : [];
  } catch (error) {
    const code = error instanceof postgres.PostgresError ? error.code : "";
    if (!UNMIGRATED_CODES.has(code)) throw error;
    return ["The database is not migrated: run npm run migrate."];
  }
}

async function findRedisGaps(redisUrl: string | undefined): Promise<string[]> {
  if (redisUrl === undefined || !/^rediss?:/.test(redisUrl)) return [];
  try {
    await pingRedis(redisUrl);
    return [];
  } catch (error) {
    return [`REDIS_URL: Redis does not answer (${reasonOf(error)}).`];
  }
}

/** What many installations want and none has to have. */
function advise({ redisUrl, metricsToken, corsAllowedOrigins, trustedProxies, turnstile }: Config) {
  const advice: [boolean, string][] = [
    [redisUrl === undefined, "REDIS_URL is not set: each process counts limits by itself."],
    [metricsToken === undefined, "METRICS_TOKEN is not set: /metrics does not exist."],
    [
      corsAllowedOrigins?.length === 0,
      "CORS_ALLOWED_ORIGINS is not set: no page of another origin may call the API.",
    ],
    [
      trustedProxies.length === 0,
      "TRUSTED_PROXIES is not set: behind a proxy every caller has its address, and plain HTTP is not led to HTTPS.",
    ],
    [turnstile === undefined, "TURNSTILE_SECRET_KEY is not set: no captcha is asked for."],
  ];
  return advice.filter(([applies]) => applies).map(([, text]) => text);
}

/** Why something could not be reached; the causes say more than the error. No URL is in it. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause !== undefined) return reasonOf(error.cause);
  const code = "code" in error ? String(error.code) : "";
  return error.message || code;
}
