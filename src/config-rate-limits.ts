import { z } from "zod";
import type { Config, RateLimit, RateLimitScope } from "./config.ts";
import type { Values } from "./config-environment.ts";

const WINDOW_MS = { min: 60_000, hour: 3_600_000, day: 86_400_000 } as const;

/** Every limit that can be set. */
export const RATE_LIMIT_SCOPES: readonly RateLimitScope[] = [
  "anonymous",
  "authenticated",
  "login",
  "otpSend",
  "otpVerify",
  "finalize",
  "refresh",
];

/** `5/min`, `200/day`; `0` turns a limit off. */
export const Rate = z
  .string()
  .regex(/^(0|[1-9][0-9]{0,8}\/(min|hour|day))$/, "must be like 5/min, 3/hour or 200/day, or 0")
  .transform((text) => (text === "0" ? "off" : limitOf(text)));

function limitOf(rate: string): RateLimit {
  const [count, window] = rate.split("/");
  // Of the form above, which has these three.
  return { count: Number(count), windowMs: WINDOW_MS[window as keyof typeof WINDOW_MS] };
}

/** What {@link Rate} reads; undefined for a text that is no limit. */
export function parseRate(text: string): RateLimit | "off" | undefined {
  return Rate.safeParse(text).data;
}

/** Each scope's variable, and its limit in production where that is not set. */
const SCOPES = {
  anonymous: ["RATE_LIMIT_ANONYMOUS", "200/day"],
  authenticated: ["RATE_LIMIT_AUTHENTICATED", "1000/day"],
  login: ["RATE_LIMIT_LOGIN", "5/min"],
  otpSend: ["RATE_LIMIT_OTP_SEND", "3/hour"],
  otpVerify: ["RATE_LIMIT_OTP_VERIFY", "5/hour"],
  finalize: ["RATE_LIMIT_FINALIZE", "3/hour"],
  refresh: ["RATE_LIMIT_REFRESH", "20/min"],
} as const satisfies Record<RateLimitScope, readonly [keyof Values, string]>;

/** Nobody trying the product on one machine is to meet a limit. */
const LOCAL_FACTOR = 100;

/** The limits that are on: those given as they are, else the defaults. */
export function rateLimitsOf(values: Values): Config["rateLimits"] {
  const read = (scope: RateLimitScope): RateLimit | undefined => {
    const [variable, otherwise] = SCOPES[scope];
    const given = values[variable];
    if (given === "off") return undefined;
    if (given) return given;
    const { count, windowMs } = limitOf(otherwise);
    return { count: values.APP_ENV === "local" ? count * LOCAL_FACTOR : count, windowMs };
  };
  return {
    anonymous: read("anonymous"),
    authenticated: read("authenticated"),
    login: read("login"),
    otpSend: read("otpSend"),
    otpVerify: read("otpVerify"),
    finalize: read("finalize"),
    refresh: read("refresh"),
  };
}
