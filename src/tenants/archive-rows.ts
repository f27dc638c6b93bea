import { createHash } from "node:crypto";
import { Transform, type TransformCallback } from "node:stream";
import { secretContext } from "../auth/second-factor.ts";

/** Counts the rows of a table in COPY's text format, and digests them. */
export class RowDigest {
  readonly #hash = createHash("sha256");
  rows = 0;

  update(bytes: Buffer): void {
    this.#hash.update(bytes);
    // A line break within a value is written as \n: each byte 10 ends a row.
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) this.rows += 1;
  }

  /** Once, when all rows have passed. */
  hex(): string {
    return this.#hash.digest("hex");
  }
}

/** Lets rows through as they are, and digests them. */
export function digesting(digest: RowDigest): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      digest.update(chunk);
      callback(null, chunk);
    },
  });
}

/** A column that is encrypted for its tenant and row, so it has to be encrypted anew where it goes. */
export interface SealedColumn {
  readonly column: string;
  /** Says whose it is. */
  readonly owner: string;
  readonly context: (tenantId: number, owner: number) => string;
}

export const SEALED_COLUMNS: Readonly<Record<string, SealedColumn>> = {
  second_factors: { column: "sealed_secret", owner: "user_id", context: secretContext },
};

/** What COPY's text format writes for NULL. https://www.postgresql.org/docs/18/sql-copy.html */
const NULL = "\\N";
/** How it writes bytes: the backslash of `\x` is itself escaped. */
const BYTES_PREFIX = "\\\\x";

/**
 * Takes one sealed column of each row from one key to another. What is digested is the row with the secret in
 * clear, which is the same wherever it is sealed.
 *
 * @param reseal the secret in clear, and how it is to be written
 */
export function resealing(
  columns: readonly string[],
  sealed: SealedColumn,
  digest: RowDigest,
  reseal: (bytes: Buffer, owner: number) => { clear: string; sealed: Buffer },
): Transform {
  const at = columns.indexOf(sealed.column);
  const ownerAt = columns.indexOf(sealed.owner);
  let rest = "";
  const row = (line: string): string => {
    const values = line.split("\t");
    const value = values[at];
    if (value !== undefined && value !== NULL) {
      const bytes = Buffer.from(value.slice(BYTES_PREFIX.length), "hex");
      const made = reseal(bytes, Number(values[ownerAt]));
      digest.update(Buffer.from(`${values.with(at, made.clear).join("\t")}\n`));
      return values.with(at, BYTES_PREFIX + made.sealed.toString("hex")).join("\t");
    }
    digest.update(Buffer.from(`${line}\n`));
    return line;
  };
  const push = (stream: Transform, lines: readonly string[], done: TransformCallback) => {
    try {
      if (lines.length > 0) stream.push(`${lines.map(row).join("\n")}\n`);
      done();
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      // Hexadecimal, numbers and times: a character never lies across two chunks.
      const lines = (rest + chunk.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      push(this, lines, callback);
    },
    flush(callback) {
      push(this, rest === "" ? [] : [rest], callback);
    },
  });
}
