import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { platform } from "node:os";
import { promisify } from "node:util";
import bcrypt from "bcrypt";
import { afterEach, describe, expect, test } from "vitest";
import { HashThread } from "./hash-thread.ts";

/** Threads of this process by their niceness (field 19 of proc(5)'s stat). */
function niceThreads(): number[] {
  return readdirSync("/proc/self/task").flatMap((id) => {
    try {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, "utf8").split(") ")[1]?.split(" ");
      const niceness = Number(stat?.[16]);
      return niceness > 0 ? [niceness] : [];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

const opened: HashThread[] = [];
function newThread(): HashThread {
  const thread = new HashThread();
  opened.push(thread);
  return thread;
}
afterEach(() => Promise.all(opened.splice(0).map((thread) => thread.close())));

describe("HashThread.run", () => {
  test("hashes and compares as bcrypt does", async () => {
    const thread = newThread();

    const hash = String(await thread.run({ password: "correct horse", cost: 4 }));

    expect(await bcrypt.compare("correct horse", hash)).toBe(true);
    expect(await thread.run({ password: "correct horse", hash })).toBe(true);
    expect(await thread.run({ password: "correct horsf", hash })).toBe(false);
  });

  test.runIf(platform() === "linux")("gives way to every other thread of the process", async () => {
    expect(niceThreads()).toEqual([]);

    await newThread().run({ password: "correct horse", cost: 4 });

    expect(niceThreads()).toEqual([10]);
  });

  test("says that a thread has ended under way, and the next job has a new one", async () => {
    const thread = newThread();
    await thread.run({ password: "until there is a thread", cost: 4 });
    const underWay = thread.run({ password: "correct horse", cost: 10 });
    const outcome = underWay.catch((error: unknown) => error);

    await thread.close();

    expect(await outcome).toMatchObject({ code: "not_ready", retryAfterSeconds: 1 });
    expect(await thread.run({ password: "correct horse", cost: 4 })).toMatch(/^\$2b\$04\$/);
  });

  test("a thread without a job does not keep a process from ending", async () => {
    const thread = JSON.stringify(new URL("./hash-thread.ts", import.meta.url).href);
    const program = `
      const { HashThread } = await import(${thread});
      console.log(await new HashThread().run({ password: "correct horse", cost: 4 }));`;
    const args = ["--import", "tsx", "--input-type=module", "--eval", program];

    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 });

    expect(stdout).toMatch(/^\$2b\$04\$/);
  });
});
