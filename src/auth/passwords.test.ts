import bcrypt from "bcrypt";
import { afterEach, describe, expect, test, vi } from "vitest";
import { AppError } from "../errors.ts";
import { PasswordHasher } from "./passwords.ts";

const hasher = new PasswordHasher({ pepper: "a pepper of this test", cost: 4 });

/** bcrypt without its forms for callbacks. */
const library: { hash(password: string | Buffer, cost: string | number): Promise<string> } = bcrypt;

afterEach(() => vi.restoreAllMocks());

/** Makes bcrypt wait until it is told to go on; says how many hashes it has been asked for at once. */
function holdBcrypt(): { started: () => number; release: () => void } {
  const waiting: (() => void)[] = [];
  let started = 0;
  let isOpen = false;
  vi.spyOn(library, "hash").mockImplementation(async () => {
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
    const compare = vi.spyOn(bcrypt, "compare");
    const make = vi.spyOn(bcrypt, "hash");

    expect(await fresh.verify("wrong", known)).toBe(false);
    expect(await fresh.verify("wrong", hash)).toBe(false);

    expect(compare).toHaveBeenCalledTimes(2);
    expect(make).not.toHaveBeenCalled();
    const costs = compare.mock.calls.map(([, compared]) => bcrypt.getRounds(compared));
    expect(costs).toEqual([4, 4]);
  });

  test("the empty password is not what an account without one has", async () => {
    expect(await hasher.verify("", null)).toBe(false);
  });
});

describe("PasswordHasher.hash", () => {
  test("hashes two at a time, never more, and all in the end", async () => {
    const bcryptHeld = holdBcrypt();

    const hashes = Array.from({ length: 10 }, (_, index) => hasher.hash(`password ${index}`));
    await vi.waitFor(() => expect(bcryptHeld.started()).toBe(2));
    expect(hasher.load).toBe(10);

    bcryptHeld.release();
    await Promise.all(hashes);
    expect(bcryptHeld.started()).toBe(10);
    expect(hasher.load).toBe(0);
  });

  test("at no moment are three under way", async () => {
    let running = 0;
    let most = 0;
    const hash = library.hash.bind(library);
    vi.spyOn(library, "hash").mockImplementation(
      async (data: string | Buffer, cost: string | number) => {
        running += 1;
        most = Math.max(most, running);
        const hashed = await hash(data, cost);
        running -= 1;
        return hashed;
      },
    );

    await Promise.all(Array.from({ length: 40 }, () => hasher.hash("correct horse")));

    expect(most).toBe(2);
  });

  test("a hundred wait; one more is told to come back", async () => {
    const bcryptHeld = holdBcrypt();
    const hashes = Array.from({ length: 102 }, () => hasher.hash("correct horse"));

    const refusal = await hasher.hash("correct horse").catch((error: unknown) => error);

    expect(refusal).toBeInstanceOf(AppError);
    expect(refusal).toMatchObject({ code: "overloaded", statusCode: 503, retryAfterSeconds: 3 });
    bcryptHeld.release();
    await Promise.all(hashes);
    expect(await hasher.hash("correct horse")).toMatch(/^p1\$/);
  });

  test("a hash that fails gives its place back", async () => {
    vi.spyOn(bcrypt, "hash").mockRejectedValue(new Error("no memory"));

    const hashes = Array.from({ length: 6 }, () => hasher.hash("correct horse"));

    for (const result of await Promise.allSettled(hashes)) expect(result.status).toBe("rejected");
    expect(hasher.load).toBe(0);
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
