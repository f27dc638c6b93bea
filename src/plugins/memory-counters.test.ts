import { describe, expect, test, vi } from "vitest";
import { MemoryCounters } from "./memory-counters.ts";

const HOUR_MS = 3_600_000;

describe("counters in memory", () => {
  test("count each key by itself", () => {
    const counters = new MemoryCounters();

    expect(counters.count("a", HOUR_MS, 5)).toEqual({ count: 1, ttlMs: HOUR_MS });
    expect(counters.count("a", HOUR_MS, 5).count).toBe(2);
    expect(counters.count("b", HOUR_MS, 5).count).toBe(1);
    expect(counters.count("a", HOUR_MS, 5).count).toBe(3);
  });

  test("go on past the limit, in the same window", () => {
    const counters = new MemoryCounters();

    const counted = Array.from({ length: 4 }, () => counters.count("a", HOUR_MS, 2));

    expect(counted.map(({ count }) => count)).toEqual([1, 2, 3, 4]);
    expect(counted[3]?.ttlMs).toBeLessThanOrEqual(HOUR_MS);
  });

  test("begin anew when the window, which the first count began, has ended", async () => {
    const counters = new MemoryCounters();
    counters.count("a", 100, 5);
    expect(counters.count("a", 100, 5).count).toBe(2);

    await vi.waitFor(() => expect(counters.count("a", 100, 5).count).toBe(1), { interval: 30 });
  });

  test("are as many as the bound allows, whatever number of keys is counted", () => {
    const counters = new MemoryCounters(100);

    for (let key = 0; key < 10_000; key += 1) counters.count(`flood ${key}`, HOUR_MS, 5);

    expect(counters.size).toBe(100);
  });

  test("of those near their limit stay when a flood of keys, counted once each, fills the memory", () => {
    const counters = new MemoryCounters(100);
    for (let tries = 0; tries < 5; tries += 1) counters.count("guesser", HOUR_MS, 5);

    for (let key = 0; key < 10_000; key += 1) counters.count(`flood ${key}`, HOUR_MS, 5);

    expect(counters.count("guesser", HOUR_MS, 5).count).toBe(6);
  });

  test("compare by the share of their limit: 3 of 5 outlast 20 of 200", () => {
    const counters = new MemoryCounters(2);
    for (let tries = 0; tries < 20; tries += 1) counters.count("visitor", HOUR_MS, 200);
    for (let tries = 0; tries < 3; tries += 1) counters.count("guesser", HOUR_MS, 5);

    counters.count("newcomer", HOUR_MS, 5);

    expect(counters.count("guesser", HOUR_MS, 5).count).toBe(4);
    expect(counters.size).toBe(2);
  });

  test("of past windows are forgotten while others are added, long before the memory is full", async () => {
    const counters = new MemoryCounters();
    for (let key = 0; key < 1_000; key += 1) counters.count(`old ${key}`, 20, 5);
    await new Promise((resolve) => setTimeout(resolve, 40));

    for (let key = 0; key < 1_000; key += 1) counters.count(`new ${key}`, HOUR_MS, 5);

    expect(counters.size).toBe(1_000);
  });
});
