import { spawnSync } from "node:child_process";
import { readFile, stat, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import {
  newSubdomain,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { archiveFolder, archivesOf, asTestTenant, fillTenant } from "../../test/archives.ts";
import { seal, verify, writeEntries } from "../../test/logs.ts";
import {
  nextStep,
  type ProtectedUser,
  secondFactorCalls,
  tokensIn,
  totpCode,
} from "../../test/second-factor.ts";
import { withAdmin } from "../db/admin.ts";
import { loadTenantMigrations } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import { SEALED_COLUMNS } from "./archive-rows.ts";
import { LEFT_BEHIND } from "./archive-tables.ts";
import { type DriftReport, findDrift } from "./drift.ts";

let app: TestApp;
let tenant: TestTenant;
let user: ProtectedUser;
let folder: Awaited<ReturnType<typeof archiveFolder>>;
let archive: string;
const restored: TestTenant[] = [];

beforeAll(async () => {
  app = await startTestApp();
  folder = await archiveFolder();
  tenant = await app.createTenant();
  user = await fillTenant(app, tenant);
  await writeEntries(tenant, 3);
  await seal(app, tenant);
  archive = folder.file("tenant.zip");
  await archivesOf(app).export(tenant.subdomain, archive);
});
afterAll(async () => {
  vi.restoreAllMocks();
  await Promise.all(restored.map(({ sql }) => sql.end()));
  await folder.remove();
  await app.close();
});

async function restore(options: Parameters<ReturnType<typeof archivesOf>["import"]>[1] = {}) {
  const imported = await archivesOf(app).import(archive, { subdomain: newSubdomain(), ...options });
  const copy = asTestTenant(app, imported);
  restored.push(copy);
  return { ...imported, tenant: copy };
}

/** Everything that a refused import could have left. */
async function traces(): Promise<unknown> {
  const [row] = await app.registry`
    select (select jsonb_agg(t order by t.id) from public.tenants t) as tenants,
           (select count(*) from public.tenant_migrations) as ledger,
           (select jsonb_agg(nspname order by nspname) from pg_namespace where nspname like 't!_%' escape '!') as schemas`;
  return row;
}

describe("exportTenant", () => {
  test("names every table of the schema, or says why it stays behind", async () => {
    const manifest = await archivesOf(app).export(tenant.subdomain, folder.file("all.zip"));
    const tables = await tenant.sql<{ name: string }[]>`
      select tablename as name from pg_tables where schemaname = ${`t_${tenant.id}`} order by 1`;

    const known = [...manifest.tables.map(({ name }) => name), ...Object.keys(LEFT_BEHIND)];
    expect(known.sort()).toEqual(tables.map(({ name }) => name));
    for (const { name, rows } of manifest.tables) {
      const [count] = await tenant.sql.unsafe(`select count(*)::int as count from ${name}`);
      expect([name, rows]).toEqual([name, count?.["count"]]);
    }
    expect(manifest.logs).toEqual([
      {
        log: "activity",
        seals: expect.any(Number),
        digest: expect.stringMatching(/^[0-9a-f]{64}$/),
        is_intact: true,
      },
      {
        log: "security",
        seals: expect.any(Number),
        digest: expect.stringMatching(/^[0-9a-f]{64}$/),
        is_intact: true,
      },
    ]);
  });

  test("knows every column that is encrypted for its tenant", async () => {
    const columns = await tenant.sql<{ name: string }[]>`
      select table_name || '.' || column_name as name from information_schema.columns
       where table_schema = ${`t_${tenant.id}`} and column_name like '%sealed%'
         and table_name <> all(${Object.keys(LEFT_BEHIND)})
       order by 1`;

    const known = Object.entries(SEALED_COLUMNS).map(([name, { column }]) => `${name}.${column}`);
    expect(columns.map(({ name }) => name)).toEqual(known.sort());
  });

  test("makes a file for its owner alone, and no other", async () => {
    expect((await stat(archive)).mode & 0o777).toBe(0o600);
    await expect(stat(`${archive}.${process.pid}.partial`)).rejects.toThrow("ENOENT");
  });

  test("does not overwrite a file", async () => {
    const file = folder.file("taken.zip");
    await writeFile(file, "something else");

    const exporting = archivesOf(app).export(tenant.subdomain, file);

    await expect(exporting).rejects.toMatchObject({ code: "conflict" });
    expect(await readFile(file, "utf8")).toBe("something else");
  });

  test("says that a log was changed, and takes it along as it is", async () => {
    const changed = await app.createTenant();
    await app.signUp(changed);
    await seal(app, changed);
    await changed.sql`update security_logs set action = 'LOGIN_FAILED' where id = 1`;

    const { logs } = await archivesOf(app).export(changed.subdomain, folder.file("changed.zip"));

    expect(logs.map(({ log, is_intact: isIntact }) => [log, isIntact])).toEqual([
      ["activity", true],
      ["security", false],
    ]);
  });

  test("of no tenant: says so and leaves no file", async () => {
    const file = folder.file("nobody.zip");

    const exporting = archivesOf(app).export("nobody-here", file);

    await expect(exporting).rejects.toMatchObject({ code: "tenant_not_found" });
    await expect(stat(file)).rejects.toThrow("ENOENT");
  });

  test("has neither a secret of an authenticator app nor a code in clear", async () => {
    const bytes = await readFile(archive);
    const { stdout } = spawnSync(process.execPath, ["-e", UNZIP, archive], { encoding: "latin1" });

    expect(stdout).toContain(user.user.username);
    for (const text of [bytes.toString("latin1"), stdout]) {
      expect(text).not.toContain(user.secret);
      expect(text).not.toContain(Buffer.from(user.secret).toString("hex"));
    }
  });
});

/** Prints everything that a ZIP file holds. */
const UNZIP = `
  const yauzl = require("yauzl");
  yauzl.openPromise(process.argv[1], { lazyEntries: true, autoClose: false }).then(async (zip) => {
    for await (const entry of zip.eachEntry()) {
      for await (const chunk of await zip.openReadStreamPromise(entry)) process.stdout.write(chunk);
    }
    zip.close();
  });`;

describe("importTenant", () => {
  afterEach(() => nextStep());

  test("makes a tenant whose archive is the same, digest by digest", async () => {
    const first = await archivesOf(app).export(tenant.subdomain, folder.file("first.zip"));
    const copy = await restore();
    const second = await archivesOf(app).export(copy.subdomain, folder.file("second.zip"));

    expect(copy.id).toBeGreaterThan(tenant.id);
    expect(second.tables).toEqual(first.tables);
    expect(second.sequences).toEqual(first.sequences);
    expect(second.tables.filter(({ rows }) => rows > 0).length).toBeGreaterThan(10);
    const reports: DriftReport[] = [];
    const migrations = await loadTenantMigrations();
    await withAdmin(app.ownerUrl, (admin) =>
      findDrift(admin, migrations, copy.subdomain, (report) => reports.push(report)),
    );
    expect(reports).toMatchObject([{ differences: [] }]);
  });

  test("lets people log in with their password and their authenticator app, and nobody with a token of before", async () => {
    const copy = await restore();
    const calls = secondFactorCalls(app, copy.tenant);

    const before = await app
      .client(copy.tenant)
      .get("/api/account/profile/", { token: user.access });
    const refreshed = await app
      .client(copy.tenant)
      .post("/api/auth/token/refresh/", { refresh: user.refresh });
    const sessionId = await calls.challenge(user);
    const loggedIn = await calls.verify(sessionId, totpCode(user.secret));

    expect(before).toMatchObject({ status: 401, body: { code: "token_tenant_mismatch" } });
    expect(refreshed).toMatchObject({ status: 401, body: { code: "token_revoked" } });
    expect(loggedIn.status).toBe(200);
    const profile = await app
      .client(copy.tenant)
      .get("/api/account/profile/", { token: tokensIn(loggedIn).access });
    expect(profile).toMatchObject({ status: 200, body: { username: user.user.username } });
  });

  test("keeps ids of rows that are gone from coming back", async () => {
    const { tenant: copy } = await restore();

    const [row] = await copy.sql<{ id: number }[]>`
      insert into notifications (user_id, message) values (${user.user.id}, 'new') returning id`;
    const [newest] = await tenant.sql<{ last: number }[]>`
      select last_value as last from notifications_id_seq`;

    expect(row?.id).toBe((newest?.last ?? 0) + 1);
    await copy.sql`delete from notifications where id = ${row?.id ?? 0}`;
  });

  test("its logs are sealed anew and found intact; what they were sealed with before is noted", async () => {
    const { tenant: copy, id } = await restore();

    await seal(app, copy);

    const reports = [await verify(app, copy, "activity"), await verify(app, copy, "security")];
    expect(reports.map(({ findings }) => findings)).toEqual([[], []]);
    expect(reports[1]?.checked_entries).toBeGreaterThan(0);
    const [row] = await app.registry`select origin from public.tenants where id = ${id}`;
    expect(row?.["origin"]).toMatchObject({
      tenant_id: tenant.id,
      subdomain: tenant.subdomain,
      logs: [{ log: "activity" }, { log: "security", is_intact: true }],
    });
  });

  test("is all or nothing: a taken subdomain", async () => {
    const before = await traces();

    const importing = archivesOf(app).import(archive, { subdomain: tenant.subdomain });

    await expect(importing).rejects.toMatchObject({ code: "conflict" });
    expect(await traces()).toEqual(before);
  });

  test.each([
    ["a subdomain that is reserved", { subdomain: "admin" }, "validation_error"],
    ["a subdomain that is none", { subdomain: "a b" }, "validation_error"],
  ])("refuses %s", async (_, options, code) => {
    const before = await traces();

    await expect(archivesOf(app).import(archive, options)).rejects.toMatchObject({ code });
    expect(await traces()).toEqual(before);
  });

  test("takes verified domains along when told to, and none that another tenant holds", async () => {
    const owner = await app.createTenant();
    await app.registry`
      insert into public.tenant_domains (tenant_id, domain, is_primary, verified_at)
      values (${owner.id}, 'app.moved.test', true, now()), (${owner.id}, 'old.moved.test', false, null)`;
    const file = folder.file("domains.zip");
    await archivesOf(app).export(owner.subdomain, file);
    const before = await traces();

    const taken = archivesOf(app).import(file, { subdomain: newSubdomain(), withDomains: true });
    await expect(taken).rejects.toMatchObject({ code: "conflict" });
    const afterRefusal = await traces();
    await app.registry`delete from public.tenant_domains where tenant_id = ${owner.id}`;
    const { id } = await archivesOf(app).import(file, {
      subdomain: newSubdomain(),
      withDomains: true,
    });

    expect(afterRefusal).toEqual(before);
    const domains = await app.registry`
      select domain, is_primary, verified_at is not null as verified
        from public.tenant_domains where tenant_id = ${id}`;
    expect([...domains]).toEqual([{ domain: "app.moved.test", is_primary: true, verified: true }]);
  });

  test("an archive of an older release is brought up to date", async () => {
    const migrations = await loadTenantMigrations();
    const added = {
      name: "1999999999990_add-notes",
      up: "create table notes (id bigint generated always as identity primary key); alter table users add column note text default 'none'",
      down: "alter table users drop column note; drop table notes",
    };

    const copy = await archivesOf(app).import(archive, { subdomain: newSubdomain() }, [
      ...migrations,
      added,
    ]);

    expect(copy.version).toBe(added.name);
    const look = asTestTenant(app, copy);
    restored.push(look);
    const [row] = await look.sql`select count(*)::int as users, min(note) as note from users`;
    const [before] = await tenant.sql`select count(*)::int as users from users`;
    expect(row).toEqual({ users: before?.["users"], note: "none" });
  });
});

/** Why an archive is refused, or whether what it makes is the same as the tenant. */
async function outcomeOf(file: string, again: string): Promise<string> {
  try {
    const copy = await archivesOf(app).import(file, { subdomain: newSubdomain() });
    const { tables } = await archivesOf(app).export(copy.subdomain, again);
    const original = await archivesOf(app).export(tenant.subdomain, `${again}.original`);
    await app.registry.unsafe(
      `drop schema t_${copy.id} cascade; delete from public.tenants where id = ${copy.id}`,
    );
    return JSON.stringify(tables) === JSON.stringify(original.tables) ? "the same" : "another";
  } catch (error) {
    return error instanceof AppError ? error.code : String(error);
  }
}

describe("an archive that is not taken", () => {
  async function expectRefusal(file: string, sentence: string, replica: TestApp = app) {
    const before = await traces();
    const importing = archivesOf(replica).import(file, { subdomain: newSubdomain() });
    await expect(importing).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(sentence),
    });
    expect(await traces()).toEqual(before);
  }

  test("a file that is no archive, an empty one, a cut one", async () => {
    const bytes = await readFile(archive);
    const files: [string, Buffer][] = [
      ["text.zip", Buffer.from("not an archive")],
      ["empty.zip", Buffer.alloc(0)],
      ["cut.zip", bytes.subarray(0, bytes.length - 30)],
    ];
    for (const [name, content] of files) {
      await writeFile(folder.file(name), content);
      await expectRefusal(folder.file(name), "is not an archive of a tenant");
    }
    expect(files).toHaveLength(3);
  });

  test("there is no such file", async () => {
    await expect(archivesOf(app).import(folder.file("missing.zip"))).rejects.toMatchObject({
      code: "not_found",
    });
  });

  test("one byte changed anywhere: refused, or as good as it was", async () => {
    const bytes = await readFile(archive);
    const before = await traces();
    const outcomes: string[] = [];
    for (let round = 0; round < 40; round += 1) {
      const at = Math.floor((bytes.length * round) / 40) + 7;
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x55;
      const file = folder.file(`changed-${round}.zip`);
      await writeFile(file, changed);
      outcomes.push(await outcomeOf(file, folder.file(`again-${round}.zip`)));
    }

    // A byte that says nothing of the content, a time of day say, changes nothing.
    expect([...new Set(outcomes)].sort()).toEqual(["conflict", "the same"]);
    expect(outcomes.filter((outcome) => outcome === "conflict").length).toBeGreaterThan(20);
    expect(await traces()).toEqual(before);
  });

  test("another installation's, until ARCHIVE_KEY is the one it was made with", async () => {
    const encryptionKey = randomBytes(32).toString("base64");
    const other = await app.startReplica({ config: { encryptionKey } });
    const informed = await app.startReplica({
      config: { encryptionKey, archiveKey: app.config.encryptionKey },
    });

    await expectRefusal(archive, "made by another installation", other);
    const copy = await archivesOf(informed).import(archive, { subdomain: newSubdomain() });

    // Encrypted with the key of where it is now: who knows the old one alone reads nothing.
    const look = asTestTenant(app, copy);
    restored.push(look);
    const [row] = await look.sql<{ sealed_secret: Buffer }[]>`
      select sealed_secret from second_factors where method = 'totp'`;
    expect(informed.services.keys.canOpen(row?.sealed_secret ?? Buffer.of())).toBe(true);
    expect(app.services.keys.canOpen(row?.sealed_secret ?? Buffer.of())).toBe(false);
  });

  test("another PASSWORD_PEPPER: refused, or everybody sets a new password", async () => {
    const other = await app.startReplica({
      config: { passwordPepper: "another pepper ".repeat(4) },
    });

    await expectRefusal(archive, "another PASSWORD_PEPPER", other);
    const copy = await archivesOf(other).import(archive, {
      subdomain: newSubdomain(),
      resetsPasswords: true,
    });

    const look = asTestTenant(app, copy);
    restored.push(look);
    const [row] = await look.sql`
      select count(*)::int as users, count(password_hash)::int as hashes,
             (select count(*)::int from password_history) as earlier from users`;
    expect(row).toMatchObject({ hashes: 0, earlier: 0 });
    expect(row?.["users"]).toBeGreaterThan(1);
    const login = await app.client(look).post("/api/auth/login/", {
      identifier: user.user.username,
      password: PASSWORD,
    });
    expect(login).toMatchObject({ status: 401, body: { code: "invalid_credentials" } });
  });

  test("a newer release's", async () => {
    const migrations = await loadTenantMigrations();
    const before = await traces();

    const importing = archivesOf(app).import(
      archive,
      { subdomain: newSubdomain() },
      migrations.slice(0, -1),
    );

    await expect(importing).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("made by a newer release"),
    });
    expect(await traces()).toEqual(before);
  });
});
