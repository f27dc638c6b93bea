import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT_DIR } from "./paths.ts";

/** What the page changes, and what that needs to be compiled and tested. */
const COPIED = [
  "src",
  "scripts",
  "bench",
  "test",
  "docs",
  "migrations",
  "tenant-migrations",
  "package.json",
  "tsconfig.json",
  "vitest.config.ts",
];

/** Types and tests in a copy, with a PostgreSQL of its own, on a machine that does other things. */
const TIMEOUT_MS = 240_000;

const text = await readFile(path.join(ROOT_DIR, "docs/ADD-A-DOMAIN.md"), "utf8");

/** Files of the page: a path in a line of its own, then the file, or a diff of one that is there. */
const blocks = [...text.matchAll(/^`([\w./-]+)`\n\n```(\w+)\n([\s\S]*?)\n```$/gm)].map(
  ([, file = "", language = "", content = ""]) => ({ file, language, content }),
);

/**
 * Applies a diff without numbers of lines: what it keeps and removes is found in one piece, and `…` stands
 * for anything in a line. Hunks are parted by `@@`.
 *
 * @throws Error when a hunk fits nowhere
 */
function patch(before: string, diff: string): string {
  return diff.split("\n@@\n").reduce((current, hunk) => {
    const lines = hunk.split("\n");
    const pattern = lines
      .filter((line) => !line.startsWith("+"))
      .map((line) => line.slice(1).replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
      .join("\n")
      .replaceAll("…", ".*");
    const found = new RegExp(`^${pattern}$`, "m").exec(current);
    if (!found) throw new Error(`This fits nowhere:\n${hunk}`);
    const kept = found[0].split("\n");
    const after = lines.flatMap((line) => {
      if (line.startsWith("+")) return [line.slice(1)];
      const old = kept.shift() ?? "";
      return line.startsWith("-") ? [] : [old];
    });
    return (
      current.slice(0, found.index) +
      after.join("\n") +
      current.slice(found.index + found[0].length)
    );
  }, before);
}

let copy: string;

beforeAll(async () => {
  copy = await mkdtemp(path.join(tmpdir(), "ouvira-domain-"));
  for (const name of COPIED) {
    await cp(path.join(ROOT_DIR, name), path.join(copy, name), { recursive: true });
  }
  await symlink(path.join(ROOT_DIR, "node_modules"), path.join(copy, "node_modules"));
});
afterAll(async () => {
  await rm(copy, { recursive: true, force: true });
});

/** Runs a program of the project in the copy; gives what it printed. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    path.join(copy, "node_modules/.bin", program),
    args,
    {
      cwd: copy,
      env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", NO_COLOR: "1" },
      timeout: TIMEOUT_MS,
    },
  ).catch((error: unknown) => {
    const { stdout: said = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(" ")}\n${said}${stderr}`, { cause: error });
  });
  return stdout;
}

describe("docs/ADD-A-DOMAIN.md", () => {
  test(
    "done as it says, gives a domain that compiles and passes its tests and those of who may call it",
    async () => {
      for (const { file, language, content } of blocks) {
        const place = path.join(copy, file);
        if (language === "diff") {
          await writeFile(place, patch(await readFile(place, "utf8"), content));
        } else {
          await mkdir(path.dirname(place), { recursive: true });
          await writeFile(place, `${content}\n`, { flag: "wx" });
        }
      }

      expect(blocks.map(({ file }) => file)).toContain("src/projects/routes.ts");
      expect(await run("tsc", "--noEmit", "-p", "tsconfig.json")).toBe("");
      const tests = await run(
        "vitest",
        "run",
        "src/projects",
        "src/permissions.test.ts",
        "--testNamePattern",
        "projects|docs/PERMISSIONS",
      );
      // Its own; and of the permissions, what the document has to have and a test for each route.
      expect(tests).toMatch(/Test Files +2 passed/);
      expect(Number(/Tests +(\d+) passed/.exec(tests)?.[1])).toBeGreaterThanOrEqual(8 + 3 + 5);
    },
    TIMEOUT_MS,
  );

  test("a diff that fits nowhere would be noticed", () => {
    expect(patch("a\nb = 1;\nc", " a\n-b = …;\n+b = 2;")).toBe("a\nb = 2;\nc");
    expect(() => patch("a\nb\nc", " a\n+d\n c")).toThrow("fits nowhere");
  });

  test("links to files that exist", async () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link = ""]) => link);
    for (const link of links) await readFile(path.join(ROOT_DIR, "docs", link), "utf8");

    expect(links).toContain("PERMISSIONS.md");
  });
});
