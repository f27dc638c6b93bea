import { availableParallelism } from "node:os";
import { type AdminConnection, withAdmin } from "../src/db/admin.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { apiRoleOf } from "../src/db/roles.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { createTenant } from "../src/tenants/provisioning.ts";

/** Who asks in every tenant: a member of twenty companies with a role of one of them. */
export const MEMBER = { email: "member@corp.test", password: "correct horse battery staple" };
/** The member's id, and that of the company where they have a role. */
export const MEMBER_ID = 2;
export const COMPANY_ID = 1;

/** What the member sees in each tenant: a page of companies, a page of notifications and more. */
const ROWS = `
  insert into users (username, full_name, email, primary_mobile, password_hash, email_verified_at, phone_verified_at)
  values ('member', 'Mem Ber', '${MEMBER.email}', '+201001234599', %L, now(), now());
  insert into companies (name, description, address, create_by)
  select 'Company ' || n, 'The company number ' || n, n || ' High Street', 1 from generate_series(1, 20) n;
  insert into company_settings (company) select id from companies;
  insert into user_companies ("user", company, is_primary_company)
  select 2, id, id = 1 from companies;
  insert into roles (role, "desc", company) values ('Auditor', 'Sees, changes little', ${COMPANY_ID});
  insert into role_permissions (role, permission, granted)
  select r.id, p.id, true from roles r, permissions p where r.role = 'Auditor' and p.code <> 'roles.manage';
  insert into user_company_roles (user_company, role)
  select m.id, r.id from user_companies m, roles r where m.company = ${COMPANY_ID} and r.role = 'Auditor';
  insert into notifications (user_id, message) select 2, 'Something happened, number ' || n from generate_series(1, 30) n;
`;

/** A backend gets slower with every table that it has made: after a thousand tenants it holds 500 MB of catalog. */
const TENANTS_PER_CONNECTION = 50;

/** Makes tenants `tenant-<first>` up to `tenant-<last>` with their rows, as wide as there are cores. */
export async function seedTenants(
  { migrationUrl, url }: OpenDatabase,
  passwordHash: string,
  [first, last]: readonly [number, number],
): Promise<void> {
  const migrations = await loadTenantMigrations();
  const apiRole = apiRoleOf(url).name;
  const rows = ROWS.replace("%L", `'${passwordHash}'`);
  const waiting = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const work = async (admin: AdminConnection) => {
    for (const number of waiting.splice(0, TENANTS_PER_CONNECTION)) {
      const subdomain = `tenant-${number}`;
      if (number % 500 === 0) console.error(`# making ${subdomain}`);
      const { id } = await createTenant(admin, migrations, apiRole, {
        name: subdomain,
        subdomain,
        owner: {
          fullName: "Olive",
          email: "owner@corp.test",
          phone: "+201001234567",
          passwordHash,
        },
      });
      await admin.transaction(async () => {
        await admin.execute(`set local search_path to ${tenantSchema(id)}; ${rows}`);
      });
    }
  };
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      while (waiting.length > 0) await withAdmin(migrationUrl, work);
    }),
  );
}
