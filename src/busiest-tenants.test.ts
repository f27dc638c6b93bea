import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BusiestTenants } from "./busiest-tenants.ts";

const MINUTE_MS = 60_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("BusiestTenants", () => {
  test("tells of the last full minute, the busiest first, twenty at most", () => {
    const tenants = new BusiestTenants();
    for (let tenant = 1; tenant <= 30; tenant += 1) {
      for (let request = 0; request < tenant; request += 1) tenants.count(`tenant-${tenant}`);
    }

    expect(tenants.read()).toEqual([]);
    vi.advanceTimersByTime(MINUTE_MS);

    const told = tenants.read();
    expect(told).toHaveLength(20);
    expect(told[0]).toEqual({ tenant: "tenant-30", requests: 30 });
    expect(told.at(-1)).toEqual({ tenant: "tenant-11", requests: 11 });
  });

  test("forgets a minute when the next has passed", () => {
    const tenants = new BusiestTenants();
    tenants.count("acme");
    vi.advanceTimersByTime(3 * MINUTE_MS);

    expect(tenants.read()).toEqual([]);
  });

  test("counts so many tenants and no more", () => {
    const tenants = new BusiestTenants();
    for (let tenant = 0; tenant < 20_000; tenant += 1) tenants.count(`tenant-${tenant}`);
    tenants.count("tenant-0");
    vi.advanceTimersByTime(MINUTE_MS);

    expect(tenants.read()[0]).toEqual({ tenant: "tenant-0", requests: 2 });
  });
});
