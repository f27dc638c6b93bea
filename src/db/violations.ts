import postgres from "postgres";

/** SQLSTATE of a unique constraint or index that was hit. */
const UNIQUE_VIOLATION = "23505";

/**
 * The name of the unique constraint or index that a statement hit; undefined for any other error.
 * https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
export function violatedUnique(error: unknown): string | undefined {
  if (!(error instanceof postgres.PostgresError) || error.code !== UNIQUE_VIOLATION) {
    return undefined;
  }
  return error.constraint_name;
}
