import { isIP } from "node:net";
import { z } from "zod";
import { Rate } from "./config-rate-limits.ts";

const DAY_SECONDS = 86_400;

const Flag = z.enum(["true", "false"]).transform((text) => text === "true");
const Whole = (min: number, max: number) => {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.coerce.number({ error }).int(error).min(min, error).max(max, error);
};
const List = z.string().transform((text) =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);
const HostName = z
  .string()
  .refine(
    (text) => isIP(text) !== 0 || /^[a-z0-9._-]+$/i.test(text),
    "must be a host name or an address",
  );
const PostgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, { error: "must begin with postgres://", abort: true })
  .refine((text) => URL.canParse(text), "must be a URL");
const RedisUrl = z
  .string()
  .regex(/^rediss?:\/\//, { error: "must begin with redis:// or rediss://", abort: true })
  .refine((text) => URL.canParse(text), "must be a URL");

/** Something is written behind it, and it is shown to people or in logs: no question, no password. */
const WebUrl = z
  .string()
  .regex(/^https?:\/\/[^\s?#@\\]+$/, {
    error: "must begin with http:// or https://, and have no ?, # or @",
    abort: true,
  })
  .refine((text) => URL.canParse(text), "must be a URL");

/** What is sent in a header or a field, as it is. */
const Token = z.string().regex(/^[\x21-\x7e]+$/, "must have visible ASCII characters only");

/**
 * A number in E.164, a short code, or a name of up to 11 characters with a letter among them.
 * https://www.twilio.com/docs/messaging/api/message-resource
 */
const SmsSender = z
  .string()
  .regex(
    /^(\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.*[a-z])[a-z0-9 &+_-]{1,11})$/i,
    "must be a number such as +15005550006, a short code, or a name of at most 11 letters and digits",
  );

/** One address, with or without a name; nothing that could be read as more recipients or headers. */
const Address = String.raw`[^\s<>@,;:"\\]+@[^\s<>@,;:"\\]+`;
const DisplayName = String.raw`("[^"\\\p{Cc}]*"|[^"\\<>@,;:\p{Cc}]*)`;
const EmailSender = z
  .string()
  .max(320)
  .regex(
    new RegExp(`^(${Address}|${DisplayName} ?<${Address}>)$`, "u"),
    'must be an address such as "Example <noreply@example.com>"',
  );

/** Every variable: its shape and its default. `.env.example` says what each is for. */
export const Environment = z.object({
  APP_ENV: z.enum(["local", "production"]),
  DEBUG: Flag.optional(),
  HOST: z.string().optional(),
  PORT: Whole(0, 65_535).default(8000),
  DATA_DIR: z.string().min(1).default(".data"),
  DATABASE_URL: PostgresUrl.optional(),
  DATABASE_MIGRATION_URL: PostgresUrl.optional(),
  DATABASE_LISTEN_URL: PostgresUrl.optional(),
  POSTGRES_DB: z.string().optional(),
  POSTGRES_USER: z.string().default("postgres"),
  POSTGRES_PASSWORD: z.string().default(""),
  DB_HOST: HostName.default("localhost"),
  DB_PORT: Whole(1, 65_535).default(5432),
  DATABASE_LANES: Whole(1, 64).default(16),
  DATABASE_TRANSACTION_CONNECTIONS: Whole(1, 200).default(8),
  DATABASE_PREPARED_PER_LANE: Whole(0, 100_000).default(1_500),
  SECRET_KEY: z.string().optional(),
  PASSWORD_PEPPER: z.string().optional(),
  ENCRYPTION_KEY: z.string().optional(),
  SECRET_KEY_PREVIOUS: z.string().optional(),
  ENCRYPTION_KEY_PREVIOUS: z.string().optional(),
  ARCHIVE_KEY: z.string().optional(),
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
  REDIS_URL: RedisUrl.optional(),
  RATE_LIMIT_ANONYMOUS: Rate.optional(),
  RATE_LIMIT_AUTHENTICATED: Rate.optional(),
  RATE_LIMIT_LOGIN: Rate.optional(),
  RATE_LIMIT_OTP_SEND: Rate.optional(),
  RATE_LIMIT_OTP_VERIFY: Rate.optional(),
  RATE_LIMIT_FINALIZE: Rate.optional(),
  RATE_LIMIT_REFRESH: Rate.optional(),
  TWILIO_ACCOUNT_SID: z
    .string()
    .regex(/^AC[0-9a-f]{32}$/i, "must be AC and 32 hexadecimal digits")
    .optional(),
  TWILIO_AUTH_TOKEN: Token.optional(),
  TWILIO_PHONE_NUMBER: SmsSender.optional(),
  TWILIO_MESSAGING_SERVICE_SID: z
    .string()
    .regex(/^MG[0-9a-f]{32}$/i, "must be MG and 32 hexadecimal digits")
    .optional(),
  TWILIO_API_URL: WebUrl.default("https://api.twilio.com"),
  EMAIL_HOST: HostName.optional(),
  EMAIL_PORT: Whole(1, 65_535).optional(),
  EMAIL_HOST_USER: z.string().optional(),
  EMAIL_HOST_PASSWORD: z.string().optional(),
  EMAIL_USE_TLS: Flag.optional(),
  EMAIL_USE_SSL: Flag.default(false),
  DEFAULT_FROM_EMAIL: EmailSender.optional(),
  TURNSTILE_SECRET_KEY: Token.optional(),
  TURNSTILE_VERIFY_URL: WebUrl.default("https://challenges.cloudflare.com/turnstile/v0/siteverify"),
  TENANT_CONCURRENT_REQUESTS: Whole(1, 10_000).default(64),
  EVENT_LOOP_LAG_MS: Whole(0, 60_000).default(1_000),
  SLOW_QUERY_MS: Whole(0, 60_000).default(500),
  OTEL_EXPORTER_OTLP_ENDPOINT: WebUrl.optional(),
  OTEL_SERVICE_NAME: z.string().min(1).default("ouvira"),
  METRICS_TOKEN: Token.min(16, "must have at least 16 characters").optional(),
  DOCS_PUBLIC: Flag.default(true),
  LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
});

/** The environment, of the right shape, with defaults. */
export type Values = z.infer<typeof Environment>;

/** The names of every variable that is read. */
export const VARIABLES: readonly string[] = Object.keys(Environment.shape);
