import { isIP } from "node:net";
import type { ConfigPurpose } from "./config.ts";
import type { Values } from "./config-environment.ts";

/** What is wrong in any environment that has the right shape, one sentence a finding. */
export function findGaps(values: Values, purpose: ConfigPurpose): string[] {
  return [
    ...findOrigins("CORS_ALLOWED_ORIGINS", values.CORS_ALLOWED_ORIGINS ?? []),
    ...findOrigins("CSRF_TRUSTED_ORIGINS", values.CSRF_TRUSTED_ORIGINS),
    ...findProxies(values.TRUSTED_PROXIES),
    ...findSmsGaps(values, purpose),
    ...findMailGaps(values, purpose),
  ];
}

const ORIGIN = /^https?:\/\/[^/]+$/;

function findOrigins(name: string, origins: readonly string[]): string[] {
  return origins
    .filter((origin) => !ORIGIN.test(origin))
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

/** A server in production needs a whole provider; half of one is a mistake wherever it is made. */
function findSmsGaps(values: Values, purpose: ConfigPurpose): string[] {
  const account = values.TWILIO_ACCOUNT_SID;
  const token = values.TWILIO_AUTH_TOKEN;
  const sender = values.TWILIO_PHONE_NUMBER ?? values.TWILIO_MESSAGING_SERVICE_SID;
  if (!isProviderWanted(values, purpose, account, token, sender)) return [];
  const why = `SMS are sent by Twilio${wayOut(values, "TWILIO_*")}.`;
  const findings: string[] = [];
  if (account === undefined) findings.push(`TWILIO_ACCOUNT_SID is required: ${why}`);
  if (token === undefined) findings.push(`TWILIO_AUTH_TOKEN is required: ${why}`);
  if (sender === undefined) {
    findings.push(`TWILIO_PHONE_NUMBER is required, or TWILIO_MESSAGING_SERVICE_SID: ${why}`);
  }
  return findings;
}

function findMailGaps(values: Values, purpose: ConfigPurpose): string[] {
  const { EMAIL_HOST: host, EMAIL_HOST_USER: user, EMAIL_HOST_PASSWORD: password } = values;
  const sender = values.DEFAULT_FROM_EMAIL;
  const findings: string[] = [];
  if (isProviderWanted(values, purpose, host, user, password, sender)) {
    const why = `e-mails are sent by SMTP${wayOut(values, "EMAIL_HOST* and DEFAULT_FROM_EMAIL")}.`;
    if (host === undefined) findings.push(`EMAIL_HOST is required: ${why}`);
    if (sender === undefined) findings.push(`DEFAULT_FROM_EMAIL is required: ${why}`);
  }
  if ((user === undefined) !== (password === undefined)) {
    findings.push("EMAIL_HOST_USER and EMAIL_HOST_PASSWORD belong together: set both or none.");
  }
  if (values.EMAIL_USE_TLS && values.EMAIL_USE_SSL) {
    findings.push("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: set one of them to true.");
  }
  return findings;
}

function isProviderWanted(
  { APP_ENV }: Values,
  purpose: ConfigPurpose,
  ...parts: readonly (string | undefined)[]
): boolean {
  return (
    (APP_ENV === "production" && purpose === "serve") || parts.some((part) => part !== undefined)
  );
}

/** How somebody who only tries the product needs no provider. */
function wayOut({ APP_ENV }: Values, names: string): string {
  return APP_ENV === "local" ? `, or to the console where all of ${names} are left out` : "";
}
