import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError, readConfig } from "./config.ts";
import { apiRoleOf } from "./db/roles.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-config-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const local = (variables: Record<string, string> = {}) =>
  readConfig({ APP_ENV: "local", DATA_DIR: dataDir, ...variables });

/** Everything that production needs, and nothing more. */
const PRODUCTION: Readonly<Record<string, string>> = {
  APP_ENV: "production",
  DATABASE_URL: "postgres://api:pw@db.corp.test/ouvira",
  SECRET_KEY: randomBytes(48).toString("hex"),
  PASSWORD_PEPPER: randomBytes(48).toString("hex"),
  ENCRYPTION_KEY: randomBytes(48).toString("hex"),
  ALLOWED_HOSTS: "api.corp.test",
  TENANT_BASE_DOMAIN: "corp.test",
};

const production = (variables: Record<string, string | undefined> = {}) =>
  readConfig({ ...PRODUCTION, DATA_DIR: dataDir, ...variables });

/** What the refusal says. */
function findings(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigError) return error.findings;
    throw error;
  }
  return [];
}

describe("APP_ENV", () => {
  test("has to be set, and the refusal says to what", () => {
    for (const environment of [{}, { APP_ENV: "" }, { APP_ENV: undefined }]) {
      const [finding, ...others] = findings(() => readConfig(environment));
      expect(finding).toMatch(/^APP_ENV is not set: set APP_ENV=local .* APP_ENV=production/);
      expect(others).toEqual([]);
    }
  });

  test("is local or production, nothing else", () => {
    expect(findings(() => readConfig({ APP_ENV: "staging" }))).toEqual([
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
    ["CORS_ALLOWED_ORIGINS", "https://a.test, https://b.test:8443", "https://a.test/"],
    ["CORS_ALLOWED_ORIGINS", "http://localhost:5173", "*"],
    ["CSRF_TRUSTED_ORIGINS", "https://a.test", "a.test"],
    ["TRUSTED_PROXIES", "10.0.0.0/8,::1,fd00::/8", "nginx"],
    ["TRUSTED_PROXIES", "10.0.0.1/32", "10.0.0.1/33"],
    ["TRUSTED_PROXIES", "fd00::/128", "fd00::/129"],
    ["TRUSTED_PROXIES", "10.0.0.0/8", "10.0.0.0/"],
    ["LOG_LEVEL", "warn", "loud"],
  ])("%s may be %j and not %j", (name, good, bad) => {
    expect(findings(() => local({ [name]: good }))).toEqual([]);

    const refused = findings(() => local({ [name]: bad }));
    expect(refused).toHaveLength(1);
    expect(refused[0]).toContain(name);
  });

  test("every finding is told at once, by name", () => {
    const error = findings(() => local({ PORT: "x", DEBUG: "x" }));

    expect(error.map((line) => line.split(":")[0])).toEqual(["DEBUG", "PORT"]);
  });
});

describe("production", () => {
  test("is satisfied with what it needs", () => {
    expect(findings(() => production())).toEqual([]);
  });

  test.each(Object.keys(PRODUCTION).filter((name) => name !== "APP_ENV"))("needs %s", (name) => {
    const refused = findings(() => production({ [name]: undefined }));

    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatch(new RegExp(`^${name} is required`));
  });

  test.each([
    ["short", "a7Bq0ZpL2mXv9KdT5rWc8YnE3hUgJ4s"],
    ["of a few characters", "abcabcabc".repeat(8)],
    ["from an example", `django-insecure-${randomBytes(24).toString("hex")}`],
    ["asking to be changed", `ChangeMe${randomBytes(24).toString("hex")}`],
    ["a few letters over and over", "abcdefghijklmnop".repeat(4)],
  ])("refuses a secret that is %s, says how to make one and does not repeat it", (_, secret) => {
    for (const name of ["SECRET_KEY", "PASSWORD_PEPPER", "ENCRYPTION_KEY"]) {
      const refused = findings(() => production({ [name]: secret }));
      expect(refused).toHaveLength(1);
      expect(refused[0]).toMatch(new RegExp(`^${name} .*make one with: node -e`));
      expect(refused[0]).not.toContain(secret);
    }
  });

  test("takes a secret of 32 bytes", () => {
    expect(findings(() => production({ SECRET_KEY: "a7Bq0ZpL2mXv9KdT5rWc8YnE3hUgJ4sF" }))).toEqual(
      [],
    );
    expect(findings(() => production({ SECRET_KEY: randomBytes(32).toString("base64") }))).toEqual(
      [],
    );
  });

  test("refuses one secret for two purposes", () => {
    const refused = findings(() => production({ ENCRYPTION_KEY: PRODUCTION["SECRET_KEY"] }));

    expect(refused).toEqual([expect.stringMatching(/^ENCRYPTION_KEY is the same as SECRET_KEY/)]);
  });

  test("refuses DEBUG", () => {
    expect(findings(() => production({ DEBUG: "false" }))).toEqual([]);
    expect(findings(() => production({ DEBUG: "true" }))).toEqual([
      "DEBUG must be false in production.",
    ]);
  });

  test("refuses one role for serving and migrating", () => {
    const url = (role: string) => `postgres://${role}:pw@db.corp.test/ouvira`;

    expect(findings(() => production({ DATABASE_MIGRATION_URL: url("owner") }))).toEqual([]);
    expect(findings(() => production({ DATABASE_MIGRATION_URL: url("api") }))).toEqual([
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

describe("local secrets", () => {
  const file = () => path.join(dataDir, "secrets.json");
  const secretsOf = ({ secretKey, passwordPepper, encryptionKey }: ReturnType<typeof local>) => [
    secretKey,
    passwordPepper,
    encryptionKey,
  ];

  test("are made once, for nobody else to read, and are the same the next time", () => {
    const made = secretsOf(local());

    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(new Set(made).size).toBe(3);
    for (const secret of made) expect(Buffer.from(secret, "base64")).toHaveLength(48);
    expect(secretsOf(local())).toEqual(made);
  });

  test("are others in another folder", () => {
    expect(secretsOf(local({ DATA_DIR: path.join(dataDir, "other") }))).not.toEqual(
      secretsOf(local()),
    );
  });

  test("a variable replaces one and leaves the file alone", () => {
    const made = local();
    const before = readFileSync(file(), "utf8");

    const given = local({ SECRET_KEY: "given" });

    expect(given).toMatchObject({ secretKey: "given", encryptionKey: made.encryptionKey });
    expect(readFileSync(file(), "utf8")).toBe(before);
  });

  test.each([
    ["no JSON", "{"],
    ["without a secret", "{}"],
    ["empty", ""],
    ["of short secrets", '{"SECRET_KEY":"a","PASSWORD_PEPPER":"b","ENCRYPTION_KEY":"c"}'],
  ])("a damaged file is not written over: %s", (_, text) => {
    writeFileSync(file(), text);

    expect(findings(() => local())).toEqual([expect.stringContaining(`${file()} is damaged`)]);
    expect(readFileSync(file(), "utf8")).toBe(text);
  });

  test("a folder that cannot be made is named", () => {
    writeFileSync(path.join(dataDir, "plain"), "");

    expect(findings(() => local({ DATA_DIR: path.join(dataDir, "plain") }))).toEqual([
      expect.stringMatching(/^DATA_DIR .*plain/),
    ]);
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
    expect(findings(() => local({ POSTGRES_DB: "c", DB_HOST: host }))).toEqual([
      expect.stringMatching(/^DB_HOST/),
    ]);
  });
});
