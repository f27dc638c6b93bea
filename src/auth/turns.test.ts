import { describe, expect, test } from "vitest";
import { Turns } from "./turns.ts";

/** Work that lasts until it is ended, and says when it has begun. */
function pending(begun: string[], name: string) {
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const work = async () => {
    begun.push(name);
    await ended;
    return name;
  };
  return { work, end };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("turns", () => {
  test("let so many begin, and the next when one has ended, in order", async () => {
    const turns = new Turns({ underWayMax: 2, waitingMax: 10 });
    const begun: string[] = [];
    const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => pending(begun, name));
    const answers = [a, b, c, d].map((one) => turns.run("key", one?.work ?? (async () => "")));
    await settled();
    expect(begun).toEqual(["a", "b"]);

    b?.end();
    await settled();
    expect(begun).toEqual(["a", "b", "c"]);
    for (const one of [a, c, d]) one?.end();

    expect(await Promise.all(answers)).toEqual(["a", "b", "c", "d"]);
    expect(begun).toEqual(["a", "b", "c", "d"]);
  });

  test("of one key wait for nothing of another", async () => {
    const turns = new Turns({ underWayMax: 1, waitingMax: 10 });
    const begun: string[] = [];
    const slow = pending(begun, "slow");
    const answer = turns.run("one", slow.work);

    expect(await turns.run("other", async () => "done")).toBe("done");

    slow.end();
    await answer;
  });

  test("go on after a failure, and are forgotten when nothing is under way", async () => {
    const turns = new Turns({ underWayMax: 1, waitingMax: 10 });
    const fail = async () => {
      throw new RangeError("no");
    };

    const answers = await Promise.allSettled([
      turns.run("key", fail),
      turns.run("key", fail),
      turns.run("key", async () => "done"),
    ]);

    expect(answers.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
    expect(turns.size).toBe(0);
  });

  test("are refused when too many wait", async () => {
    const turns = new Turns({ underWayMax: 1, waitingMax: 1 });
    const begun: string[] = [];
    const slow = pending(begun, "slow");
    const answers = [turns.run("key", slow.work), turns.run("key", async () => "next")];

    await expect(turns.run("key", async () => "late")).rejects.toMatchObject({
      code: "overloaded",
    });

    slow.end();
    expect(await Promise.all(answers)).toEqual(["slow", "next"]);
  });
});
