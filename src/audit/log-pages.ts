import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";

/** Entries that are counted at most: a page of a million costs what a page of these costs. */
export const COUNT_MAX = 10_000;

/** What a page of a log is taken from. */
export interface LogSource {
  /** The columns, of a table called `l`. */
  readonly fields: Statement;
  readonly table: Statement;
  /** All of them hold. Each has an index in the log's order, or is looked at on the way. */
  readonly conditions: readonly Statement[];
  /** Only entries of these companies; null for all. */
  readonly companies: readonly number[] | null;
}

/** From a page's number, or from where another page ended. */
export type LogPlace = { readonly offset: number } | { readonly cursor: string };

export interface LogPage<Row> {
  /** At most {@link COUNT_MAX}. */
  readonly count: number;
  readonly results: Row[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

interface Placed {
  at_us: number;
  id: number;
}

/**
 * A page of a log, newest first. The order is (created_at, id), which every index of the logs ends
 * with, and a cursor is an entry's place in it: the cost does not grow with depth, and entries that are
 * written meanwhile shift nothing.
 *
 * @throws AppError `validation_error` for a cursor that is none
 */
export async function readLogPage<Row extends { id: number }>(
  tenant: TenantConnection,
  source: LogSource,
  place: LogPlace,
  limit: number,
): Promise<LogPage<Row>> {
  const offset = "offset" in place ? place.offset : 0;
  const before = "cursor" in place ? [isBefore(place.cursor)] : [];
  return tenant.transaction(async (tx) => {
    // One more than is shown says whether there is another page.
    const rows = await tx<(Row & Placed)[]>`${pageStatement(source, before, offset, limit + 1)}`;
    const [counted] = await tx<{ count: number }[]>`${countStatement(source)}`;
    const shown = rows.slice(0, limit);
    const last = rows.length > limit ? shown.at(-1) : undefined;
    return {
      count: counted?.count ?? 0,
      results: shown,
      nextCursor: last ? encodeCursor(last) : null,
    };
  });
}

/** A page's statement; exported to be explained. */
export function pageStatement(
  { fields, table, conditions, companies }: LogSource,
  before: readonly Statement[],
  offset: number,
  limit: number,
): Statement {
  const newest = (more: readonly Statement[], rows: number) => sql`
    select ${fields}, (extract(epoch from l.created_at) * 1000000)::bigint as at_us, l.created_at as place
      from ${table} l
     where ${all([...conditions, ...before, ...more])}
     order by l.created_at desc, l.id desc
     limit ${rows}::int`;
  if (companies === null || companies.length === 1) {
    const [company] = companies ?? [];
    const more = company === undefined ? [] : [sql`l.company_id = ${company}`];
    return sql`${newest(more, limit)} offset ${offset}::int`;
  }
  // Each company's newest, then the newest of those: nothing else is read or sorted.
  return sql`
    select l.*
      from unnest(${companies}::bigint[]) as c (company)
     cross join lateral (${newest([sql`l.company_id = c.company`], offset + limit)}) as l
     order by l.place desc, l.id desc
     limit ${limit}::int offset ${offset}::int`;
}

function countStatement({ table, conditions, companies }: LogSource): Statement {
  const more = companies === null ? [] : [sql`l.company_id = any(${companies}::bigint[])`];
  return sql`
    select count(*) as count
      from (select 1 from ${table} l where ${all([...conditions, ...more])} limit ${COUNT_MAX}::int) as found`;
}

function all(conditions: readonly Statement[]): Statement {
  return conditions.reduce((before, condition) => sql`${before} and ${condition}`, sql`true`);
}

function encodeCursor({ at_us: at, id }: Placed): string {
  return Buffer.from(`${at}.${id}`).toString("base64url");
}

/** Microseconds since 1970 and an id, both within what a number holds exactly. */
const CURSOR = /^(\d{1,16})\.(\d{1,16})$/;

/** The condition that a cursor stands for. */
function isBefore(cursor: string): Statement {
  const [, at, id] = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1")) ?? [];
  if (at === undefined || id === undefined) {
    throw new AppError("validation_error", "The request query is invalid.", {
      errors: { cursor: ["Send the `next_cursor` of another page, as it is."] },
    });
  }
  return sql`
    (l.created_at, l.id)
      < (timestamptz 'epoch' + ${at}::bigint * interval '1 microsecond', ${id}::bigint)`;
}
