import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findingsOf, PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-limits-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

const local = (variables: Record<string, string> = {}) =>
  readConfig({ APP_ENV: "local", DATA_DIR: dataDir, ...variables }).rateLimits;
const production = (variables: Record<string, string> = {}) =>
  readConfig({ ...PRODUCTION_SETTINGS, DATA_DIR: dataDir, ...variables }).rateLimits;

/** Scope, variable, and what the contract says of production. */
const LIMITS = [
  ["anonymous", "RATE_LIMIT_ANONYMOUS", 200, DAY_MS],
  ["authenticated", "RATE_LIMIT_AUTHENTICATED", 1_000, DAY_MS],
  ["login", "RATE_LIMIT_LOGIN", 5, MINUTE_MS],
  ["otpSend", "RATE_LIMIT_OTP_SEND", 3, HOUR_MS],
  ["otpVerify", "RATE_LIMIT_OTP_VERIFY", 5, HOUR_MS],
  ["finalize", "RATE_LIMIT_FINALIZE", 3, HOUR_MS],
  ["refresh", "RATE_LIMIT_REFRESH", 20, MINUTE_MS],
] as const;

describe.each(LIMITS)("the limit %s", (scope, variable, count, windowMs) => {
  test("is the contract's in production, and a hundred times that with APP_ENV=local", () => {
    expect(production()[scope]).toEqual({ count, windowMs });
    expect(local()[scope]).toEqual({ count: count * 100, windowMs });
  });

  test("that is given is taken as it is in both", () => {
    for (const limits of [production({ [variable]: "7/hour" }), local({ [variable]: "7/hour" })]) {
      expect(limits[scope]).toEqual({ count: 7, windowMs: HOUR_MS });
    }
  });

  test("that is given leaves the others alone", () => {
    const { [scope]: _given, ...others } = production({ [variable]: "7/hour" });
    const { [scope]: _default, ...defaults } = production();

    expect(others).toEqual(defaults);
  });

  test("is off with 0, and not with an empty variable", () => {
    expect(production({ [variable]: "0" })[scope]).toBeUndefined();
    expect(local({ [variable]: "0" })[scope]).toBeUndefined();
    expect(production({ [variable]: "" })[scope]).toEqual({ count, windowMs });
  });
});

describe("a rate", () => {
  test.each([
    ["5/min", 5, MINUTE_MS],
    ["1/hour", 1, HOUR_MS],
    ["200/day", 200, DAY_MS],
    ["999999999/day", 999_999_999, DAY_MS],
  ])("may be %j", (text, count, windowMs) => {
    expect(local({ RATE_LIMIT_LOGIN: text }).login).toEqual({ count, windowMs });
  });

  test.each([
    "5/week",
    "5/minute",
    "5/MIN",
    "-1/min",
    "+5/min",
    "5 / min",
    " 5/min",
    "5/min ",
    "5/min\n",
    "05/min",
    "0/min",
    "5.5/min",
    "1e3/min",
    "1000000000/day",
    "5",
    "5/",
    "/min",
    "5/min/min",
    "5/60",
    "off",
    "00",
  ])("may not be %j, and the refusal says what it may be", (text) => {
    expect(findingsOf(() => local({ RATE_LIMIT_LOGIN: text }))).toEqual([
      "RATE_LIMIT_LOGIN: must be like 5/min, 3/hour or 200/day, or 0",
    ]);
  });
});
