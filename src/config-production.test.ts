import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findingsOf, PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-config-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const production = (variables: Record<string, string | undefined> = {}) =>
  readConfig({ ...PRODUCTION_SETTINGS, DATA_DIR: dataDir, ...variables });

describe("production", () => {
  test("is satisfied with what it needs", () => {
    expect(findingsOf(() => production())).toEqual([]);
  });

  test.each(Object.keys(PRODUCTION_SETTINGS).filter((name) => name !== "APP_ENV"))(
    "needs %s",
    (name) => {
      const refused = findingsOf(() => production({ [name]: undefined }));

      expect(refused).toHaveLength(1);
      expect(refused[0]).toMatch(new RegExp(`^${name} is required`));
    },
  );

  test("asks a command for no provider, but for everything else", () => {
    const withoutProviders = Object.fromEntries(
      Object.entries(PRODUCTION_SETTINGS).filter(
        ([name]) => !/^(TWILIO|EMAIL|DEFAULT_)/.test(name),
      ),
    );
    const environment = { ...withoutProviders, DATA_DIR: dataDir };

    expect(findingsOf(() => readConfig(environment, "command"))).toEqual([]);
    expect(findingsOf(() => readConfig(environment, "serve"))).not.toEqual([]);
    expect(
      findingsOf(() => readConfig({ ...environment, SECRET_KEY: undefined }, "command")),
    ).toEqual([expect.stringMatching(/^SECRET_KEY is required/)]);
    expect(
      findingsOf(() =>
        readConfig({ ...environment, TWILIO_ACCOUNT_SID: `AC${"0".repeat(32)}` }, "command"),
      ),
    ).not.toEqual([]);
  });

  test.each([
    ["short", "a7Bq0ZpL2mXv9KdT5rWc8YnE3hUgJ4s"],
    ["of a few characters", "abcabcabc".repeat(8)],
    ["from an example", `django-insecure-${randomBytes(24).toString("hex")}`],
    ["asking to be changed", `ChangeMe${randomBytes(24).toString("hex")}`],
    ["a few letters over and over", "abcdefghijklmnop".repeat(4)],
  ])("refuses a secret that is %s, says how to make one and does not repeat it", (_, secret) => {
    for (const name of ["SECRET_KEY", "PASSWORD_PEPPER", "ENCRYPTION_KEY"]) {
      const refused = findingsOf(() => production({ [name]: secret }));
      expect(refused).toHaveLength(1);
      expect(refused[0]).toMatch(new RegExp(`^${name} .*make one with: node -e`));
      expect(refused[0]).not.toContain(secret);
    }
  });

  test("takes a secret of 32 bytes", () => {
    expect(
      findingsOf(() => production({ SECRET_KEY: "a7Bq0ZpL2mXv9KdT5rWc8YnE3hUgJ4sF" })),
    ).toEqual([]);
    expect(
      findingsOf(() => production({ SECRET_KEY: randomBytes(32).toString("base64") })),
    ).toEqual([]);
  });

  test("refuses one secret for two purposes", () => {
    const refused = findingsOf(() =>
      production({ ENCRYPTION_KEY: PRODUCTION_SETTINGS["SECRET_KEY"] }),
    );

    expect(refused).toEqual([expect.stringMatching(/^ENCRYPTION_KEY is the same as SECRET_KEY/)]);
  });

  describe.each(["SECRET_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS", "ARCHIVE_KEY"])("%s", (name) => {
    const good = randomBytes(48).toString("hex");

    test("may be what a secret was before", () => {
      expect(findingsOf(() => production({ [name]: good }))).toEqual([]);
    });

    test.each([
      ["short", good.slice(0, 31)],
      ["of a few characters", "abcabcabc".repeat(8)],
      ["from an example", `ChangeMe${good}`],
    ])("may not be %s, which is not repeated", (_, secret) => {
      const refused = findingsOf(() => production({ [name]: secret }));

      expect(refused).toEqual([expect.stringMatching(new RegExp(`^${name} .*leave it out\\.$`))]);
      expect(refused[0]).not.toContain(secret);
    });

    test.each(["SECRET_KEY", "PASSWORD_PEPPER", "ENCRYPTION_KEY"])(
      "may not be what %s is now",
      (current) => {
        expect(findingsOf(() => production({ [name]: PRODUCTION_SETTINGS[current] }))).toEqual([
          expect.stringMatching(new RegExp(`^${name} is the same as ${current}:`)),
        ]);
      },
    );
  });

  test("refuses one previous secret for two purposes", () => {
    const before = randomBytes(48).toString("hex");
    const other = randomBytes(48).toString("hex");
    const both = (encryption: string) =>
      findingsOf(() =>
        production({ SECRET_KEY_PREVIOUS: before, ENCRYPTION_KEY_PREVIOUS: encryption }),
      );

    expect(both(other)).toEqual([]);
    expect(both(before)).toEqual([
      expect.stringMatching(/^ENCRYPTION_KEY_PREVIOUS is the same as SECRET_KEY_PREVIOUS:/),
    ]);
  });

  test("refuses links that lead to plain HTTP", () => {
    expect(findingsOf(() => production({ FRONTEND_URL: "https://app.corp.test" }))).toEqual([]);
    expect(findingsOf(() => production({ FRONTEND_URL: "http://app.corp.test" }))).toEqual([
      expect.stringMatching(/^FRONTEND_URL is required, beginning with https:\/\//),
    ]);
  });

  test.each(["1", "2", "3"])("refuses Cloudflare's secret for trying, %sx0…AA", (digit) => {
    const secret = (end: string) => `${digit}x0000000000000000000000000000000${end}`;

    expect(findingsOf(() => production({ TURNSTILE_SECRET_KEY: secret("AB") }))).toEqual([]);
    expect(findingsOf(() => production({ TURNSTILE_SECRET_KEY: secret("AA") }))).toEqual([
      expect.stringMatching(/^TURNSTILE_SECRET_KEY is one of Cloudflare's for trying/),
    ]);
  });

  test("refuses DEBUG", () => {
    expect(findingsOf(() => production({ DEBUG: "false" }))).toEqual([]);
    expect(findingsOf(() => production({ DEBUG: "true" }))).toEqual([
      "DEBUG must be false in production.",
    ]);
  });

  test("refuses one role for serving and migrating", () => {
    const url = (role: string) => `postgres://${role}:pw@db.corp.test/ouvira`;

    expect(findingsOf(() => production({ DATABASE_MIGRATION_URL: url("owner") }))).toEqual([]);
    expect(findingsOf(() => production({ DATABASE_MIGRATION_URL: url("api") }))).toEqual([
      expect.stringMatching(/^DATABASE_MIGRATION_URL names the same role/),
    ]);
  });

  test("never makes secrets of its own", () => {
    production();

    expect(() => statSync(path.join(dataDir, "secrets.json"))).toThrow("ENOENT");
  });

  test("host names are compared in lower case", () => {
    expect(production({ ALLOWED_HOSTS: "API.Corp.test, b.test" }).allowedHosts).toEqual([
      "api.corp.test",
      "b.test",
    ]);
    expect(production({ TENANT_BASE_DOMAIN: "Corp.Test" }).tenantBaseDomain).toBe("corp.test");
  });
});
