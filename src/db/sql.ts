/**
 * The one way SQL is written here: a tagged template whose values become `$1`, `$2`, … and never
 * part of the text. Values are sent in PostgreSQL's text format and the server infers their types
 * from the statement, so a statement has one text and one plan whatever is passed; where the context
 * says nothing, write a cast (`${name}::text`).
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */

/** A value for a jsonb column or parameter; made by {@link json}. */
class Json {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Scalar = string | number | bigint | boolean | Date | Uint8Array | null;

/** What may stand in `${}`: a value, an array for `any(${ids}::bigint[])`, or a piece of SQL. */
export type SqlValue = Scalar | readonly Scalar[] | Json | Statement;

/**
 * Values one statement can have: the protocol counts them in 16 bits, and postgres.js stops one short.
 * Many values of one kind belong in an array.
 */
const VALUES_MAX = 65_533;

/** SQL with its values apart, nothing sent yet: a whole statement, or a piece to put into another. */
export class Statement<Row extends object = object> {
  readonly text: string;
  readonly values: readonly (string | null)[];
  /** The text around the values: one more than there are. */
  readonly pieces: readonly string[];
  /** Never set: carries the row's type through {@link sql} to the call that runs it. */
  declare readonly row: Row;

  /** @throws RangeError when there are more values than a statement can have */
  constructor(
    text: string,
    values: readonly (string | null)[],
    pieces: readonly string[] = [text],
  ) {
    if (values.length > VALUES_MAX) {
      throw new RangeError(`A statement has at most ${VALUES_MAX} values, not ${values.length}`);
    }
    this.text = text;
    this.values = values;
    this.pieces = pieces;
  }
}

/** The text of a template without nested pieces depends on the template alone: joined once. */
const textByTemplate = new WeakMap<TemplateStringsArray, string>();

/**
 * Makes a {@link Statement}: sql`select name from users where id = ${id}`. A statement within
 * another contributes its text and values, which is how optional clauses are written.
 */
export function sql<Row extends object = object>(
  strings: TemplateStringsArray,
  ...values: readonly SqlValue[]
): Statement<Row> {
  const encoded: (string | null)[] = [];
  for (const value of values) {
    if (value instanceof Statement) return nest(strings, values);
    encoded.push(encode(value));
  }
  let text = textByTemplate.get(strings);
  if (text === undefined) {
    text = join(strings);
    textByTemplate.set(strings, text);
  }
  return new Statement<Row>(text, encoded, strings);
}

/** Marks a value to be sent as JSON. `undefined` members are dropped, as JSON.stringify does. */
export function json(value: object): SqlValue {
  return new Json(JSON.stringify(value));
}

/** Pieces are put together, not texts: a `$1` in a text may be part of a literal. */
function nest<Row extends object>(
  strings: TemplateStringsArray,
  values: readonly SqlValue[],
): Statement<Row> {
  const encoded: (string | null)[] = [];
  const pieces: string[] = [];
  let open = strings[0] ?? "";
  values.forEach((value, index) => {
    if (value instanceof Statement) {
      encoded.push(...value.values);
      const [first = "", ...rest] = value.pieces;
      const last = rest.pop();
      if (last === undefined) {
        open += first;
      } else {
        pieces.push(open + first, ...rest);
        open = last;
      }
    } else {
      encoded.push(encode(value));
      pieces.push(open);
      open = "";
    }
    open += strings[index + 1] ?? "";
  });
  pieces.push(open);
  return new Statement<Row>(join(pieces), encoded, pieces);
}

/** A text with `$1`, `$2`, … between its pieces. */
function join(pieces: readonly string[]): string {
  let text = pieces[0] ?? "";
  for (let index = 1; index < pieces.length; index += 1) text += `$${index}${pieces[index]}`;
  return text;
}

/** A value in PostgreSQL's text format; null stays null. */
function encode(value: Exclude<SqlValue, Statement>): string | null {
  if (value === null) return null;
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (typeof value === "boolean") return value ? "t" : "f";
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString("hex")}`;
  if (value instanceof Json) return value.text;
  if (Array.isArray(value)) return `{${value.map(encodeElement).join(",")}}`;
  throw new TypeError(`A ${typeof value} cannot be a value of a statement`);
}

/** An element of an array literal: quoted always, NULL bare. */
function encodeElement(value: Scalar): string {
  const text = encode(value);
  return text === null ? "NULL" : `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** Runs a statement and gives its rows: what a connection, a transaction and a shared lane have alike. */
export type RunSql = <Rows extends readonly object[] = readonly object[]>(
  strings: TemplateStringsArray,
  ...values: readonly SqlValue[]
) => Promise<Rows[number][]>;
