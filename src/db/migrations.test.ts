import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { createTenant } from "../tenants/provisioning.ts";
import { withAdmin } from "./admin.ts";
import { migrateRegistry } from "./registry-migrations.ts";
import { fillPlaceholders, loadTenantMigrations } from "./tenant-migrations.ts";

let registry: TestRegistry;

beforeEach(async () => {
  registry = await createRegistry();
});
afterEach(() => registry.close());

/** Columns, indexes, constraints and grants of a schema, as text, to compare. */
async function describeSchema(schema: string) {
  return registry.sql`
    select c.relname, c.relkind, c.relacl::text as grants,
           (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || a.attnotnull, ', ' order by a.attname)
              from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
           (select string_agg(pg_get_constraintdef(k.oid), ', ' order by k.conname)
              from pg_constraint k where k.conrelid = c.oid) as constraints
      from pg_class c
     where c.relnamespace = ${schema}::regnamespace and c.relname !~ '^pgmigrations'
     order by c.relname`;
}

describe("the registry's migrations", () => {
  test("go up, down and up again to the same tables", async () => {
    const before = await describeAll();

    const undone: string[] = [];
    for (let names = await oneDown(); names.length > 0; names = await oneDown()) {
      undone.push(...names);
    }
    const between = await describeAll();
    const redone = await migrateRegistry(registry.url, registry.apiUrl);

    expect(undone.toReversed()).toEqual(redone);
    expect(undone.length).toBeGreaterThan(6);
    expect(between).toEqual([]);
    expect(before.length).toBeGreaterThan(20);
    expect(await describeAll()).toEqual(before);
  });
});

const oneDown = () => migrateRegistry(registry.url, registry.apiUrl, "down");

/** The registry's two schemas; the operators' is there only with its migration. */
async function describeAll() {
  const schemas = await registry.sql`
    select nspname as name from pg_namespace where nspname in ('platform', 'public') order by 1`;
  const rows = [];
  for (const { name } of schemas) rows.push(...(await describeSchema(String(name))));
  return rows;
}

describe("the tenants' migrations", () => {
  test("go up, down and up again to the same tables and grants", async () => {
    const migrations = await loadTenantMigrations();
    const { schema } = await withAdmin(registry.url, (admin) =>
      createTenant(admin, migrations, registry.apiRole, {
        name: "Turned",
        subdomain: "turned",
        owner: { fullName: "Ada", email: "ada@turned.test", phone: "+201001234567" },
      }),
    );
    const before = await describeSchema(schema);
    const run = (text: string) =>
      withAdmin(registry.url, (admin) =>
        admin.execute(`begin; set local search_path to ${schema}; ${text}; commit`),
      );

    for (const { down } of migrations.toReversed()) {
      await run(fillPlaceholders(down, schema));
    }
    const between = await describeSchema(schema);
    for (const { up } of migrations) await run(fillPlaceholders(up, schema));

    expect(between).toHaveLength(0);
    expect(before.length).toBeGreaterThan(0);
    expect(await describeSchema(schema)).toEqual(before);
  });
});
