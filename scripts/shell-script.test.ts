import { describe, expect, test } from "vitest";
import { compile } from "./shell-script.ts";

describe("a script of the shell", () => {
  test.each([
    ["an expression", "1 + 1", 2],
    ["an expression with a semicolon behind it", "1 + 1;\n", 2],
    ["an object", "{ a: 1 }", { a: 1 }],
    ["what is awaited", "await Promise.resolve(3)", 3],
    ["the last of several lines", "const a = 1\nconst b = 2\na + b", 3],
    ["the last of several statements in a line", "let a = 1; a += 4; a", 5],
    [
      "a last statement of several lines",
      "const a = [3, 1, 2];\na\n  .toSorted()\n  .join()",
      "1,2,3",
    ],
    ["a last line that goes on with the one before", "const a = 1\n+ 2\na", 3],
    ["one in brackets behind a semicolon", "let a = [1];\n(a)[0]", 1],
    ["a text with a semicolon and a line in it", "const a = `1;\n2`;\na", "1;\n2"],
    ["what it returns by itself", "return 7", 7],
  ])("gives %s", async (_, script, value) => {
    expect(await compile(script)()).toEqual(value);
  });

  test.each([
    ["that ends in a declaration", "const a = 1"],
    ["whose last line goes on with the one before", "let a = 1\na = 2\n+ 3"],
    ["without a statement", ""],
  ])("%s is run", async (_, script) => {
    await expect(compile(script)()).resolves.not.toThrow();
  });

  test("that is none is refused before anything of it runs", () => {
    expect(() => compile("globalThis.hasRun = true; const (")).toThrow(SyntaxError);
    expect(globalThis).not.toHaveProperty("hasRun");
  });
});
