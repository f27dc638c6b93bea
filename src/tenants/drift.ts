import { type AdminConnection, identifier } from "../db/admin.ts";
import { tenantSchema } from "../db/tenant-database.ts";
import { APPLIED_TABLE, type TenantMigration, upgradeText } from "../db/tenant-migrations.ts";

/** One way in which a schema is not what its version should have made of it. */
export interface Difference {
  /** `table users`, `column users.email`, `index users_pkey`, `grants of users`, … */
  readonly object: string;
  /** What the migrations make; null: nothing. */
  readonly expected: string | null;
  readonly actual: string | null;
}

export interface DriftReport {
  readonly id: number;
  readonly subdomain: string;
  /** By the schema's own record. */
  readonly version: string;
  readonly differences: readonly Difference[];
}

interface TenantRow {
  id: number;
  subdomain: string;
  ledger_version: string;
}

/** Objects of a schema: what it is → how it is defined. */
type Description = ReadonlyMap<string, string>;

/**
 * Compares tenants' schemas with what the migrations of their version make: tables, columns, indexes,
 * constraints, grants, and the ledger with the schema's own record. Reads only: what a version should have
 * is made in a transaction that is rolled back.
 *
 * @param subdomain undefined: every tenant
 */
export async function findDrift(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  subdomain: string | undefined,
  onReport: (report: DriftReport) => void,
): Promise<void> {
  const tenants = await admin.query<TenantRow[]>`
    select t.id, t.subdomain, m.version as ledger_version
      from public.tenants t
      join public.tenant_migrations m on m.tenant_id = t.id
     where ${subdomain ?? null}::text is null or t.subdomain = ${subdomain ?? null}
     order by t.id`;
  const expected = new Map<string, Description>();
  for (const tenant of tenants) {
    const schema = tenantSchema(tenant.id);
    const applied = await appliedIn(admin, schema);
    const key = applied.join("\n");
    const description = expected.get(key) ?? (await describeVersion(admin, migrations, applied));
    expected.set(key, description);
    const version = applied.at(-1) ?? "";
    const differences = compare(description, await describe(admin, schema, schema));
    if (version !== tenant.ledger_version) {
      differences.unshift({
        object: "version in the ledger",
        expected: version,
        actual: tenant.ledger_version,
      });
    }
    onReport({ id: tenant.id, subdomain: tenant.subdomain, version, differences });
  }
}

/** What a schema says was applied to it; nothing when it does not say, or is not there. */
async function appliedIn(admin: AdminConnection, schema: string): Promise<string[]> {
  const [table] = await admin.query<{ is_there: boolean }[]>`
    select to_regclass(${`${schema}.pgmigrations`}) is not null as is_there`;
  if (!table?.is_there) return [];
  await admin.execute(`set search_path to ${identifier(schema)}`);
  try {
    const rows = await admin.query<{ name: string }[]>`select name from pgmigrations order by id`;
    return rows.map(({ name }) => name);
  } finally {
    await admin.execute("reset search_path");
  }
}

/** What these migrations make, by making it and undoing it. */
async function describeVersion(
  admin: AdminConnection,
  migrations: readonly TenantMigration[],
  applied: readonly string[],
): Promise<Description> {
  const known = migrations.filter(({ name }) => applied.includes(name));
  const name = identifier(`ouvira_drift_${process.pid}`);
  await admin.execute("begin");
  try {
    await admin.execute(`
      create role ${name} nologin;
      create schema ${name};
      grant usage on schema ${name} to ${name};
      set local search_path to ${name};
      ${APPLIED_TABLE}
      ${upgradeText(known, [], name)}`);
    return await describe(admin, `ouvira_drift_${process.pid}`, `ouvira_drift_${process.pid}`);
  } finally {
    await admin.execute("rollback");
  }
}

/**
 * Everything of a schema that migrations make. Names of the schema and its role are the same word for
 * every tenant, and the owner's is left out: another one may have migrated.
 */
async function describe(
  admin: AdminConnection,
  schema: string,
  role: string,
): Promise<Description> {
  // With the schema on the path, definitions name its tables without it.
  const [path] = await admin.query<{ before: string }[]>`
    select current_setting('search_path') as before,
           set_config('search_path', quote_ident(${schema}), false)`;
  try {
    const rows = await admin.query<{ object: string; definition: string }[]>`
      with relations as (
        select c.oid, c.relname, c.relkind, c.relacl, c.relowner
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = ${schema} and c.relkind in ('r', 'p', 'S', 'v', 'm', 'f')
      ),
      grants as (
        select relname, coalesce(relacl, acldefault('r', relowner)) as acl, relowner, relkind from relations
      )
      select 'table ' || relname as object, relkind::text as definition from relations
      union all
      select 'column ' || r.relname || '.' || a.attname,
             format_type(a.atttypid, a.atttypmod)
               || case when a.attnotnull then ' not null' else '' end
               || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
               || case a.attidentity when '' then '' else ' identity' end
               || case a.attgenerated when '' then '' else ' generated' end
        from relations r
        join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
       where r.relkind <> 'S'
      union all
      select 'constraint ' || r.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
        from relations r join pg_constraint k on k.conrelid = r.oid
      union all
      select 'index ' || i.relname, pg_get_indexdef(i.oid)
        from relations r
        join pg_index x on x.indrelid = r.oid
        join pg_class i on i.oid = x.indexrelid
      union all
      select 'trigger ' || r.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
        from relations r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
      union all
      select 'function ' || p.proname, pg_get_function_identity_arguments(p.oid)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = ${schema}
      union all
      select 'grants of ' || g.relname,
             coalesce(string_agg(
               case when x.grantee = 0 then 'public' when x.grantee = t.oid then '{{tenant_role}}'
                    else pg_get_userbyid(x.grantee) end || ' ' || lower(x.privilege_type),
               ', ' order by x.grantee = 0, x.grantee <> t.oid, x.grantee, x.privilege_type), 'none')
        from grants g
        join pg_roles t on t.rolname = ${role}
        left join lateral aclexplode(g.acl) x on x.grantee <> g.relowner
       where g.relkind <> 'S'
       group by g.relname
      union all
      select 'grants of the schema',
             coalesce(string_agg(
               case when x.grantee = 0 then 'public' when x.grantee = t.oid then '{{tenant_role}}'
                    else pg_get_userbyid(x.grantee) end || ' ' || lower(x.privilege_type),
               ', ' order by x.grantee = 0, x.grantee, x.privilege_type), 'none')
        from pg_namespace n
        join pg_roles t on t.rolname = ${role}
        left join lateral aclexplode(n.nspacl) x on x.grantee <> n.nspowner
       where n.nspname = ${schema}
       group by n.oid`;
    // Indexes name their table with its schema, whatever the path is.
    const prefix = `${schema}.`;
    return new Map(
      rows.map(({ object, definition }) => [object, definition.replaceAll(prefix, "")]),
    );
  } finally {
    await admin.query`select set_config('search_path', ${path?.before ?? ""}, false)`;
  }
}

function compare(expected: Description, actual: Description): Difference[] {
  return [...new Set([...expected.keys(), ...actual.keys()])]
    .toSorted()
    .filter((object) => expected.get(object) !== actual.get(object))
    .map((object) => ({
      object,
      expected: expected.get(object) ?? null,
      actual: actual.get(object) ?? null,
    }));
}
