import { describe, expect, test } from "vitest";
import { type Prepared, PreparedStatements } from "./prepared-statements.ts";

const MAX = 4;

/** Prepares texts of one tenant as a lane does: seen twice. */
function prepare(statements: PreparedStatements, texts: readonly string[], tag = "t_1") {
  return texts.map((text) => {
    statements.next(tag, text);
    const prepared = statements.next(tag, text);
    if (!prepared) throw new Error(`${text} was not prepared at its second sight`);
    return prepared;
  });
}

/** Prepares one text. */
function prepareOne(statements: PreparedStatements, text: string): Prepared {
  const [prepared] = prepare(statements, [text]);
  if (!prepared) throw new Error("It was not prepared");
  return prepared;
}

describe("PreparedStatements", () => {
  test("a text is prepared when it is seen for the second time", () => {
    const statements = new PreparedStatements(MAX);

    expect(statements.next("t_1", "select 1")).toBeUndefined();
    expect(statements.next("t_1", "select 1")).toMatchObject({ name: "s1", isSent: false });
    expect(statements.size).toBe(1);
  });

  test("a text seen once by each of two tenants is prepared for neither", () => {
    const statements = new PreparedStatements(MAX);

    expect(statements.next("t_1", "select 1")).toBeUndefined();
    expect(statements.next("t_2", "select 1")).toBeUndefined();
  });

  test("tenants share no prepared statement", () => {
    const statements = new PreparedStatements(MAX);

    const [one] = prepare(statements, ["select 1"], "t_1");
    const [two] = prepare(statements, ["select 1"], "t_2");

    expect(one?.name).not.toBe(two?.name);
    expect(statements.next("t_1", "select 1")).toBe(one);
  });

  test("texts seen once are forgotten when there are too many of them", () => {
    const statements = new PreparedStatements(MAX);
    statements.next("t_1", "early");
    for (let index = 0; index < MAX; index += 1) statements.next("t_1", `later ${index}`);

    expect(statements.next("t_1", "early")).toBeUndefined();
  });

  test("nothing is given up before the surplus is there", () => {
    const statements = new PreparedStatements(MAX);
    prepare(statements, ["a", "b", "c", "d", "e"]);

    expect(statements.takeSurplus(2)).toEqual([]);
    expect(statements.size).toBe(5);
  });

  test("the least recently used go first, down to what may be kept", () => {
    const statements = new PreparedStatements(MAX);
    prepare(statements, ["a", "b", "c", "d", "e", "f"]);
    statements.next("t_1", "a");

    expect(statements.takeSurplus(2)).toEqual(["s2", "s3"]);
    expect(statements.size).toBe(MAX);
  });

  test("what was given up is prepared again under a name of its own", () => {
    const statements = new PreparedStatements(1);
    const [first] = prepare(statements, ["a", "b"]);
    statements.takeSurplus(1);

    const [again] = prepare(statements, ["a"]);

    expect(again?.name).not.toBe(first?.name);
  });

  test("a stale one is forgotten once, and the server told to drop it", () => {
    const statements = new PreparedStatements(MAX);
    const stale = prepareOne(statements, "a");
    prepare(statements, ["b", "c", "d"]);

    statements.forget(stale);
    statements.forget(stale);

    expect(statements.next("t_1", "a")).toBeUndefined();
    expect(statements.takeSurplus(0)).toEqual(["s1"]);
  });

  test("forgetting an old one leaves the new one of the same text", () => {
    const statements = new PreparedStatements(MAX);
    const old = prepareOne(statements, "a");
    statements.forget(old);
    const fresh = prepareOne(statements, "a");

    statements.forget(old);

    expect(statements.next("t_1", "a")).toBe(fresh);
  });
});
