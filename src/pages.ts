import type { Statement } from "./db/sql.ts";
import type { TenantConnection } from "./db/tenant-database.ts";

/** Some rows of a list, and how many there are on all its pages. */
export interface Page<Row> {
  readonly count: number;
  readonly results: Row[];
}

/** Which rows a page is. */
export interface Range {
  readonly limit: number;
  readonly offset: number;
}

/**
 * Reads a page and the count of what it is taken from, in one transaction.
 *
 * @param isQuick both statements are quick at any size of the tables: they run on a connection that
 *   others wait for, in one round trip
 */
export async function readPage<Row extends object>(
  tenant: TenantConnection,
  rows: Statement,
  count: Statement,
  isQuick: boolean,
): Promise<Page<Row>> {
  if (isQuick) {
    const [results, [counted]] = await tenant.batch<[Row[], { count: number }[]]>(() => [
      rows,
      count,
    ]);
    return { count: counted?.count ?? 0, results };
  }
  return tenant.transaction(async (tx) => {
    const results = await tx<Row[]>`${rows}`;
    const [counted] = await tx<{ count: number }[]>`${count}`;
    return { count: counted?.count ?? 0, results };
  });
}

/** Finds a text anywhere, whatever it has of the pattern's own signs; null finds everything. */
export function searchPattern(search: string | undefined): string | null {
  return search === undefined ? null : `%${search.replace(/[\\%_]/g, "\\$&")}%`;
}
