import { randomBytes } from "node:crypto";
import { ConfigError } from "../src/config-error.ts";

const secret = () => randomBytes(48).toString("hex");

/** Everything that production needs, and nothing more. Nobody is at the addresses. */
export const PRODUCTION_SETTINGS: Readonly<Record<string, string>> = {
  APP_ENV: "production",
  DATABASE_URL: "postgres://api:pw@db.corp.test/ouvira",
  SECRET_KEY: secret(),
  PASSWORD_PEPPER: secret(),
  ENCRYPTION_KEY: secret(),
  ALLOWED_HOSTS: "api.corp.test",
  TENANT_BASE_DOMAIN: "corp.test",
  FRONTEND_URL: "https://app.corp.test",
  TWILIO_ACCOUNT_SID: `AC${randomBytes(16).toString("hex")}`,
  TWILIO_AUTH_TOKEN: randomBytes(16).toString("hex"),
  TWILIO_PHONE_NUMBER: "+15005550006",
  EMAIL_HOST: "smtp.corp.test",
  DEFAULT_FROM_EMAIL: "Corp <noreply@corp.test>",
};

/** What a refused configuration is told; nothing when it is taken. */
export function findingsOf(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigError) return error.findings;
    throw error;
  }
  return [];
}
