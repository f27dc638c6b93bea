import type { FastifyInstance } from "fastify";
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { buildApp } from "./app.ts";
import { readConfig } from "./config.ts";
import { closeServices, makeServices } from "./services.ts";

/** Nothing listens there, and nothing asks. */
const NO_DATABASE_URL = "postgres://nobody@127.0.0.1:1/none";

const secret = () => randomBytes(48).toString("hex");

/** What production asks for. Nothing is signed, sealed, sent or asked for. */
const settings = () => ({
  APP_ENV: "production",
  DATABASE_URL: NO_DATABASE_URL,
  // Of this run only.
  SECRET_KEY: secret(),
  PASSWORD_PEPPER: secret(),
  ENCRYPTION_KEY: secret(),
  ALLOWED_HOSTS: "api.example.com",
  TENANT_BASE_DOMAIN: "example.com",
  FRONTEND_URL: "https://app.example.com",
  TWILIO_ACCOUNT_SID: `AC${"0".repeat(32)}`,
  TWILIO_AUTH_TOKEN: secret(),
  TWILIO_PHONE_NUMBER: "+15005550006",
  EMAIL_HOST: "smtp.example.com",
  DEFAULT_FROM_EMAIL: "noreply@example.com",
  // Without it /metrics would not be there.
  METRICS_TOKEN: secret(),
  LOG_LEVEL: "silent",
});

/**
 * The whole service of production as it is before it listens: its services are made and never opened, so it needs no
 * database, settings or data folder. For what looks at routes and runs code, not for answers.
 *
 * @returns the app, not yet ready, and what ends it and its services
 */
export async function buildUnconnectedApp(): Promise<{
  app: FastifyInstance;
  close: () => Promise<void>;
}> {
  const config = readConfig(settings());
  const log = pino({ level: config.logLevel });
  const services = makeServices(config, NO_DATABASE_URL, log, NO_DATABASE_URL);
  const app = await buildApp(services, log);
  const close = async () => {
    await app.close();
    await closeServices(services);
  };
  return { app, close };
}
