import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import type { CreatedTenant } from "./provisioning.ts";

let registry: TestRegistry;
let tenant: CreatedTenant;

beforeAll(async () => {
  registry = await createRegistry();
  tenant = await registry.createTenant("citizen");
});
afterAll(() => registry.close());

/**
 * What Citus' schema-based sharding refuses or cannot move with a schema: triggers, and anything that depends
 * on an object outside of it (foreign keys, defaults, types, functions, views, inheritance).
 * https://docs.citusdata.com/en/stable/develop/api_udf.html
 */
async function obstaclesIn(
  schema: string,
  client: Pick<TestRegistry["sql"], "unsafe"> = registry.sql,
): Promise<string[]> {
  const rows = await client.unsafe<{ obstacle: string }[]>(`
    with inner_objects as (
      select c.oid, c.relname from pg_class c
       where c.relnamespace = '${schema}'::regnamespace
    )
    select 'trigger ' || t.tgname as obstacle
      from pg_trigger t join inner_objects o on o.oid = t.tgrelid
     where not t.tgisinternal
    union all
    select 'rule ' || r.rulename
      from pg_rewrite r join inner_objects o on o.oid = r.ev_class
    union all
    select 'foreign key ' || f.conname
      from pg_constraint f
      join inner_objects o on o.oid = f.conrelid
      join pg_class target on target.oid = f.confrelid
     where f.contype = 'f' and target.relnamespace <> '${schema}'::regnamespace
    union all
    select 'function ' || p.proname from pg_proc p where p.pronamespace = '${schema}'::regnamespace
    union all
    select 'depends on ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
      from pg_depend d
      left join pg_attrdef a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
      left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
      left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
      join inner_objects o
        on o.oid = coalesce(a.adrelid, k.conrelid, w.ev_class,
                            case when d.classid = 'pg_class'::regclass then d.objid end)
      left join pg_class rc on d.refclassid = 'pg_class'::regclass and rc.oid = d.refobjid
      left join pg_proc rp on d.refclassid = 'pg_proc'::regclass and rp.oid = d.refobjid
      left join pg_type rt on d.refclassid = 'pg_type'::regclass and rt.oid = d.refobjid
     where coalesce(rc.relnamespace, rp.pronamespace, rt.typnamespace) is not null
       and coalesce(rc.relnamespace, rp.pronamespace, rt.typnamespace) not in (
             '${schema}'::regnamespace, 'pg_catalog'::regnamespace, 'pg_toast'::regnamespace)`);
  return [...new Set(rows.map(({ obstacle }) => obstacle))].sort();
}

const roleOf = async (name: string) => {
  const [row] = await registry.sql`
    select rolcanlogin, rolpassword is null as has_no_password, rolsuper, rolinherit
      from pg_authid where rolname = ${name}`;
  return row;
};

describe("a tenant's schema on Citus", () => {
  test("has no trigger, no rule, no function, and nothing that refers out of it", async () => {
    expect(await obstaclesIn(tenant.schema)).toEqual([]);
  });

  test.each([
    [
      "a trigger",
      "create trigger spy before update on users for each row execute function suppress_redundant_updates_trigger()",
      "trigger spy",
    ],
    [
      "a reference to the registry",
      "alter table users add column owner bigint references public.tenants (id)",
      "foreign key users_owner_fkey",
    ],
    [
      "a default of a function outside",
      "create function public.answer() returns int language sql immutable return 42; alter table users add column answer int default public.answer()",
      "depends on function public.answer()",
    ],
    [
      "a type outside",
      "create type public.mood as enum ('good'); alter table users add column mood public.mood",
      "depends on type public.mood",
    ],
    [
      "a check by a function outside",
      "create function public.is_fine(text) returns boolean language sql immutable return true; alter table users add check (public.is_fine(email))",
      "depends on function public.is_fine(text)",
    ],
    [
      "an index by a function outside",
      "create function public.fold(text) returns text language sql immutable return $1; create index folded on users (public.fold(email))",
      "depends on function public.fold(text)",
    ],
    [
      "a view of the registry",
      "create view all_tenants as select id from public.tenants",
      "tenants",
    ],
    [
      "a table that inherits",
      "create table public.parent (id int); create table child () inherits (public.parent)",
      "public.parent",
    ],
    ["a function", "create function helper() returns int language sql return 1", "function helper"],
  ])("the check finds %s", async (_, text, obstacle) => {
    let found: string[] = [];
    const undone = registry.sql.begin(async (tx) => {
      await tx.unsafe(`set local search_path to ${tenant.schema}; ${text}`);
      found = await obstaclesIn(tenant.schema, tx);
      throw new Error("undone");
    });

    await expect(undone).rejects.toThrow("undone");
    expect(found).toEqual(expect.arrayContaining([expect.stringContaining(obstacle)]));
    expect(await obstaclesIn(tenant.schema)).toEqual([]);
  });
});

describe("the role of a tenant", () => {
  test("cannot log in; on a Citus coordinator, whose nodes act as it, it can, without a password", async () => {
    const here = await roleOf(tenant.schema);
    // Stands for the extension, which is not to be had here: the look-up is the real one.
    await registry.sql.begin(async (tx) => {
      await tx`set local allow_system_table_mods = on`;
      await tx`
        insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
        values (99999, 'citus', 10, 'pg_catalog'::regnamespace, false, '13.2-1')`;
    });

    const there = await roleOf((await registry.createTenant("distributed")).schema);

    const rights = { rolsuper: false, rolinherit: true, has_no_password: true };
    expect(here).toEqual({ rolcanlogin: false, ...rights });
    expect(there).toEqual({ rolcanlogin: true, ...rights });
  });
});
