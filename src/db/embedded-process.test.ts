import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findProcess, findWithPs, isRunning, ownIdentity, withLock } from "./embedded-process.ts";

let folder: string;
let lock: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "ouvira-lock-"));
  lock = join(folder, "a.lock");
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe("findProcess", () => {
  // Linux reads /proc, the other Unixes ask ps: both must tell the same.
  test.each([
    ["the system's way", findProcess],
    ["ps", findWithPs],
  ])("by %s knows a process by pid and start, and none that has ended", async (_way, find) => {
    const child = spawn("sleep", ["600"]);
    await once(child, "spawn");
    const pid = child.pid ?? 0;

    const found = await find(pid);

    expect(found).toMatchObject({ pid, commandLine: "sleep 600 " });
    expect(await find(pid)).toEqual(found);
    child.kill();
    await once(child, "exit");
    expect(await find(pid)).toBeUndefined();
  });
});

describe("isRunning", () => {
  test("tells a process from an earlier one of the same pid", async () => {
    const own = await ownIdentity();

    expect(await isRunning(own)).toBe(true);
    expect(await isRunning({ ...own, startedAt: "1" })).toBe(false);
  });
});

describe("withLock", () => {
  test("lets one in at a time, and everybody in the end", async () => {
    let inside = 0;
    let entered = 0;

    await Promise.all(
      Array.from({ length: 12 }, () =>
        withLock(lock, 30_000, async () => {
          inside += 1;
          entered += 1;
          await readdir(folder);
          expect(inside).toBe(1);
          inside -= 1;
        }),
      ),
    );

    expect(entered).toBe(12);
    expect(await readdir(folder)).toEqual([]);
  });

  test("passes over what a dead process left, and waits for a living one for so long", async () => {
    const { pid, startedAt } = await ownIdentity();
    await writeFile(`${lock}-${pid}-1-dead`, "");

    expect(await withLock(lock, 0, async () => "in")).toBe("in");

    await writeFile(`${lock}-${pid}-${startedAt}-alive`, "");
    await expect(withLock(lock, 0, async () => "in")).rejects.toThrow(
      `Process ${pid} has held the lock ${lock} for 0 s: end it, and try again.`,
    );
  });

  test("is free again after work that failed", async () => {
    const failing = withLock(lock, 0, async () => {
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");

    expect(await withLock(lock, 0, async () => "in")).toBe("in");
  });
});
