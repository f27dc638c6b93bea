import postgres from "postgres";
import { sql, type SqlValue, type Statement } from "../src/db/sql.ts";
import type { TenantConnection } from "../src/db/tenant-database.ts";
import { DRIVER_TYPES } from "../src/db/values.ts";

/**
 * The product's reads on one bare schema: the same statements, always prepared, by a pool of postgres.js, no role
 * and no transaction around them. What they would cost without tenants.
 */
export function bareTenant(url: string, schema: string, connections: number): TenantConnection {
  const pool = postgres(url, {
    max: connections,
    fetch_types: false,
    types: DRIVER_TYPES,
    connection: { search_path: schema, plan_cache_mode: "force_generic_plan" },
  });
  const run = ({ text, values }: Statement) =>
    pool.unsafe(text, [...values], { prepare: true }) as Promise<object[]>;
  const query = (strings: TemplateStringsArray, ...values: readonly SqlValue[]) =>
    run(sql(strings, ...values));
  return {
    query,
    batch: (build: (q: typeof sql) => readonly Statement[]) => Promise.all(build(sql).map(run)),
    transaction: (work: (tx: typeof query) => Promise<unknown>) => work(query),
    // The rows' types are the caller's word, as in every SQL client.
  } as unknown as TenantConnection;
}
