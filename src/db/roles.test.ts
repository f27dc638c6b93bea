import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "./admin.ts";
import { findRoleGaps } from "./roles.ts";

let registry: TestRegistry;

beforeAll(async () => {
  registry = await createRegistry();
});
afterAll(() => registry.close());

describe("findRoleGaps", () => {
  test("finds nothing in the role that npm run migrate makes", async () => {
    expect(await withAdmin(registry.apiUrl, findRoleGaps)).toEqual([]);
  });

  test("names a superuser, who may do everything else too", async () => {
    const gaps = await withAdmin(registry.url, findRoleGaps);

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
      expect(await withAdmin(registry.apiUrl, findRoleGaps)).toEqual([
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
      const gaps = await withAdmin(registry.apiUrl, findRoleGaps);
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
