import bcrypt from "bcrypt";
import { afterEach, describe, expect, test, vi } from "vitest";
import { AppError } from "../errors.ts";
import { HashThread } from "./hash-thread.ts";
import { PasswordHasher } from "./passwords.ts";

const hasher = new PasswordHasher({ pepper: "a pepper of this test", cost: 4 });

afterEach(() => vi.restoreAllMocks());

/** Makes threads wait until they are told to go on; says how many jobs they have been given. */
function holdThreads(): { started: () => number; release: () => void } {
  const waiting: (() => void)[] = [];
  let started = 0;
  let isOpen = false;
  vi.spyOn(HashThread.prototype, "run").mockImplementation(async () => {
    started += 1;
    if (!isOpen) await new Promise<void>((resolve) => waiting.push(resolve));
    return "$2b$04$hash";
  });
  return {
    started: () => started,
    release: () => {
      isOpen = true;
      for (const resume of waiting) resume();
    },
  };
}

/** What became of hashes, once each has ended. */
async function codesOf(hashes: readonly Promise<unknown>[]): Promise<string[]> {
  const results = await Promise.allSettled(hashes);
  return results.map((result) =>
    result.status === "fulfilled"
      ? "done"
      : result.reason instanceof AppError
        ? result.reason.code
        : String(result.reason),
  );
}

describe("PasswordHasher.verify", () => {
  test("says yes to the password that was hashed and to no other", async () => {
    const hash = await hasher.hash("correct horse");

    expect(await hasher.verify("correct horse", hash)).toBe(true);
    expect(await hasher.verify("correct horsf", hash)).toBe(false);
    expect(await hasher.verify("", hash)).toBe(false);
  });

  test.each([
    ["Latin letters", "a"],
    ["Arabic letters", "ب"],
    ["signs of two UTF-16 units", "🙂"],
  ])("all 128 characters count: %s", async (_, character) => {
    const password = character.repeat(128);
    const hash = await hasher.hash(password);

    expect(await hasher.verify(password, hash)).toBe(true);
    expect(await hasher.verify(`${character.repeat(127)}x`, hash)).toBe(false);
  });

  test("what follows a NUL counts", async () => {
    const hash = await hasher.hash("before\u0000after");

    expect(await hasher.verify("before\u0000after", hash)).toBe(true);
    expect(await hasher.verify("before\u0000other", hash)).toBe(false);
    expect(await hasher.verify("before", hash)).toBe(false);
  });

  test("two ways to write the same characters are one password (NFKC)", async () => {
    const hash = await hasher.hash("caf\u00e9 \ufb01sh");

    expect(await hasher.verify("cafe\u0301 fish", hash)).toBe(true);
    expect(await hasher.verify("cafe fish", hash)).toBe(false);
  });

  test("a hash made with another pepper verifies nothing", async () => {
    const other = new PasswordHasher({ pepper: "another pepper", cost: 4 });

    expect(await other.verify("correct horse", await hasher.hash("correct horse"))).toBe(false);
  });

  test.each([
    ["no account", undefined],
    ["an account without a password", null],
  ])("%s costs one comparison, as an account with one does", async (_, hash) => {
    const fresh = new PasswordHasher({ pepper: "a pepper of this test", cost: 4 });
    await fresh.verify("the decoy is made", hash);
    const known = await fresh.hash("correct horse");
    const run = vi.spyOn(HashThread.prototype, "run");

    expect(await fresh.verify("wrong", known)).toBe(false);
    expect(await fresh.verify("wrong", hash)).toBe(false);

    const jobs = run.mock.calls.map(([job]) => job);
    expect(jobs).toHaveLength(2);
    expect(jobs.map((job) => "hash" in job && bcrypt.getRounds(job.hash))).toEqual([4, 4]);
  });

  test("the empty password is not what an account without one has", async () => {
    expect(await hasher.verify("", null)).toBe(false);
  });
});

describe("PasswordHasher.hash", () => {
  test("hashes two at a time, never more, and all in the end", async () => {
    const threads = holdThreads();

    const hashes = Array.from({ length: 10 }, (_, index) => hasher.hash(`password ${index}`));
    expect(threads.started()).toBe(2);
    expect(hasher.load).toBe(10);

    threads.release();
    await Promise.all(hashes);
    expect(threads.started()).toBe(10);
    expect(hasher.load).toBe(0);
  });

  test("at no moment are three under way", async () => {
    let running = 0;
    let most = 0;
    // oxlint-disable-next-line typescript/unbound-method -- called with its thread below
    const { run } = HashThread.prototype;
    vi.spyOn(HashThread.prototype, "run").mockImplementation(async function (
      this: HashThread,
      job,
    ) {
      running += 1;
      most = Math.max(most, running);
      const result = await run.call(this, job);
      running -= 1;
      return result;
    });

    const hashes = Array.from({ length: 40 }, () => hasher.hash("correct horse"));

    expect(await codesOf(hashes)).toEqual(hashes.map(() => "done"));
    expect(most).toBe(2);
  });

  test("a hundred wait; one more is told to come back", async () => {
    const threads = holdThreads();
    const hashes = Array.from({ length: 102 }, () => hasher.hash("correct horse"));

    const refusal = await hasher.hash("correct horse").catch((error: unknown) => error);

    expect(refusal).toBeInstanceOf(AppError);
    expect(refusal).toMatchObject({ code: "overloaded", statusCode: 503, retryAfterSeconds: 3 });
    threads.release();
    await Promise.all(hashes);
    expect(await hasher.hash("correct horse")).toMatch(/^p1\$/);
  });

  test("a tenant that fills the queue is refused for another that comes, and they take turns", async () => {
    const threads = holdThreads();
    const ended: string[] = [];
    const flood = Array.from({ length: 102 }, () =>
      hasher.hash("one of many", 1).then(() => ended.push("flood")),
    );

    const others = [2, 3].map((tenant) =>
      hasher.hash("the only one", tenant).then(() => ended.push("other")),
    );

    // Those of the flood that came last have given way, and nobody else.
    expect(hasher.load).toBe(102);
    const floodEnded = codesOf(flood);
    threads.release();
    expect(await floodEnded).toEqual([
      ...Array.from({ length: 100 }, () => "done"),
      "overloaded",
      "overloaded",
    ]);
    expect(await codesOf(others)).toEqual(["done", "done"]);
    // Two were under way, and one of the flood was first in turn.
    expect(ended.slice(0, 6).filter((whose) => whose === "other")).toHaveLength(2);
  });

  test("a tenant with as many waiting as any other drives nobody out", async () => {
    const threads = holdThreads();
    const first = Array.from({ length: 52 }, () => hasher.hash("correct horse", 1));
    const second = Array.from({ length: 50 }, () => hasher.hash("correct horse", 2));

    const refusal = await hasher.hash("correct horse", 2).catch((error: unknown) => error);

    expect(refusal).toMatchObject({ code: "overloaded" });
    threads.release();
    expect(new Set(await codesOf([...first, ...second]))).toEqual(new Set(["done"]));
  });

  test("a hash that fails gives its place back", async () => {
    vi.spyOn(HashThread.prototype, "run").mockRejectedValue(new Error("no memory"));

    const hashes = Array.from({ length: 6 }, () => hasher.hash("correct horse"));

    expect(await codesOf(hashes)).toEqual(hashes.map(() => "Error: no memory"));
    expect(hasher.load).toBe(0);
  });
});

describe("PasswordHasher.close", () => {
  test("refuses what waits, ends what is under way, and nothing hangs", async () => {
    const closing = new PasswordHasher({ pepper: "a pepper of this test", cost: 10 });
    await closing.hash("until there is a thread");
    const ended = codesOf(Array.from({ length: 8 }, () => closing.hash("correct horse")));

    await closing.close();

    const codes = await ended;
    expect(codes.slice(2)).toEqual(Array.from({ length: 6 }, () => "not_ready"));
    expect(closing.load).toBe(0);
    expect(await codesOf([closing.hash("too late")])).toEqual(["not_ready"]);
  });
});

describe("PasswordHasher.isOutdated", () => {
  test("is true for another cost than the present one", async () => {
    const dearer = new PasswordHasher({ pepper: "a pepper of this test", cost: 5 });
    const hash = await hasher.hash("correct horse");

    expect(hasher.isOutdated(hash)).toBe(false);
    expect(dearer.isOutdated(hash)).toBe(true);
    expect(await dearer.verify("correct horse", hash)).toBe(true);
  });
});
