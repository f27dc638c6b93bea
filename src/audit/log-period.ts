import { sql, type Statement } from "../db/sql.ts";
import { AppError } from "../errors.ts";

/** From one moment up to, and without, another. */
export interface Period {
  readonly from?: Date | undefined;
  readonly until?: Date | undefined;
}

/**
 * A period as conditions on a log `l`.
 *
 * @throws AppError `validation_error` for one that ends before it begins
 */
export function periodConditions({ from, until }: Period): Statement[] {
  if (from && until && from >= until) {
    throw new AppError("validation_error", "The request query is invalid.", {
      errors: { to: ["The end is before the beginning."] },
    });
  }
  return [
    ...(from ? [sql`l.created_at >= ${from}`] : []),
    ...(until ? [sql`l.created_at < ${until}`] : []),
  ];
}
