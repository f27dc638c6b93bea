import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { withAdmin } from "../src/db/admin.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { loadTenantMigrations, type TenantMigration } from "../src/db/tenant-migrations.ts";
import { Keys } from "../src/keys.ts";
import { type ExportOptions, exportTenant } from "../src/tenants/archive-export.ts";
import {
  type ImportedTenant,
  type ImportOptions,
  importTenant,
  openArchive,
} from "../src/tenants/archive-import.ts";
import type { ArchiveSecrets } from "../src/tenants/archive-keys.ts";
import type { Manifest } from "../src/tenants/archive-manifest.ts";
import { newPhone, PASSWORD, type TestApp, type TestTenant } from "./app.ts";
import { stopClock, secondFactorCalls, type ProtectedUser } from "./second-factor.ts";
import { World } from "./world.ts";

/** A folder for archives; removed by whoever made it. */
export async function archiveFolder(): Promise<{
  file: (name: string) => string;
  remove: () => Promise<void>;
}> {
  const folder = await mkdtemp(path.join(tmpdir(), "ouvira-archives-"));
  return {
    file: (name) => path.join(folder, name),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Archives and restores as the commands do, with the secrets of an app. */
export function archivesOf({ ownerUrl, config }: Pick<TestApp, "ownerUrl" | "config">) {
  const secrets: ArchiveSecrets = config;
  return {
    export: (subdomain: string, file: string, options: ExportOptions = {}): Promise<Manifest> =>
      withAdmin(ownerUrl, (admin) =>
        exportTenant(admin, { keys: new Keys(config), secrets }, subdomain, file, options),
      ),
    import: async (
      file: string,
      options: ImportOptions = {},
      migrations?: readonly TenantMigration[],
    ): Promise<ImportedTenant> => {
      const archive = await openArchive(file, secrets);
      try {
        const context = {
          migrations: migrations ?? (await loadTenantMigrations()),
          apiRole: apiRoleOf(config.databaseUrl ?? "").name,
          keys: new Keys(config),
          secrets,
        };
        return await withAdmin(ownerUrl, (admin) => importTenant(admin, context, archive, options));
      } finally {
        archive.close();
      }
    },
  };
}

/** A tenant that was restored, as tests look at it; its connection is to be ended. */
export function asTestTenant(
  { ownerUrl }: Pick<TestApp, "ownerUrl">,
  { id, subdomain, schema }: Pick<ImportedTenant, "id" | "subdomain" | "schema">,
): TestTenant {
  return {
    id,
    subdomain,
    owner: { email: "", phone: "" },
    sql: postgres(ownerUrl, {
      max: 1,
      onnotice: () => undefined,
      connection: { search_path: schema },
      types: { bigint: { to: 20, from: [20], parse: Number, serialize: String } },
    }),
  };
}

/**
 * Fills a tenant with something of everything that an archive has to carry: people with an authenticator app,
 * companies, roles, an invitation, an image, texts that COPY escapes. Stops the clock.
 */
export async function fillTenant(app: TestApp, tenant: TestTenant): Promise<ProtectedUser> {
  stopClock();
  const user = await secondFactorCalls(app, tenant).totpUser();
  const world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
  await world.invitation();
  await world.memberHolding(["companies.view"]);
  await tenant.sql`
    insert into company_logos (company, content_type, bytes, digest)
    values (${world.company}, 'image/png', ${Buffer.from([0, 9, 10, 13, 92, 255])}, 'abc')`;
  await tenant.sql`
    update companies set description = ${'tab\t, line\nend, \\N, \\., "quotes", ünïcode, 😀'},
                         name = ${`Acme ${newPhone()}`}
     where id = ${world.company}`;
  await tenant.sql`
    insert into notifications (user_id, message) values (${user.user.id}, '')`;
  // Rows that are gone leave their ids.
  await tenant.sql`delete from notifications`;
  return user;
}
