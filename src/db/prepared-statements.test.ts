import { describe, expect, test } from "vitest";
import { type Prepared, PreparedStatements } from "./prepared-statements.ts";

const MAX = 4;

/** Prepares texts of one tenant as a lane does: seen twice, then named by the server. */
function prepare(statements: PreparedStatements, texts: readonly string[], tag = "t_1") {
  return texts.map((text) => {
    statements.next(tag, text);
    const prepared = statements.next(tag, text);
    if (!prepared) throw new Error(`${text} was not prepared at its second sight`);
    statements.keptAs(prepared, `name of ${tag} ${text}`);
    return prepared;
  });
}

/** Prepares one text, which the server then names. */
function prepareOne(statements: PreparedStatements, text: string): Prepared {
  const [prepared] = prepare(statements, [text]);
  if (!prepared) throw new Error("It was not prepared");
  return prepared;
}

describe("PreparedStatements", () => {
  test("a text is prepared when it is seen for the second time", () => {
    const statements = new PreparedStatements(MAX);

    expect(statements.next("t_1", "select 1")).toBeUndefined();
    expect(statements.next("t_1", "select 1")?.text).toBe("/*t_1 1*/ select 1");
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

    expect(one?.text).toContain("t_1 ");
    expect(two?.text).toContain("t_2 ");
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

    expect(statements.takeSurplus(2)).toEqual(["name of t_1 b", "name of t_1 c"]);
    expect(statements.size).toBe(MAX);
    expect(statements.deallocated).toBe(2);
  });

  test("what was given up is prepared again under a text the driver does not know", () => {
    const statements = new PreparedStatements(1);
    const [first] = prepare(statements, ["a", "b"]);
    statements.takeSurplus(1);

    const [again] = prepare(statements, ["a"]);

    expect(again?.text).not.toBe(first?.text);
  });

  test("one on its way for the first time is not given up: the server has no name for it yet", () => {
    const statements = new PreparedStatements(1);
    statements.next("t_1", "on its way");
    statements.next("t_1", "on its way");
    prepare(statements, ["b"]);

    expect(statements.takeSurplus(1)).toEqual(["name of t_1 b"]);
  });

  test("of two names for one statement the server is told to drop the earlier", () => {
    const statements = new PreparedStatements(MAX);
    const prepared = prepareOne(statements, "a");
    prepare(statements, ["b", "c", "d"]);

    statements.keptAs(prepared, "second name");

    expect(statements.takeSurplus(1)).toEqual(["name of t_1 a"]);
    expect(prepared.name).toBe("second name");
    expect(statements.size).toBe(MAX);
  });

  test("a stale one is forgotten once, and the server told to drop it", () => {
    const statements = new PreparedStatements(MAX);
    const stale = prepareOne(statements, "a");
    prepare(statements, ["b", "c", "d"]);

    statements.forget(stale);
    statements.forget(stale);

    expect(statements.next("t_1", "a")).toBeUndefined();
    expect(statements.takeSurplus(0)).toEqual(["name of t_1 a"]);
  });

  test("forgetting an old one leaves the new one of the same text", () => {
    const statements = new PreparedStatements(MAX);
    const old = prepareOne(statements, "a");
    statements.forget(old);
    const fresh = prepareOne(statements, "a");

    statements.forget(old);

    expect(statements.next("t_1", "a")).toBe(fresh);
  });

  test("one whose name comes after it was forgotten is dropped, too", () => {
    const statements = new PreparedStatements(0);
    statements.next("t_1", "a");
    const prepared = statements.next("t_1", "a");
    if (!prepared) throw new Error("It was not prepared");
    statements.forget(prepared);

    statements.keptAs(prepared, "late name");

    expect(statements.takeSurplus(1)).toEqual(["late name"]);
  });
});
