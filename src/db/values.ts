/**
 * How values of PostgreSQL become JavaScript's, by the type's oid (pg_type): int8 a number, since ids stay
 * below 2^53; a day stays `2026-11-23`, it has no time zone; what is not listed stays text.
 */
const PARSERS: readonly (readonly [readonly number[], (text: string) => unknown])[] = [
  [[20, 21, 23, 26, 700, 701], Number],
  [[16], (text) => text === "t"],
  [[17], (text) => Buffer.from(text.slice(2), "hex")],
  [[1114, 1184], (text) => new Date(text)],
  [[114, 3802], (text): unknown => JSON.parse(text)],
];

const PARSER_BY_OID = new Map(PARSERS.flatMap(([oids, parse]) => oids.map((oid) => [oid, parse])));

/** Reads a value in PostgreSQL's text format; undefined where it stays text. */
export function parserOf(oid: number): ((text: string) => unknown) | undefined {
  return PARSER_BY_OID.get(oid);
}

const asIs = (value: string): string => value;

const typeOf = (to: number, from: readonly number[] = [to]) => ({
  to,
  from: [...from],
  serialize: asIs,
  parse: parserOf(to) ?? asIs,
});

/** The same for postgres.js. Values reach it encoded (sql.ts), so nothing is serialized twice. */
export const DRIVER_TYPES = {
  bigint: typeOf(20),
  boolean: typeOf(16),
  bytea: typeOf(17),
  // The driver's own way fails on days it cannot read.
  day: typeOf(1082),
  date: typeOf(1184, [1114, 1184]),
  json: typeOf(114, [114, 3802]),
};
