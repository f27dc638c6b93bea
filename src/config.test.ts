import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findingsOf, PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";
import { apiRoleOf } from "./db/roles.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-config-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const local = (variables: Record<string, string> = {}) =>
  readConfig({ APP_ENV: "local", DATA_DIR: dataDir, ...variables });

const production = (variables: Record<string, string | undefined> = {}) =>
  readConfig({ ...PRODUCTION_SETTINGS, DATA_DIR: dataDir, ...variables });

describe("APP_ENV", () => {
  test("has to be set, and the refusal says to what", () => {
    for (const environment of [{}, { APP_ENV: "" }, { APP_ENV: undefined }]) {
      const [finding, ...others] = findingsOf(() => readConfig(environment));
      expect(finding).toMatch(/^APP_ENV is not set: set APP_ENV=local .* APP_ENV=production/);
      expect(others).toEqual([]);
    }
  });

  test("is local or production, nothing else", () => {
    expect(findingsOf(() => readConfig({ APP_ENV: "staging" }))).toEqual([
      expect.stringMatching(/^APP_ENV: .*local.*production/),
    ]);
  });

  test("decides the defaults", () => {
    expect(local()).toMatchObject({
      debug: true,
      host: "127.0.0.1",
      port: 8_000,
      databaseUrl: undefined,
      allowedHosts: undefined,
      corsAllowedOrigins: undefined,
      accessTokenSeconds: 3_600,
      refreshTokenSeconds: 7 * 86_400,
      refreshTokenRememberedSeconds: 30 * 86_400,
    });
    expect(production()).toMatchObject({
      debug: false,
      host: "0.0.0.0",
      allowedHosts: ["api.corp.test"],
      corsAllowedOrigins: [],
    });
  });

  test("local ignores what an empty variable would say", () => {
    expect(local({ PORT: "", DATABASE_URL: "", SECRET_KEY: "" }).port).toBe(8_000);
  });
});

describe("a variable of any environment", () => {
  test.each([
    ["PORT", "8080", "80800"],
    ["PORT", "0", "eighty"],
    ["DEBUG", "false", "no"],
    ["DATABASE_URL", "postgresql://a@b/c", "mysql://a@b/c"],
    ["DATABASE_URL", "postgres://a:p%20w@[::1]:5432/c", "postgres://a:b:c@:d"],
    ["DB_PORT", "6432", "0"],
    ["ACCESS_TOKEN_SECONDS", "60", "5"],
    ["BCRYPT_COST", "12", "31"],
    ["TENANT_BASE_DOMAIN", "corp.test", "https://corp.test"],
    ["FRONTEND_URL", "https://app.corp.test/x", "app.corp.test"],
    ["FRONTEND_URL", "http://[::1]:5173", "http://[::1"],
    ["FRONTEND_URL", "https://app.corp.test/x/", "https://app.corp.test/?x="],
    ["FRONTEND_URL", "https://app.corp.test", "https://app.corp.test#x"],
    ["FRONTEND_URL", "https://app.corp.test", "https://user:pw@app.corp.test"],
    ["FRONTEND_URL", "https://app.corp.test", "https://app.corp.test "],
    ["REDIS_URL", "redis://:pw@cache.corp.test:6379/1", "http://cache.corp.test:6379/1"],
    ["REDIS_URL", "rediss://cache.corp.test", "rediss://cache.corp.test:x"],
    ["TWILIO_API_URL", "https://api.dublin.ie1.twilio.com", "api.dublin.ie1.twilio.com"],
    ["TURNSTILE_VERIFY_URL", "http://127.0.0.1:8080/siteverify", "ftp://127.0.0.1:8080/siteverify"],
    ["TURNSTILE_SECRET_KEY", "0x4AAAAAAA", "0x4AAAAAAA\n"],
    ["METRICS_TOKEN", "0123456789abcdef", "0123456789abcde"],
    ["METRICS_TOKEN", "0123456789abcdef!", "0123456789abcdef "],
    ["METRICS_TOKEN", "0123456789abcdefu", "0123456789abcdefü"],
    ["EMAIL_PORT", "465", "0"],
    ["EMAIL_PORT", "65535", "65536"],
    ["EMAIL_USE_TLS", "false", "0"],
    ["EMAIL_USE_SSL", "true", "yes"],
    ["CORS_ALLOWED_ORIGINS", "https://a.test, https://b.test:8443", "https://a.test/"],
    ["CORS_ALLOWED_ORIGINS", "http://localhost:5173", "*"],
    ["CSRF_TRUSTED_ORIGINS", "https://a.test", "a.test"],
    ["TRUSTED_PROXIES", "10.0.0.0/8,::1,fd00::/8", "nginx"],
    ["TRUSTED_PROXIES", "10.0.0.1/32", "10.0.0.1/33"],
    ["TRUSTED_PROXIES", "fd00::/128", "fd00::/129"],
    ["TRUSTED_PROXIES", "10.0.0.0/8", "10.0.0.0/"],
    ["LOG_LEVEL", "warn", "loud"],
  ])("%s may be %j and not %j", (name, good, bad) => {
    expect(findingsOf(() => local({ [name]: good }))).toEqual([]);

    const refused = findingsOf(() => local({ [name]: bad }));
    expect(refused).toHaveLength(1);
    expect(refused[0]).toContain(name);
  });

  test("every finding is told at once, by name", () => {
    const error = findingsOf(() => local({ PORT: "x", DEBUG: "x" }));

    expect(error.map((line) => line.split(":")[0])).toEqual(["DEBUG", "PORT"]);
  });
});

describe("an optional part", () => {
  test("is off unless it is configured", () => {
    expect(local()).toMatchObject({
      secretKeyPrevious: undefined,
      encryptionKeyPrevious: undefined,
      redisUrl: undefined,
      twilio: undefined,
      smtp: undefined,
      turnstile: undefined,
      metricsToken: undefined,
    });
    expect(production()).toMatchObject({
      secretKeyPrevious: undefined,
      encryptionKeyPrevious: undefined,
      redisUrl: undefined,
      turnstile: undefined,
      metricsToken: undefined,
    });
  });

  test("is as it is given", () => {
    expect(
      local({
        SECRET_KEY_PREVIOUS: "before",
        ENCRYPTION_KEY_PREVIOUS: "before that",
        REDIS_URL: "redis://cache.corp.test",
        TURNSTILE_SECRET_KEY: "0x4AAAAAAA",
        METRICS_TOKEN: "0123456789abcdef",
      }),
    ).toMatchObject({
      secretKeyPrevious: "before",
      encryptionKeyPrevious: "before that",
      redisUrl: "redis://cache.corp.test",
      turnstile: {
        secretKey: "0x4AAAAAAA",
        verifyUrl: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
      },
      metricsToken: "0123456789abcdef",
    });
  });

  test("that is a captcha may be checked elsewhere, and is not asked for by an address alone", () => {
    const TURNSTILE_VERIFY_URL = "http://127.0.0.1:8080/siteverify";

    expect(local({ TURNSTILE_VERIFY_URL, TURNSTILE_SECRET_KEY: "0x4" }).turnstile).toEqual({
      secretKey: "0x4",
      verifyUrl: TURNSTILE_VERIFY_URL,
    });
    expect(local({ TURNSTILE_VERIFY_URL }).turnstile).toBeUndefined();
  });

  test("FRONTEND_URL is kept without slashes at its end", () => {
    expect(local().frontendUrl).toBe("http://localhost:5173");
    expect(local({ FRONTEND_URL: "https://app.corp.test/x//" }).frontendUrl).toBe(
      "https://app.corp.test/x",
    );
  });
});

describe("POSTGRES_*", () => {
  const urlOf = (variables: Record<string, string>) => local(variables).databaseUrl;

  test("name a database as one URL does", () => {
    expect(urlOf({ POSTGRES_DB: "ouvira" })).toBe("postgres://postgres@localhost:5432/ouvira");
    expect(
      urlOf({
        POSTGRES_DB: "ouvira",
        POSTGRES_USER: "api",
        POSTGRES_PASSWORD: "pw",
        DB_HOST: "db.corp.test",
        DB_PORT: "6432",
      }),
    ).toBe("postgres://api:pw@db.corp.test:6432/ouvira");
  });

  test("without POSTGRES_DB name none", () => {
    expect(urlOf({ POSTGRES_USER: "api", DB_HOST: "db" })).toBeUndefined();
  });

  test("DATABASE_URL goes before them", () => {
    expect(urlOf({ POSTGRES_DB: "other", DATABASE_URL: "postgres://a@b/c" })).toBe(
      "postgres://a@b/c",
    );
  });

  test.each(["p@ss:w/rd?#[]", "100%", "%41", "a b", "ü'\"\\"])(
    "the password %j arrives as it is",
    (password) => {
      const url =
        urlOf({ POSTGRES_DB: "ouvira", POSTGRES_USER: password, POSTGRES_PASSWORD: password }) ??
        "";

      expect(apiRoleOf(url)).toEqual({ name: password, password });
    },
  );

  test("a host may be an IPv6 address", () => {
    expect(urlOf({ POSTGRES_DB: "c", DB_HOST: "::1" })).toBe("postgres://postgres@[::1]:5432/c");
  });

  test.each(["a b", "a/b", "a@b", "a:1"])("the host %j is refused by name", (host) => {
    expect(findingsOf(() => local({ POSTGRES_DB: "c", DB_HOST: host }))).toEqual([
      expect.stringMatching(/^DB_HOST/),
    ]);
  });
});
