import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { archiveFolder, archivesOf } from "../../test/archives.ts";
import { adminUrl, createDatabase, type TestDatabase } from "../../test/cluster.ts";
import { readConfig } from "../config.ts";
import { AdminConnection, withAdmin } from "../db/admin.ts";
import { migrateRegistry } from "../db/registry-migrations.ts";
import { apiRoleOf } from "../db/roles.ts";
import { loadTenantMigrations, type TenantMigration } from "../db/tenant-migrations.ts";
import { createOperator } from "../platform/operators.ts";
import { type DriftReport, findDrift } from "./drift.ts";
import { eraseTenant, scheduleErasure } from "./erasure.ts";
import { migrateFleet } from "./fleet.ts";
import { createTenant } from "./provisioning.ts";

let database: TestDatabase;
let owner: string;
let ownerUrl: string;
let apiUrl: string;
let migrations: readonly TenantMigration[];

beforeAll(async () => {
  database = await createDatabase();
  migrations = await loadTenantMigrations();
  owner = `owner_${randomBytes(6).toString("hex")}`;
  // As README tells operators to make it, and no more.
  await withAdmin(adminUrl, (admin) =>
    admin.execute(`create role ${owner} login createrole password 'secret'`),
  );
  await withAdmin(adminUrl, (admin) =>
    admin.execute(`alter database ${database.name} owner to ${owner}`),
  );
  // The registry's role is the server's, and made by whichever database of this server came first.
  await withAdmin(adminUrl, async (admin) => {
    const roles = await admin.query`select 1 from pg_roles where rolname = 'ouvira_registry'`;
    if (roles.length > 0)
      await admin.execute(`grant ouvira_registry to ${owner} with admin option`);
  });
  const url = new URL(database.url);
  url.username = owner;
  url.password = "secret";
  ownerUrl = url.href;
  url.username = `api_${database.name}`;
  apiUrl = url.href;
});
afterAll(() => database.drop());

const as = <T>(work: (admin: AdminConnection) => Promise<T>) => withAdmin(ownerUrl, work);

describe("an owner that is no superuser", () => {
  test("migrates, provisions, archives, restores, compares, erases and makes operators", async () => {
    const folder = await archiveFolder();
    const config = readConfig({
      APP_ENV: "local",
      DATA_DIR: folder.file("data"),
      DATABASE_URL: apiUrl,
    });
    try {
      await migrateRegistry(ownerUrl, apiUrl);
      const tenant = await as((admin) =>
        createTenant(admin, migrations, apiRoleOf(apiUrl).name, {
          name: "Acme",
          subdomain: "acme",
          owner: { fullName: "Ada", email: "ada@acme.test", phone: "+201001234567" },
        }),
      );
      await migrateFleet(ownerUrl, migrations, { target: migrations.at(-2)?.name ?? "" });
      const { migrated, failed } = await migrateFleet(ownerUrl, migrations);
      const file = folder.file("acme.zip");
      const archives = archivesOf({ ownerUrl, config });
      const first = await archives.export("acme", file, { isExclusive: true });
      const copy = await archives.import(file, { subdomain: "acme-copy" });
      const second = await archives.export("acme-copy", folder.file("copy.zip"));
      const reports: DriftReport[] = [];
      await as((admin) =>
        findDrift(admin, migrations, undefined, (report) => reports.push(report)),
      );
      await as((admin) => scheduleErasure(admin.query, "acme", 0));
      const receipt = await as((admin) => eraseTenant(admin, "acme"));
      const operator = await as((admin) => createOperator(admin.query, "ops@acme.test", "p1$none"));

      expect([migrated.length, failed]).toEqual([1, []]);
      expect(second.tables).toEqual(first.tables);
      expect(copy.id).toBeGreaterThan(tenant.id);
      expect(reports.map(({ differences }) => differences)).toEqual([[], []]);
      expect(receipt.after.filter(({ found }) => found > 0)).toEqual([]);
      expect(operator.email).toBe("ops@acme.test");
    } finally {
      await folder.remove();
    }
  });
});
