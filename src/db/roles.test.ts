import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "./admin.ts";
import { migrateRegistry } from "./registry-migrations.ts";
import { findRoleGaps } from "./roles.ts";

let registry: TestRegistry;

beforeAll(async () => {
  registry = await createRegistry();
});
afterAll(() => registry.close());

describe("migrateRegistry", () => {
  test("with another role for the API lets it act for the tenants that are there", async () => {
    const { id } = await registry.createTenant("acme");
    const other = new URL(registry.apiUrl);
    other.username = `${registry.apiRole}_other`;
    await migrateRegistry(registry.url, other.href);

    const actAs = (role: string) =>
      withAdmin(other.href, (admin) =>
        admin.transaction(async () => {
          await admin.execute(`set local role ${role}; set local search_path to t_${id}`);
          return admin.query`select email from users`;
        }),
      );

    try {
      expect(await actAs(`t_${id}`)).toEqual([{ email: "ada@acme.test" }]);
      await expect(actAs("postgres")).rejects.toThrow("permission denied to set role");
      expect(await withAdmin(other.href, ({ query }) => findRoleGaps(query))).toEqual([]);
    } finally {
      await registry.sql.unsafe(`drop owned by ${other.username}; drop role ${other.username}`);
    }
  });

  test("by a role that may not make roles says so", async () => {
    await expect(migrateRegistry(registry.apiUrl, registry.apiUrl)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("createrole"),
    });
  });
});

describe("findRoleGaps", () => {
  test("finds nothing in the role that npm run migrate makes", async () => {
    expect(await withAdmin(registry.apiUrl, ({ query }) => findRoleGaps(query))).toEqual([]);
  });

  test("names a superuser, who may do everything else too", async () => {
    const gaps = await withAdmin(registry.url, ({ query }) => findRoleGaps(query));

    expect(gaps[0]).toMatch(/^DATABASE_URL: the role postgres is a superuser/);
    expect(gaps.length).toBeGreaterThan(1);
  });

  test.each([
    ["createdb", "nocreatedb", "may create databases"],
    ["createrole", "nocreaterole", "may create roles"],
    ["bypassrls", "nobypassrls", "bypasses row security"],
  ])("names a role that was given %s", async (given, taken, what) => {
    await registry.sql.unsafe(`alter role ${registry.apiRole} ${given}`);
    try {
      expect(await withAdmin(registry.apiUrl, ({ query }) => findRoleGaps(query))).toEqual([
        expect.stringContaining(`the role ${registry.apiRole} ${what}`),
      ]);
    } finally {
      await registry.sql.unsafe(`alter role ${registry.apiRole} ${taken}`);
    }
  });

  test("names a role that owns a table or inherits another's rights", async () => {
    await registry.sql.unsafe(`
      create table public.mine (id int); alter table public.mine owner to ${registry.apiRole};
      grant ouvira_registry to ${registry.apiRole} with inherit true`);
    try {
      const gaps = await withAdmin(registry.apiUrl, ({ query }) => findRoleGaps(query));
      expect(gaps).toEqual([
        expect.stringContaining("inherits the rights of ouvira_registry"),
        expect.stringContaining("owns tables"),
      ]);
    } finally {
      await registry.sql.unsafe(`
        drop table public.mine;
        grant ouvira_registry to ${registry.apiRole} with inherit false`);
    }
  });
});
