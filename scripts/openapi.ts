/**
 * `npm run openapi`: writes the OpenAPI document of the routes, as JSON and as YAML, to the root of the
 * repository. Needs no database, settings or data folder. The document is that of production: the routes
 * of APP_ENV=local alone (`/dev/outbox/`) are not in it.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { pino } from "pino";
import { stringify } from "yaml";
import { buildApp } from "../src/app.ts";
import { readConfig } from "../src/config.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { closeServices, makeServices } from "../src/services.ts";

const HELP = `npm run openapi -- [--check] [--out <folder>]

Writes openapi.json and openapi.yaml, to the root of the repository unless --out names a folder.
With --check nothing is written: exit 1 when a file is not what would be.`;

/** Nothing listens there, and nothing asks: routes are only described. */
const NO_DATABASE_URL = "postgres://nobody@127.0.0.1:1/none";

const secret = () => randomBytes(48).toString("hex");

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      help: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      out: { type: "string", default: ROOT_DIR },
    },
  });
  if (options.help) {
    console.log(HELP);
    return;
  }
  const document = await describe();
  const files = {
    "openapi.json": `${JSON.stringify(document, null, 2)}\n`,
    "openapi.yaml": stringify(document),
  };
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(path.resolve(options.out), name);
    if (!options.check) {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, text);
      console.log(`Wrote ${file}`);
    } else if ((await readFile(file, "utf8").catch(() => undefined)) !== text) {
      console.error(`${file} is not up to date: run npm run openapi`);
      process.exitCode = 1;
    }
  }
}

/** What production asks for. Nothing is signed, sealed, sent or asked for: routes are only described. */
const SETTINGS = {
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
  // Without it /metrics would not be there to describe.
  METRICS_TOKEN: secret(),
  LOG_LEVEL: "silent",
};

/** The document of an app whose services are made and never opened. */
async function describe(): Promise<object> {
  const config = readConfig(SETTINGS);
  const log = pino({ level: config.logLevel });
  const services = makeServices(config, NO_DATABASE_URL, log, NO_DATABASE_URL);
  const app = await buildApp(services, log);
  try {
    await app.ready();
    return app.swagger();
  } finally {
    await app.close();
    await closeServices(services);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
