import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runScript } from "../test/process.ts";
import { PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";

let registry: TestRegistry;
let dataDir: string;

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-check-"));
});
afterAll(async () => {
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

async function check(settings: Readonly<Record<string, string>>) {
  const environment = { ...PRODUCTION_SETTINGS, DATA_DIR: dataDir, DATABASE_URL: registry.apiUrl };
  const { exitCode, stdout } = await runScript("check-deploy.ts", ["--json"], {
    ...environment,
    ...settings,
  });
  const { findings, advice } = JSON.parse(stdout) as { findings: string[]; advice: string[] };
  return { exitCode, findings, advice, stdout };
}

describe("npm run check-deploy", () => {
  test("finds nothing in what is fit, and says what many have besides", async () => {
    const { exitCode, findings, advice } = await check({});

    expect(findings).toEqual([]);
    expect(exitCode).toBe(0);
    expect(advice.join("\n")).toMatch(/REDIS_URL[^]*METRICS_TOKEN[^]*TRUSTED_PROXIES/);
  });

  test("tells everything at once, of settings, shapes, database and Redis, and no secret", async () => {
    const weak = "secretsecretsecretsecretsecretsecret";
    const { exitCode, findings, stdout } = await check({
      APP_ENV: "local",
      PORT: "many",
      DEBUG: "true",
      SECRET_KEY: weak,
      PASSWORD_PEPPER: "",
      ALLOWED_HOSTS: "",
      FRONTEND_URL: "http://app.corp.test",
      DATABASE_URL: registry.url,
      REDIS_URL: "redis://:hidden@127.0.0.1:1",
    });

    expect(exitCode).toBe(1);
    const expected = [
      /^APP_ENV is not production/,
      /^PORT: must be a whole number/,
      /^DEBUG must be false/,
      /^SECRET_KEY repeats/,
      /^PASSWORD_PEPPER is required/,
      /^ALLOWED_HOSTS is required/,
      /^FRONTEND_URL is required/,
      /^DATABASE_URL: the role \S+ is a superuser/,
      /^REDIS_URL: Redis does not answer/,
    ];
    for (const pattern of expected) {
      expect(findings.filter((finding) => pattern.test(finding))).toHaveLength(1);
    }
    expect(stdout).not.toContain(weak);
    expect(stdout).not.toContain("hidden");
  });

  test("finds a database that is away, not migrated, or whose tenants are behind", async () => {
    const away = await check({ DATABASE_URL: "postgres://api:hidden@127.0.0.1:1/ouvira" });
    await registry.createTenant("acme");
    await registry.sql`update public.tenant_migrations set version = '1'`;
    const behind = await check({});
    await registry.sql`alter table public.tenant_migrations rename to elsewhere`;
    const unmigrated = await check({});
    await registry.sql`alter table public.elsewhere rename to tenant_migrations`;

    expect(away.findings).toEqual([
      expect.stringMatching(/^DATABASE_URL: the database cannot be reached \(.*ECONNREFUSED/),
    ]);
    expect(away.stdout).not.toContain("hidden");
    expect(behind.findings).toEqual(["Tenants are not of this release: run npm run migrate."]);
    expect(unmigrated.findings).toEqual(["The database is not migrated: run npm run migrate."]);
  });
});
