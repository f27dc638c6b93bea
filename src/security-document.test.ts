import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT_DIR } from "./paths.ts";

const text = await readFile(path.join(ROOT_DIR, "docs/SECURITY.md"), "utf8");

/** How many requirements each section of ASVS 5.0.0 has, in the chapters the document answers. */
const REQUIREMENTS: Readonly<Record<string, number>> = {
  "6.1": 3,
  "6.2": 12,
  "6.3": 8,
  "6.4": 6,
  "6.5": 8,
  "6.6": 4,
  "6.7": 2,
  "6.8": 4,
  "7.1": 3,
  "7.2": 4,
  "7.3": 2,
  "7.4": 5,
  "7.5": 3,
  "7.6": 2,
  "9.1": 3,
  "9.2": 4,
};

const rows = [...text.matchAll(/^\| ([679]\.\d+\.\d+) .*$/gm)].map(([line, number = ""]) => {
  const [, , , , answer = "", shownBy = ""] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
  return { number, answer, shownBy };
});

const named = [...text.matchAll(/`(src\/[\w./-]+\.test\.ts)`: "([^"]+)"/g)].map(
  ([, file = "", name = ""]) => ({ file, name }),
);

/** Whether a file has a test of that name: `test("…", …)`, `test.each(…)("…", …)`, or a row of the latter. */
async function hasTest(file: string, name: string): Promise<boolean> {
  const source = await readFile(path.join(ROOT_DIR, file), "utf8").catch(() => "");
  const escaped = name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`((\\btest|\\))\\(|\\[)\\s*"${escaped}",`).test(source);
}

describe("docs/SECURITY.md", () => {
  test("answers every requirement of its chapters once, in order", () => {
    const expected = Object.entries(REQUIREMENTS).flatMap(([section, count]) =>
      Array.from({ length: count }, (_, index) => `${section}.${index + 1}`),
    );

    expect(rows.map(({ number }) => number)).toEqual(expected);
  });

  test("says of each whether it is met, and what shows it or why not", () => {
    const unclear = rows.filter(
      ({ answer, shownBy }) =>
        !/^(Met|Partly|Not met|Not applicable)\b/.test(answer) ||
        !(/\.test\.ts`: "/.test(shownBy) || shownBy === "this page" || answer.includes(":")),
    );

    expect(unclear).toEqual([]);
  });

  test("names tests that exist, in the files it names", async () => {
    expect(named.length).toBeGreaterThan(50);
    // Each mention of a test's file in the tables is followed by a test's name.
    const inTables = rows.flatMap(({ shownBy }) => shownBy.match(/\.test\.ts`/g) ?? []);
    expect(named).toHaveLength(inTables.length);

    const missing = [];
    for (const { file, name } of named)
      if (!(await hasTest(file, name))) missing.push({ file, name });

    expect(missing).toEqual([]);
  });

  test("would notice a test that is gone", async () => {
    const [first = { file: "", name: "" }] = named;

    expect(await hasTest(first.file, first.name)).toBe(true);
    expect(await hasTest(first.file, `${first.name}, or not`)).toBe(false);
    expect(await hasTest("src/no-such.test.ts", first.name)).toBe(false);
  });

  test("links to files that exist", async () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, link = ""]) => link);
    for (const link of links) await readFile(path.join(ROOT_DIR, "docs", link), "utf8");

    expect(links.length).toBeGreaterThan(1);
  });
});
