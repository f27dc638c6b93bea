import { isIP } from "node:net";
import path from "node:path";
import { Environment, type Values } from "./config-environment.ts";
import { ConfigError } from "./config-error.ts";
import { findGaps } from "./config-findings.ts";
import { findProductionGaps } from "./config-production.ts";
import { rateLimitsOf } from "./config-rate-limits.ts";
import { getLocalSecrets } from "./local-secrets.ts";

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
  /** Straight to the server where `databaseUrl` goes through a pooler: LISTEN needs a connection of its own. */
  readonly databaseListenUrl: string | undefined;
  readonly databaseLanes: number;
  readonly databaseTransactionConnections: number;
  readonly databasePreparedPerLane: number;
  readonly secretKey: string;
  /** What SECRET_KEY was before: accepted, never used for anything new. */
  readonly secretKeyPrevious: string | undefined;
  readonly passwordPepper: string;
  readonly encryptionKey: string;
  /** What ENCRYPTION_KEY was before: opens, never seals. */
  readonly encryptionKeyPrevious: string | undefined;
  /** What archives of tenants are signed and their secrets sealed with; undefined: the encryption key. */
  readonly archiveKey: string | undefined;
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
  /** Where the links sent to people lead; without a slash at the end. */
  readonly frontendUrl: string;
  /** Counts limits for several processes; undefined: each counts its own. */
  readonly redisUrl: string | undefined;
  readonly rateLimits: Readonly<Record<RateLimitScope, RateLimit | undefined>>;
  /** Undefined with APP_ENV=local: messages go to the console. */
  readonly twilio: TwilioConfig | undefined;
  /** Undefined with APP_ENV=local: messages go to the console. */
  readonly smtp: SmtpConfig | undefined;
  /** Undefined: no captcha is asked for. */
  readonly turnstile: TurnstileConfig | undefined;
  /** Requests of one tenant under way in this process at most. */
  readonly tenantConcurrentRequests: number;
  /** How late timers may be before requests are refused; 0: never. */
  readonly eventLoopLagMs: number;
  /** How long a statement takes before the log tells of it; 0: never. */
  readonly slowQueryMs: number;
  /** Where traces are sent (OTLP over HTTP); undefined: nothing is traced. */
  readonly tracesUrl: string | undefined;
  /** What this service is called in traces. */
  readonly serviceName: string;
  /** Opens /metrics in production; undefined there closes it. */
  readonly metricsToken: string | undefined;
  readonly isDocsPublic: boolean;
  readonly logLevel: "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";
}

/** A number of requests in a time, counted in windows that begin with the first request. */
export interface RateLimit {
  readonly count: number;
  readonly windowMs: number;
}

/** What is limited together: one counter for each key of a scope. */
export type RateLimitScope =
  "anonymous" | "authenticated" | "login" | "otpSend" | "otpVerify" | "finalize" | "refresh";

export interface TwilioConfig {
  readonly accountSid: string;
  readonly authToken: string;
  /** A number in E.164 or an alphanumeric sender; or else a messaging service. */
  readonly from: string | undefined;
  readonly messagingServiceSid: string | undefined;
  readonly apiUrl: string;
}

export interface SmtpConfig {
  readonly host: string;
  readonly port: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** `starttls`: refused when the server does not offer it. `tls`: from the first byte. */
  readonly security: "none" | "starttls" | "tls";
  readonly from: string;
}

export interface TurnstileConfig {
  readonly secretKey: string;
  readonly verifyUrl: string;
}

/** bcrypt's cost (2^n rounds): about 60 ms a hash on the reference machine at 10, 230 ms at 12. */
const BCRYPT_COST = { local: 10, production: 12 } as const;

/** The ports of message submission (RFC 8314): STARTTLS, and TLS from the first byte. */
const SUBMISSION_PORT = 587;
const SUBMISSIONS_PORT = 465;

/** What a process is for. Commands send no e-mail and no SMS: they need not know who does. */
export type ConfigPurpose = "serve" | "command";

/**
 * Reads and checks the environment.
 *
 * @throws ConfigError with every finding at once
 */
export function readConfig(
  environment: NodeJS.ProcessEnv,
  purpose: ConfigPurpose = "serve",
): Config {
  const { values, misshapen } = readValues(environment);
  const databaseUrl = values.DATABASE_URL ?? urlFromParts(values);
  const isProduction = values.APP_ENV === "production";
  const gaps = findGaps(values, purpose);
  if (isProduction) gaps.push(...findProductionGaps(values, databaseUrl));
  const findings = [
    ...misshapen.map(({ name, message }) => `${name}: ${message}`),
    // What is there and has the wrong shape is not missing, too.
    ...gaps.filter((gap) => !misshapen.some(({ name }) => new RegExp(`^${name}\\b`).test(gap))),
  ];
  if (findings.length > 0) throw new ConfigError(findings);
  const dataDir = path.resolve(values.DATA_DIR);

  return {
    appEnv: values.APP_ENV,
    debug: values.DEBUG ?? !isProduction,
    host: values.HOST ?? (isProduction ? "0.0.0.0" : "127.0.0.1"),
    port: values.PORT,
    dataDir,
    databaseUrl,
    databaseMigrationUrl: values.DATABASE_MIGRATION_URL ?? databaseUrl,
    databaseListenUrl: values.DATABASE_LISTEN_URL,
    databaseLanes: values.DATABASE_LANES,
    databaseTransactionConnections: values.DATABASE_TRANSACTION_CONNECTIONS,
    databasePreparedPerLane: values.DATABASE_PREPARED_PER_LANE,
    ...secretsOf(values, dataDir),
    secretKeyPrevious: values.SECRET_KEY_PREVIOUS,
    encryptionKeyPrevious: values.ENCRYPTION_KEY_PREVIOUS,
    archiveKey: values.ARCHIVE_KEY,
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
    redisUrl: values.REDIS_URL,
    rateLimits: rateLimitsOf(values),
    twilio: twilioOf(values),
    smtp: smtpOf(values),
    turnstile: turnstileOf(values),
    tenantConcurrentRequests: values.TENANT_CONCURRENT_REQUESTS,
    eventLoopLagMs: values.EVENT_LOOP_LAG_MS,
    slowQueryMs: values.SLOW_QUERY_MS,
    tracesUrl: values.OTEL_EXPORTER_OTLP_ENDPOINT?.replace(/\/+$/, ""),
    serviceName: values.OTEL_SERVICE_NAME,
    metricsToken: values.METRICS_TOKEN,
    isDocsPublic: values.DOCS_PUBLIC,
    logLevel: values.LOG_LEVEL,
  };
}

interface Misshapen {
  readonly name: string;
  readonly message: string;
}

/**
 * The shapes alone; what has a wrong one is left out of the values, so that all else can be judged in the same
 * reading. An empty variable is none: so Compose and CI hand on what was not set.
 */
function readValues(environment: NodeJS.ProcessEnv): {
  values: Values;
  misshapen: readonly Misshapen[];
} {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""),
  );
  if (given["APP_ENV"] === undefined) {
    throw new ConfigError([
      "APP_ENV is not set: set APP_ENV=local to try the product, APP_ENV=production to serve users.",
    ]);
  }
  const parsed = Environment.safeParse(given);
  if (parsed.success) return { values: parsed.data, misshapen: [] };
  const misshapen = parsed.error.issues.map(({ path: names, message }) => ({
    name: names.join("."),
    message,
  }));
  for (const { name } of misshapen) delete given[name];
  const rest = Environment.safeParse(given);
  // Without APP_ENV it is not known what to judge by.
  if (rest.success) return { values: rest.data, misshapen };
  throw new ConfigError(misshapen.map(({ name, message }) => `${name}: ${message}`));
}

/** Those given. Where one is missing, which is a finding in production, a local one is made. */
function secretsOf(
  { SECRET_KEY: secretKey, PASSWORD_PEPPER: passwordPepper, ENCRYPTION_KEY: encryptionKey }: Values,
  dataDir: string,
): Pick<Config, "secretKey" | "passwordPepper" | "encryptionKey"> {
  if (secretKey !== undefined && passwordPepper !== undefined && encryptionKey !== undefined) {
    return { secretKey, passwordPepper, encryptionKey };
  }
  const made = getLocalSecrets(dataDir);
  return {
    secretKey: secretKey ?? made.SECRET_KEY,
    passwordPepper: passwordPepper ?? made.PASSWORD_PEPPER,
    encryptionKey: encryptionKey ?? made.ENCRYPTION_KEY,
  };
}

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

function twilioOf(values: Values): TwilioConfig | undefined {
  if (values.TWILIO_ACCOUNT_SID === undefined || values.TWILIO_AUTH_TOKEN === undefined) {
    return undefined;
  }
  return {
    accountSid: values.TWILIO_ACCOUNT_SID,
    authToken: values.TWILIO_AUTH_TOKEN,
    from: values.TWILIO_PHONE_NUMBER,
    messagingServiceSid: values.TWILIO_MESSAGING_SERVICE_SID,
    apiUrl: values.TWILIO_API_URL.replace(/\/+$/, ""),
  };
}

function smtpOf(values: Values): SmtpConfig | undefined {
  if (values.EMAIL_HOST === undefined || values.DEFAULT_FROM_EMAIL === undefined) return undefined;
  const security = securityOf(values);
  return {
    host: values.EMAIL_HOST,
    port: values.EMAIL_PORT ?? (security === "tls" ? SUBMISSIONS_PORT : SUBMISSION_PORT),
    user: values.EMAIL_HOST_USER,
    password: values.EMAIL_HOST_PASSWORD,
    security,
    from: values.DEFAULT_FROM_EMAIL,
  };
}

/** STARTTLS unless something else is said. */
function securityOf({
  EMAIL_USE_SSL: isTls,
  EMAIL_USE_TLS: isStartTls,
}: Values): SmtpConfig["security"] {
  if (isTls) return "tls";
  return isStartTls === false ? "none" : "starttls";
}

function turnstileOf(values: Values): TurnstileConfig | undefined {
  if (values.TURNSTILE_SECRET_KEY === undefined) return undefined;
  return { secretKey: values.TURNSTILE_SECRET_KEY, verifyUrl: values.TURNSTILE_VERIFY_URL };
}
