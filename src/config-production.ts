import type { Values } from "./config-environment.ts";

/** How to make a secret, said wherever one is missing or weak. */
const HOW_TO_MAKE_A_SECRET = `make one with: node -e "console.log(require('crypto').randomBytes(48).toString('base64'))"`;

const SECRETS = ["SECRET_KEY", "PASSWORD_PEPPER", "ENCRYPTION_KEY"] as const;
const OPTIONAL_SECRETS = ["SECRET_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS", "ARCHIVE_KEY"] as const;
type SecretName = (typeof SECRETS)[number] | (typeof OPTIONAL_SECRETS)[number];

/** Shortest secret: what a derived key has. */
const SECRET_BYTES_MIN = 32;

/** Words that stand in secrets people copy from examples. */
const KNOWN_SECRET = /change|secret|example|password|insecure|django|default/i;

/**
 * Cloudflare's keys for trying: they pass or refuse everybody.
 * https://developers.cloudflare.com/turnstile/troubleshooting/testing/
 */
const TURNSTILE_TEST_SECRET = /^[1-3]x0{20,}AA$/;

/** What production needs besides the right shape, one sentence a finding. */
export function findProductionGaps(values: Values, databaseUrl: string | undefined): string[] {
  return [
    ...findDatabaseGaps(values, databaseUrl),
    ...findSecretGaps(values),
    ...findAddressGaps(values),
    ...(TURNSTILE_TEST_SECRET.test(values.TURNSTILE_SECRET_KEY ?? "")
      ? ["TURNSTILE_SECRET_KEY is one of Cloudflare's for trying: it tells nobody from a machine."]
      : []),
    ...(values.DEBUG ? ["DEBUG must be false in production."] : []),
  ];
}

function findDatabaseGaps(values: Values, databaseUrl: string | undefined): string[] {
  if (databaseUrl === undefined) {
    return [
      "DATABASE_URL is required: postgres://role:password@host:5432/database of the API's role.",
    ];
  }
  const migrationUrl = values.DATABASE_MIGRATION_URL;
  if (migrationUrl && new URL(databaseUrl).username === new URL(migrationUrl).username) {
    return [
      "DATABASE_MIGRATION_URL names the same role as DATABASE_URL: the API's role may not own tables.",
    ];
  }
  return [];
}

function findAddressGaps(values: Values): string[] {
  const findings: string[] = [];
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
  if (!values.FRONTEND_URL.startsWith("https://")) {
    findings.push(
      "FRONTEND_URL is required, beginning with https://: the links sent to people lead there.",
    );
  }
  return findings;
}

function findSecretGaps(values: Values): string[] {
  const findings: string[] = [];
  for (const name of SECRETS) {
    const secret = values[name];
    if (secret === undefined) {
      findings.push(
        `${name} is required, at least ${SECRET_BYTES_MIN} random bytes: ${HOW_TO_MAKE_A_SECRET}`,
      );
      continue;
    }
    const weakness = weaknessOf(secret) ?? likenessOf(name, values);
    if (weakness) findings.push(`${name} ${weakness}: ${HOW_TO_MAKE_A_SECRET}`);
  }
  for (const name of OPTIONAL_SECRETS) {
    const secret = values[name];
    if (secret === undefined) continue;
    const weakness = weaknessOf(secret) ?? likenessOf(name, values);
    // Accepted like the secret in use, so whoever has it can do the same.
    if (weakness)
      findings.push(`${name} ${weakness}: set what was in use before, or leave it out.`);
  }
  return findings;
}

/** Whether a secret is short, repetitive or from an example. */
function weaknessOf(secret: string): string | undefined {
  if (Buffer.byteLength(secret) < SECRET_BYTES_MIN) {
    return `is shorter than ${SECRET_BYTES_MIN} bytes`;
  }
  if (new Set(secret).size < 12 || /^(.+)\1+$/s.test(secret)) {
    return "repeats itself or few characters";
  }
  return KNOWN_SECRET.test(secret) ? "contains a word of an example" : undefined;
}

/** Whether a secret named earlier has the same value: whoever learns one would have both. */
function likenessOf(name: SecretName, values: Values): string | undefined {
  const names: readonly SecretName[] = [...SECRETS, ...OPTIONAL_SECRETS];
  const twin = names
    .slice(0, names.indexOf(name))
    .find((earlier) => values[earlier] === values[name]);
  return twin && `is the same as ${twin}`;
}
