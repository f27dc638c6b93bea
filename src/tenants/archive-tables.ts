import type { RunSql } from "../db/sql.ts";

/**
 * Tables that stay behind when a tenant is archived, and why. Every other table of the schema goes along, so
 * that a new one is never forgotten.
 */
export const LEFT_BEHIND: Readonly<Record<string, string>> = {
  pgmigrations: "made by the migrations",
  login_sessions: "a login belongs to one installation and its keys",
  login_challenges: "a login on its way",
  signups: "a sign-up on its way",
  password_resets: "a link that was sent names the tenant it was sent from",
  email_verifications: "a link that was sent names the tenant it was sent from",
  failures: "keyed with a secret of the installation, forgotten within the hour",
  messages: "what is queued is sent from where it was queued, once",
  log_seals: "checked when it is archived; the logs are sealed anew where they are restored",
};

/** Columns that stay behind: transactions are numbered by the server they ran in. */
const COLUMNS_LEFT_BEHIND: Readonly<Record<string, readonly string[]>> = {
  activity_logs: ["transaction_id"],
  security_logs: ["transaction_id"],
};

/** A table as it is archived. */
export interface ArchivedTable {
  readonly name: string;
  /** By name, so that the same rows have the same digest whatever order a table was built in. */
  readonly columns: readonly string[];
  /** The primary key: rows are in its order. */
  readonly key: readonly string[];
}

interface TableRow {
  name: string;
  columns: string[];
  key: string[];
  references: string[];
}

/**
 * The tables of a schema that are archived, each after those it refers to.
 *
 * @throws Error for tables that refer to each other in a circle, or have no primary key
 */
export async function listArchivedTables(query: RunSql, schema: string): Promise<ArchivedTable[]> {
  const rows = await query<TableRow[]>`
    select
      c.relname::text as name,
      coalesce((select jsonb_agg(a.attname order by a.attname)
                  from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0
                   and not a.attisdropped and a.attgenerated = ''), '[]') as columns,
      coalesce((select jsonb_agg(a.attname order by k.position)
                  from pg_index x
                  cross join unnest(x.indkey::int2[]) with ordinality as k (attnum, position)
                  join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                 where x.indrelid = c.oid and x.indisprimary), '[]') as key,
      coalesce((select jsonb_agg(distinct r.relname)
                  from pg_constraint f join pg_class r on r.oid = f.confrelid
                 where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid), '[]') as references
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and not c.relispartition
    order by c.relname`;
  return inOrderOfReferences(rows.filter(({ name }) => !(name in LEFT_BEHIND)));
}

function inOrderOfReferences(rows: readonly TableRow[]): ArchivedTable[] {
  const waiting = new Map(rows.map((row) => [row.name, row]));
  const ordered: ArchivedTable[] = [];
  while (waiting.size > 0) {
    const ready = [...waiting.values()].filter(
      ({ references }) => !references.some((name) => waiting.has(name)),
    );
    if (ready.length === 0) {
      throw new Error(`Tables refer to each other in a circle: ${[...waiting.keys()].join(", ")}`);
    }
    for (const { name, columns, key } of ready) {
      if (key.length === 0) throw new Error(`The table ${name} has no primary key`);
      const left = COLUMNS_LEFT_BEHIND[name] ?? [];
      ordered.push({ name, columns: columns.filter((column) => !left.includes(column)), key });
      waiting.delete(name);
    }
  }
  return ordered;
}

/** Where a sequence stands: ids of rows that are gone are not given out again. */
export interface SequenceState {
  readonly name: string;
  readonly last_value: number;
  readonly is_called: boolean;
}

/** The sequences of a schema's archived tables, by name. */
export async function listSequences(query: RunSql, schema: string): Promise<SequenceState[]> {
  const names = await query<{ name: string; table: string }[]>`
    select s.relname::text as name, t.relname::text as table
      from pg_class s
      join pg_namespace n on n.oid = s.relnamespace
      join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
      join pg_class t on t.oid = d.refobjid
     where n.nspname = ${schema} and s.relkind = 'S'
     order by s.relname`;
  const archived = names.filter(({ table }) => !(table in LEFT_BEHIND)).map(({ name }) => name);
  return query<SequenceState[]>`
    select s.sequencename::text as name,
           coalesce(s.last_value, s.start_value) as last_value,
           s.last_value is not null as is_called
      from pg_sequences s
     where s.schemaname = ${schema} and s.sequencename = any(${archived}::text[])
     order by s.sequencename`;
}
