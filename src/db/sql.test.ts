import { describe, expect, test } from "vitest";
import { json, sql } from "./sql.ts";

describe("sql", () => {
  test("a value becomes a place in the text and never part of it", () => {
    const name = "'; drop table users; --";

    const statement = sql`select id from users where name = ${name} and id > ${7}`;

    expect(statement.text).toBe("select id from users where name = $1 and id > $2");
    expect(statement.values).toEqual([name, "7"]);
  });

  test("one template has one text, whatever the values", () => {
    const byId = (id: number | null) => sql`select name from users where id = ${id}`;

    expect(byId(1).text).toBe(byId(null).text);
    expect(byId(null).values).toEqual([null]);
  });

  test("a statement within another brings its values, and the places are counted through", () => {
    const clause = sql`and role = ${"admin"} and level > ${3}`;

    const statement = sql`select ${"a"} from users where id = ${1} ${clause} limit ${10}`;

    expect(statement.text).toBe(
      "select $1 from users where id = $2 and role = $3 and level > $4 limit $5",
    );
    expect(statement.values).toEqual(["a", "1", "admin", "3", "10"]);
  });

  test("a statement nested twice, and one used twice, keep the order of their values", () => {
    const inner = sql`(${1}, ${2})`;
    const middle = sql`x in ${inner} or y in ${inner}`;

    const statement = sql`select 1 where ${middle} and z = ${3}`;

    expect(statement.text).toBe("select 1 where x in ($1, $2) or y in ($3, $4) and z = $5");
    expect(statement.values).toEqual(["1", "2", "1", "2", "3"]);
  });

  test("an empty piece changes nothing", () => {
    expect(sql`select ${1}${sql``}, ${2}`.text).toBe("select $1, $2");
  });

  test("a dollar sign in a literal of a nested statement is left alone", () => {
    const price = sql`label = 'from $1' and cents = ${500}`;

    expect(sql`select id from prices where id = ${7} and ${price}`.text).toBe(
      "select id from prices where id = $1 and label = 'from $1' and cents = $2",
    );
  });

  test("values are in PostgreSQL's text format", () => {
    const day = new Date("2026-11-23T21:20:00.123Z");

    expect(sql`${1.5} ${9_007_199_254_740_993n} ${true} ${false} ${day}`.values).toEqual([
      "1.5",
      "9007199254740993",
      "t",
      "f",
      "2026-11-23T21:20:00.123Z",
    ]);
    expect(sql`${Buffer.from([0, 255])} ${json({ a: 1, b: undefined })}`.values).toEqual([
      "\\x00ff",
      '{"a":1}',
    ]);
  });

  test("an array is a literal whose elements are quoted, and null is not the word", () => {
    expect(sql`${["a,b", 'c"d', "e\\f", "{}", "", "NULL", null]}`.values).toEqual([
      '{"a,b","c\\"d","e\\\\f","{}","","NULL",NULL}',
    ]);
    expect(sql`${[1, 2]} ${[]}`.values).toEqual(['{"1","2"}', "{}"]);
  });

  test.each([
    ["undefined", undefined],
    ["an object", { a: 1 }],
    ["a function", () => 1],
  ])("%s is refused instead of being sent as its name", (_, value) => {
    // What the types forbid and JavaScript, or a row typed too well, brings all the same.
    expect(() => sql`select ${value as unknown as string}`).toThrow(TypeError);
  });

  test("an invalid date is refused", () => {
    expect(() => sql`select ${new Date("never")}`).toThrow(RangeError);
  });

  test("as many values as the protocol can count are taken, and one more is refused", () => {
    const withValues = (count: number) => {
      const strings = Array.from({ length: count + 1 }, () => " ");
      return sql(Object.assign(strings, { raw: strings }), ...strings.slice(1));
    };

    expect(withValues(65_533).values).toHaveLength(65_533);
    expect(() => withValues(65_534)).toThrow("at most 65533 values");
  });
});
