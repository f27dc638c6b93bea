import { describe, expect, test } from "vitest";
import { Progress } from "./progress.ts";

/** What Progress writes to. */
function terminal(isTTY: boolean, columns = 40) {
  let text = "";
  const write = (chunk: string) => {
    text += chunk;
    return true;
  };
  // Of a stream Progress uses these three alone.
  const out = { isTTY, columns, write } as unknown as NodeJS.WriteStream;
  return { out, text: () => text };
}

describe("Progress", () => {
  test("is a line for each step where there is no terminal", () => {
    const { out, text } = terminal(false);
    const progress = new Progress({ out });

    progress.step(1, 2, "one: done");
    progress.say("two: a lock is held");
    progress.step(2, 2, "two: done");
    progress.end();

    expect(text()).toBe("1/2 one: done\ntwo: a lock is held\n2/2 two: done\n");
  });

  test("is one bar on a terminal, no wider than that, and gone at the end", () => {
    const { out, text } = terminal(true);
    const progress = new Progress({ out });

    progress.step(1, 2, "a name that is far too long for the line");
    progress.say("a line that stays");
    progress.step(2, 2, "two");
    progress.end();

    const clear = "\r\u001B[K";
    const [first = "", second = "", third = ""] = text().split(clear);
    expect(first).toBe("[############............] 1/2 a name t");
    expect(first.length).toBeLessThan(40);
    expect(second).toBe("a line that stays\n[########################] 2/2 two");
    expect(third).toBe("");
  });

  test("with --json says nothing where there is no terminal", () => {
    const { out, text } = terminal(false);
    const progress = new Progress({ isQuiet: true, out });

    progress.step(1, 1, "one");
    progress.say("a word");

    expect(text()).toBe("");
  });
});
