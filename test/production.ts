import type { Config, SmtpConfig } from "../src/config.ts";
import type { CallOptions } from "./app.ts";

const PROXY = "10.0.0.1";

/** What an app needs to run as in production, where messages go to real providers, in front of a test. */
export function productionConfig(twilioUrl: string, smtpPort?: number): Partial<Config> {
  return {
    ...(smtpPort === undefined ? {} : { smtp: smtpConfig(smtpPort) }),
    appEnv: "production",
    debug: false,
    tenantBaseDomain: "ouvira.test",
    allowedHosts: ["api.corp.test"],
    trustedProxies: [PROXY],
    twilio: {
      accountSid: `AC${"1".repeat(32)}`,
      authToken: "token of a test",
      from: "+15005550006",
      messagingServiceSid: undefined,
      apiUrl: twilioUrl,
    },
  };
}

function smtpConfig(port: number): SmtpConfig {
  return {
    host: "127.0.0.1",
    port,
    user: undefined,
    password: undefined,
    security: "none",
    from: "Example <noreply@example.test>",
  };
}

/** A call through the proxy and TLS, as production insists on. */
export const THROUGH_PROXY: CallOptions = {
  remoteAddress: PROXY,
  headers: {
    host: "api.corp.test",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
  },
};
