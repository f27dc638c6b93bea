import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ROOT_DIR } from "./paths.ts";

/** Runs a line of code with a StandardOutput at hand, in a process of its own. */
function run(code: string, stdout: "pipe" | number) {
  const text = `import { StandardOutput } from "./src/standard-output.ts"; const output = new StandardOutput(); ${code}`;
  return spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", text], {
    cwd: ROOT_DIR,
    stdio: ["ignore", stdout, "pipe"],
    env: { PATH: process.env["PATH"] ?? "" },
  });
}

describe("StandardOutput", () => {
  test("has written every line in order when the process ends, also what waited", async () => {
    const child = run(
      "for (let n = 0; n < 5000; n += 1) output.write(n + '\\n'); process.exit(0);",
      "pipe",
    );
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => (text += chunk.toString()));
    await once(child, "close");

    // What was being written when it ended is written once more.
    const all = Array.from({ length: 5_000 }, (_, n) => `${n}\n`).join("");
    expect(text.endsWith(all)).toBe(true);
  });

  test("on a full disk loses lines past its bound, throws nothing and lets the process end", async () => {
    const child = run(
      "for (let n = 0; n < 5; n += 1) output.write('x'.repeat(2 ** 20)); setTimeout(() => { console.error(output.lost); process.exit(0); }, 500);",
      openSync("/dev/full", "w"),
    );
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    await once(child, "close");

    expect(child.exitCode).toBe(0);
    expect(errors.trim()).toBe("1");
  });
});
