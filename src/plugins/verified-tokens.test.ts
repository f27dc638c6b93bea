import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { VerifiedTokens } from "./verified-tokens.ts";

const NOW = 1_800_000_000;
const claims = { nbf: NOW, exp: NOW + 60 };

beforeEach(() => void vi.useFakeTimers({ now: NOW * 1_000 }));
afterEach(() => void vi.useRealTimers());

describe("a token that was verified", () => {
  test("is known from its nbf until its exp, whatever the clock does in between", () => {
    const tokens = new VerifiedTokens<typeof claims>(10);
    tokens.keep("a.b.c", claims);

    const known = [-1, 0, 59, 60, 0].map((seconds) => {
      vi.setSystemTime((NOW + seconds) * 1_000);
      return tokens.get("a.b.c") === claims;
    });

    expect(known).toEqual([false, true, true, false, true]);
  });

  test("is known under itself alone", () => {
    const tokens = new VerifiedTokens<typeof claims>(10);
    tokens.keep("a.b.c", claims);

    expect(["a.b.C", "a.b.c ", "a.b", ""].map((token) => tokens.get(token))).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("gives way to newer ones", () => {
    const tokens = new VerifiedTokens<typeof claims>(2);
    for (const token of ["a", "b", "c"]) tokens.keep(token, claims);

    expect(["a", "b", "c"].map((token) => tokens.get(token) !== undefined)).toEqual([
      false,
      true,
      true,
    ]);
  });
});
