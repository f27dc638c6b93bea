import type { RunSql, SqlValue } from "./sql.ts";
import type { TenantConnection } from "./tenant-database.ts";

/**
 * Statements of a shared connection whose commits do not wait for the disk, since others wait behind them. Everybody sees
 * at once what they wrote; a server that crashes forgets the last second of it, unless a commit that did wait came later:
 * the log is one and in order.
 * https://www.postgresql.org/docs/18/wal-async-commit.html
 */
export function withoutWaiting(connection: TenantConnection): RunSql {
  return async (strings: TemplateStringsArray, ...values: readonly SqlValue[]) => {
    const [, rows] = await connection.batch((q) => [
      q`select set_config('synchronous_commit', 'off', true)`,
      q(strings, ...values),
    ]);
    return rows ?? [];
  };
}
