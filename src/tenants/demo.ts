import { randomBytes } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { PasswordHasher } from "../auth/passwords.ts";
import { withAdmin } from "../db/admin.ts";
import { apiRoleOf } from "../db/roles.ts";
import type { OpenDatabase } from "../db/open-database.ts";
import type { TenantMigration } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import { createTenant } from "./provisioning.ts";

/** How to log in to the demo tenant of a local installation. */
export interface DemoLogin {
  readonly subdomain: string;
  readonly email: string;
  readonly password: string;
}

/** The tenant that a first start in local mode makes. */
export const DEMO_SUBDOMAIN = "demo";

const DEMO = {
  subdomain: DEMO_SUBDOMAIN,
  email: "owner@demo.test",
  phone: "+12025550143",
} as const;

const StoredLogin = z.object({ subdomain: z.string(), email: z.string(), password: z.string() });

/**
 * Makes the tenant `demo` of a local installation unless it is there.
 *
 * @returns how to log in; undefined when the tenant was made by other means, with another password
 */
export async function ensureDemoTenant(
  database: OpenDatabase,
  migrations: readonly TenantMigration[],
  passwords: PasswordHasher,
  dataDir: string,
): Promise<DemoLogin | undefined> {
  const file = loginFile(dataDir);
  return withAdmin(database.migrationUrl, async (admin) => {
    const rows =
      await admin.query`select 1 from public.tenants where subdomain = ${DEMO.subdomain}`;
    if (rows.length > 0) return readDemoLogin(dataDir);
    const password = `demo-${randomBytes(6).toString("hex")}`;
    const login: DemoLogin = { subdomain: DEMO.subdomain, email: DEMO.email, password };
    try {
      await createTenant(admin, migrations, apiRoleOf(database.url).name, {
        name: "Demo",
        subdomain: DEMO.subdomain,
        owner: {
          fullName: "Demo Owner",
          email: DEMO.email,
          phone: DEMO.phone,
          passwordHash: await passwords.hash(password),
        },
      });
    } catch (error) {
      // Another process made it a moment ago.
      if (error instanceof AppError && error.code === "conflict") return readDemoLogin(dataDir);
      throw error;
    }
    await writeFile(file, `${JSON.stringify(login, null, 2)}\n`, { mode: 0o600 });
    return login;
  });
}

/** How to log in to the demo tenant, when it was made here. */
export async function readDemoLogin(dataDir: string): Promise<DemoLogin | undefined> {
  try {
    return StoredLogin.parse(JSON.parse(await readFile(loginFile(dataDir), "utf8")));
  } catch {
    return undefined;
  }
}

/** Removes what is kept of the demo tenant's login, when it is this one. */
export async function forgetDemoLogin(dataDir: string, subdomain: string): Promise<void> {
  const login = await readDemoLogin(dataDir);
  if (login?.subdomain === subdomain) await rm(loginFile(dataDir), { force: true });
}

function loginFile(dataDir: string): string {
  return path.join(dataDir, "demo.json");
}
