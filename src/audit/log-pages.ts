import { sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";

/** Entries that are counted at most: a page of a million costs what a page of these costs. */
export const COUNT_MAX = 10_000;

/**
 * A filter that an index of the log begins with. It is written as a range that holds one value: with an
 * equality the planner may take another index in the log's order and pass over everything that does not
 * match, which for a company without entries is all of the log.
 */
export interface LeadingFilter {
  /** `l.user_id`, or several in the index's order: `l.entity_type, l.entity_id`. */
  readonly columns: Statement;
  readonly values: Statement;
  /** The columns, each `desc`: with the log's order after them it is the index's, backwards. */
  readonly descending: Statement;
}

/** What a page of a log is taken from. */
export interface LogSource {
  /** The columns, of a table called `l`. */
  readonly fields: Statement;
  readonly table: Statement;
  /** Undefined: the whole log. */
  readonly leading: LeadingFilter | undefined;
  /** All of them hold; looked at on the way. */
  readonly conditions: readonly Statement[];
  /** Only entries of these companies, instead of a leading filter; null for all. */
  readonly companies: readonly number[] | null;
}

/** The companies of a source, one after the other. */
const OF_COMPANY: LeadingFilter = {
  columns: sql`l.company_id`,
  values: sql`c.company`,
  descending: sql`l.company_id desc`,
};

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
  const cursor = "cursor" in place ? place.cursor : null;
  return tenant.transaction(async (tx) => {
    // One more than is shown says whether there is another page.
    const rows = await tx<(Row & Placed)[]>`${pageStatement(source, cursor, offset, limit + 1)}`;
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
  source: LogSource,
  cursor: string | null,
  offset: number,
  limit: number,
): Statement {
  const place = cursor === null ? undefined : placeOf(cursor);
  const { companies, leading } = source;
  if (companies === null) {
    return sql`${newest(source, leading, place, limit)} offset ${offset}::int`;
  }
  // Each company's newest, then the newest of those: nothing else is read or sorted.
  return sql`
    select l.*
      from unnest(${companies}::bigint[]) as c (company)
     cross join lateral (${newest(source, OF_COMPANY, place, offset + limit)}) as l
     order by l.place desc, l.id desc
     limit ${limit}::int offset ${offset}::int`;
}

/** The newest entries before a place, read along one index. */
function newest(
  { fields, table, conditions }: LogSource,
  leading: LeadingFilter | undefined,
  place: Statement | undefined,
  limit: number,
): Statement {
  const where: Statement[] = [...conditions];
  if (leading) {
    const { columns, values } = leading;
    // With a place, that alone is where the index is entered: a second upper bound would be taken for it.
    where.push(
      place
        ? sql`(${columns}) >= (${values}) and (${columns}, l.created_at, l.id) < (${values}, ${place})`
        : isWithin(leading),
    );
  } else if (place) {
    where.push(sql`(l.created_at, l.id) < (${place})`);
  }
  const order = leading ? sql`${leading.descending}, ` : sql``;
  return sql`
    select ${fields}, (extract(epoch from l.created_at) * 1000000)::bigint as at_us, l.created_at as place
      from ${table} l
     where ${all(where)}
     order by ${order}l.created_at desc, l.id desc
     limit ${limit}::int`;
}

function countStatement(source: LogSource): Statement {
  const { companies, leading } = source;
  const found = (by: LeadingFilter | undefined) => sql`
    select 1
      from ${source.table} l
     where ${all([...source.conditions, ...(by ? [isWithin(by)] : [])])}
     limit ${COUNT_MAX}::int`;
  if (companies === null) return sql`select count(*) as count from (${found(leading)}) as found`;
  return sql`
    select count(*) as count
      from (
        select 1
          from unnest(${companies}::bigint[]) as c (company)
         cross join lateral (${found(OF_COMPANY)}) as l
         limit ${COUNT_MAX}::int) as found`;
}

/** A leading filter as a range that holds one value. */
function isWithin({ columns, values }: LeadingFilter): Statement {
  return sql`(${columns}) >= (${values}) and (${columns}) <= (${values})`;
}

function all(conditions: readonly Statement[]): Statement {
  return conditions.reduce((before, condition) => sql`${before} and ${condition}`, sql`true`);
}

function encodeCursor({ at_us: at, id }: Placed): string {
  return Buffer.from(`${at}.${id}`).toString("base64url");
}

/** Microseconds since 1970 and an id, both within what a number holds exactly. */
const CURSOR = /^(\d{1,16})\.(\d{1,16})$/;

/**
 * What a cursor stands for: a time and an id.
 *
 * @throws AppError `validation_error` for what is no cursor
 */
function placeOf(cursor: string): Statement {
  const [, at, id] = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1")) ?? [];
  if (at === undefined || id === undefined) {
    throw new AppError("validation_error", "The request query is invalid.", {
      errors: { cursor: ["Send the `next_cursor` of another page, as it is."] },
    });
  }
  return sql`timestamptz 'epoch' + ${at}::bigint * interval '1 microsecond', ${id}::bigint`;
}
