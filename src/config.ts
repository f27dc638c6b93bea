import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import path from "node:path";
import { z } from "zod";

/**
 * Everything the environment decides, read once, checked before anything is opened. No other file
 * reads process.env.
 */
export interface Config {
  readonly appEnv: "local" | "production";
  readonly debug: boolean;
  readonly host: string;
  readonly port: number;
  /** Embedded database, local secrets and the console transports' outbox. */
  readonly dataDir: string;
  /** Undefined: an embedded server under `dataDir` (local only). */
  readonly databaseUrl: string | undefined;
  /** The role that owns tables and creates tenants; the same as `databaseUrl` where none is set. */
  readonly databaseMigrationUrl: string | undefined;
  readonly databaseLanes: number;
  readonly databaseTransactionConnections: number;
  readonly databasePreparedPerLane: number;
  readonly secretKey: string;
  readonly passwordPepper: string;
  readonly encryptionKey: string;
  readonly bcryptCost: number;
  readonly accessTokenSeconds: number;
  readonly refreshTokenSeconds: number;
  readonly refreshTokenRememberedSeconds: number;
  readonly tenantBaseDomain: string;
  /** Hosts answered besides the tenants' own; undefined means all (local). */
  readonly allowedHosts: readonly string[] | undefined;
  /** Origins of browsers that may call; undefined means all (local). */
  readonly corsAllowedOrigins: readonly string[] | undefined;
  readonly csrfTrustedOrigins: readonly string[];
  readonly trustedProxies: readonly string[];
  readonly frontendUrl: string;
  readonly isDocsPublic: boolean;
  readonly logLevel: "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";
}

/** What is wrong with the environment, one sentence a finding. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly findings: readonly string[];

  constructor(findings: readonly string[]) {
    super(`The configuration cannot be used:\n${findings.map((line) => `  - ${line}`).join("\n")}`);
    this.findings = findings;
  }
}

const DAY_SECONDS = 86_400;

const Flag = z.enum(["true", "false"]).transform((text) => text === "true");
const Whole = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
const List = z.string().transform((text) =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);
const PostgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, "must begin with postgres://")
  .refine((text) => URL.canParse(text), "must be a URL");
const WebUrl = z.string().regex(/^https?:\/\//, "must begin with http:// or https://");
const Origin = /^https?:\/\/[^/]+$/;

/** Every variable: its shape and its default. `.env.example` says what each is for. */
const Environment = z.object({
  APP_ENV: z.enum(["local", "production"]),
  DEBUG: Flag.optional(),
  HOST: z.string().optional(),
  PORT: Whole(0, 65_535).default(8000),
  DATA_DIR: z.string().min(1).default(".data"),
  DATABASE_URL: PostgresUrl.optional(),
  DATABASE_MIGRATION_URL: PostgresUrl.optional(),
  POSTGRES_DB: z.string().optional(),
  POSTGRES_USER: z.string().default("postgres"),
  POSTGRES_PASSWORD: z.string().default(""),
  DB_HOST: z
    .string()
    .refine(
      (text) => isIP(text) !== 0 || /^[a-z0-9._-]+$/i.test(text),
      "must be a host name or an address",
    )
    .default("localhost"),
  DB_PORT: Whole(1, 65_535).default(5432),
  DATABASE_LANES: Whole(1, 64).default(8),
  DATABASE_TRANSACTION_CONNECTIONS: Whole(1, 200).default(8),
  DATABASE_PREPARED_PER_LANE: Whole(0, 100_000).default(3_000),
  SECRET_KEY: z.string().optional(),
  PASSWORD_PEPPER: z.string().optional(),
  ENCRYPTION_KEY: z.string().optional(),
  BCRYPT_COST: Whole(4, 15).optional(),
  ACCESS_TOKEN_SECONDS: Whole(30, DAY_SECONDS).default(3_600),
  REFRESH_TOKEN_SECONDS: Whole(60, 90 * DAY_SECONDS).default(7 * DAY_SECONDS),
  REFRESH_TOKEN_REMEMBERED_SECONDS: Whole(60, 365 * DAY_SECONDS).default(30 * DAY_SECONDS),
  TENANT_BASE_DOMAIN: z
    .string()
    .regex(/^[a-z0-9.-]+$/i, "must be a host name")
    .default("localhost"),
  ALLOWED_HOSTS: List.optional(),
  CORS_ALLOWED_ORIGINS: List.optional(),
  CSRF_TRUSTED_ORIGINS: List.default([]),
  TRUSTED_PROXIES: List.default([]),
  FRONTEND_URL: WebUrl.default("http://localhost:5173"),
  DOCS_PUBLIC: Flag.default(true),
  LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
});

/** The names of every variable that is read. */
export const VARIABLES: readonly string[] = Object.keys(Environment.shape);

/** bcrypt's cost (2^n rounds): about 60 ms a hash on the reference machine at 10, 230 ms at 12. */
const BCRYPT_COST = { local: 10, production: 12 } as const;

/** How to make a secret, said wherever one is missing or weak. */
const HOW_TO_MAKE_A_SECRET = `make one with: node -e "console.log(require('crypto').randomBytes(48).toString('base64'))"`;

const SECRET_NAMES = ["SECRET_KEY", "PASSWORD_PEPPER", "ENCRYPTION_KEY"] as const;
type Secrets = Record<(typeof SECRET_NAMES)[number], string>;

/** Words that stand in secrets people copy from examples. */
const KNOWN_SECRET = /change|secret|example|password|insecure|django|default/i;

/**
 * Reads and checks the environment.
 *
 * @throws ConfigError with every finding at once
 */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""),
  );
  if (given["APP_ENV"] === undefined) {
    throw new ConfigError([
      "APP_ENV is not set: set APP_ENV=local to try the product, APP_ENV=production to serve users.",
    ]);
  }
  const parsed = Environment.safeParse(given);
  if (!parsed.success) {
    throw new ConfigError(
      parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`),
    );
  }
  const values = parsed.data;
  const isProduction = values.APP_ENV === "production";
  const dataDir = path.resolve(values.DATA_DIR);
  const databaseUrl = values.DATABASE_URL ?? urlFromParts(values);
  const findings = [
    ...findOrigins("CORS_ALLOWED_ORIGINS", values.CORS_ALLOWED_ORIGINS ?? []),
    ...findOrigins("CSRF_TRUSTED_ORIGINS", values.CSRF_TRUSTED_ORIGINS),
    ...findProxies(values.TRUSTED_PROXIES),
    ...(isProduction ? findProductionGaps(values, databaseUrl) : []),
  ];
  if (findings.length > 0) throw new ConfigError(findings);
  const secrets = isProduction ? givenSecrets(values) : localSecrets(dataDir, values);

  return {
    appEnv: values.APP_ENV,
    debug: values.DEBUG ?? !isProduction,
    host: values.HOST ?? (isProduction ? "0.0.0.0" : "127.0.0.1"),
    port: values.PORT,
    dataDir,
    databaseUrl,
    databaseMigrationUrl: values.DATABASE_MIGRATION_URL ?? databaseUrl,
    databaseLanes: values.DATABASE_LANES,
    databaseTransactionConnections: values.DATABASE_TRANSACTION_CONNECTIONS,
    databasePreparedPerLane: values.DATABASE_PREPARED_PER_LANE,
    secretKey: secrets.SECRET_KEY,
    passwordPepper: secrets.PASSWORD_PEPPER,
    encryptionKey: secrets.ENCRYPTION_KEY,
    bcryptCost: values.BCRYPT_COST ?? BCRYPT_COST[values.APP_ENV],
    accessTokenSeconds: values.ACCESS_TOKEN_SECONDS,
    refreshTokenSeconds: values.REFRESH_TOKEN_SECONDS,
    refreshTokenRememberedSeconds: values.REFRESH_TOKEN_REMEMBERED_SECONDS,
    tenantBaseDomain: values.TENANT_BASE_DOMAIN.toLowerCase(),
    allowedHosts: isProduction
      ? (values.ALLOWED_HOSTS ?? []).map((host) => host.toLowerCase())
      : undefined,
    corsAllowedOrigins: isProduction
      ? (values.CORS_ALLOWED_ORIGINS ?? [])
      : values.CORS_ALLOWED_ORIGINS,
    csrfTrustedOrigins: values.CSRF_TRUSTED_ORIGINS,
    trustedProxies: values.TRUSTED_PROXIES,
    frontendUrl: values.FRONTEND_URL.replace(/\/+$/, ""),
    isDocsPublic: values.DOCS_PUBLIC,
    logLevel: values.LOG_LEVEL,
  };
}

type Values = z.infer<typeof Environment>;

/** The seed's five variables name a database as well as one URL does. */
function urlFromParts(values: Values): string | undefined {
  if (values.POSTGRES_DB === undefined) return undefined;
  const host = isIP(values.DB_HOST) === 6 ? `[${values.DB_HOST}]` : values.DB_HOST;
  const url = new URL(`postgres://${host}:${values.DB_PORT}`);
  // URL's setters leave a percent sign as it is.
  url.username = encodeURIComponent(values.POSTGRES_USER);
  url.password = encodeURIComponent(values.POSTGRES_PASSWORD);
  url.pathname = values.POSTGRES_DB;
  return url.href;
}

function findOrigins(name: string, origins: readonly string[]): string[] {
  return origins
    .filter((origin) => !Origin.test(origin))
    .map((origin) => `${name}: "${origin}" is not an origin such as https://app.example.com`);
}

function findProxies(proxies: readonly string[]): string[] {
  return proxies
    .filter((proxy) => !isNetwork(proxy))
    .map(
      (proxy) => `TRUSTED_PROXIES: "${proxy}" is not an address or a network such as 10.0.0.0/8`,
    );
}

/** Whether a text is an address, or one with the length of a network's prefix. */
function isNetwork(text: string): boolean {
  const [address = "", prefix = "0", ...rest] = text.split("/");
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
  return rest.length === 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits;
}

function findProductionGaps(values: Values, databaseUrl: string | undefined): string[] {
  const findings: string[] = [];
  if (databaseUrl === undefined) {
    findings.push(
      "DATABASE_URL is required: postgres://role:password@host:5432/database of the API's role.",
    );
  }
  const migrationUrl = values.DATABASE_MIGRATION_URL;
  if (
    databaseUrl &&
    migrationUrl &&
    new URL(databaseUrl).username === new URL(migrationUrl).username
  ) {
    findings.push(
      "DATABASE_MIGRATION_URL names the same role as DATABASE_URL: the API's role may not own tables.",
    );
  }
  for (const name of SECRET_NAMES) {
    const finding = findWeakness(name, values[name]) ?? findTwin(name, values);
    if (finding) findings.push(finding);
  }
  if (!values.ALLOWED_HOSTS) {
    findings.push(
      "ALLOWED_HOSTS is required: the host names the API answers besides the tenants' own, comma separated.",
    );
  }
  if (values.TENANT_BASE_DOMAIN === "localhost") {
    findings.push(
      "TENANT_BASE_DOMAIN is required: the domain whose subdomains are tenants, such as app.example.com.",
    );
  }
  if (values.DEBUG) findings.push("DEBUG must be false in production.");
  return findings;
}

/** A sentence when the secret is missing, short, repetitive or from an example. */
function findWeakness(name: string, secret: string | undefined): string | undefined {
  if (secret === undefined)
    return `${name} is required, at least 32 random bytes: ${HOW_TO_MAKE_A_SECRET}`;
  if (Buffer.byteLength(secret) < 32)
    return `${name} is shorter than 32 bytes: ${HOW_TO_MAKE_A_SECRET}`;
  if (new Set(secret).size < 12 || /^(.+)\1+$/s.test(secret))
    return `${name} repeats itself or few characters: ${HOW_TO_MAKE_A_SECRET}`;
  if (KNOWN_SECRET.test(secret))
    return `${name} contains a word of an example: ${HOW_TO_MAKE_A_SECRET}`;
  return undefined;
}

/** A sentence when an earlier secret has the same value: whoever learns one would have both. */
function findTwin(name: (typeof SECRET_NAMES)[number], values: Values): string | undefined {
  const twin = SECRET_NAMES.slice(0, SECRET_NAMES.indexOf(name)).find(
    (earlier) => values[earlier] === values[name],
  );
  return twin && `${name} is the same as ${twin}: ${HOW_TO_MAKE_A_SECRET}`;
}

function givenSecrets(values: Values): Secrets {
  return {
    SECRET_KEY: values.SECRET_KEY ?? "",
    PASSWORD_PEPPER: values.PASSWORD_PEPPER ?? "",
    ENCRYPTION_KEY: values.ENCRYPTION_KEY ?? "",
  };
}

/** Secrets of a local installation: those given, the rest made once and kept in the data folder. */
function localSecrets(dataDir: string, values: Values): Secrets {
  const file = path.join(dataDir, "secrets.json");
  const made = readSecrets(file) ?? writeSecrets(dataDir, file);
  return {
    SECRET_KEY: values.SECRET_KEY ?? made.SECRET_KEY,
    PASSWORD_PEPPER: values.PASSWORD_PEPPER ?? made.PASSWORD_PEPPER,
    ENCRYPTION_KEY: values.ENCRYPTION_KEY ?? made.ENCRYPTION_KEY,
  };
}

const StoredSecrets = z.object({
  SECRET_KEY: z.string().min(32),
  PASSWORD_PEPPER: z.string().min(32),
  ENCRYPTION_KEY: z.string().min(32),
});

function readSecrets(file: string): Secrets | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  try {
    return StoredSecrets.parse(JSON.parse(text));
  } catch {
    throw new ConfigError([
      `${file} is damaged: restore it, or remove it together with the local database.`,
    ]);
  }
}

/** Two processes may start at once: the first to write decides, the other reads what it wrote. */
function writeSecrets(dataDir: string, file: string): Secrets {
  const secrets: Secrets = {
    SECRET_KEY: randomBytes(48).toString("base64"),
    PASSWORD_PEPPER: randomBytes(48).toString("base64"),
    ENCRYPTION_KEY: randomBytes(48).toString("base64"),
  };
  try {
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(file, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    return secrets;
  } catch (error) {
    const written = readSecrets(file);
    if (written) return written;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([`DATA_DIR (${dataDir}) cannot be written: ${reason}`]);
  }
}
