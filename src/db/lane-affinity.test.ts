import { describe, expect, test } from "vitest";
import { LaneAffinity } from "./lane-affinity.ts";

/** The lanes of tenants 1 to `count`. */
const lanesOf = (affinity: LaneAffinity, count: number) =>
  Array.from({ length: count }, (_, index) => affinity.laneOf(index + 1));

const tenantsPerLane = (lanes: readonly number[]) => {
  const counts = new Map<number, number>();
  for (const lane of lanes) counts.set(lane, (counts.get(lane) ?? 0) + 1);
  return [...counts.values()];
};

describe("a tenant's lane", () => {
  test("stays the same while others come and lanes are added", () => {
    const affinity = new LaneAffinity(32, 160);
    const before = lanesOf(affinity, 50);

    const later = lanesOf(affinity, 1_000);

    expect(affinity.used).toBe(32);
    expect(later.slice(0, 50)).toEqual(before);
  });

  test("is one of eight until those could not keep the statements of all", () => {
    const affinity = new LaneAffinity(32, 160);

    lanesOf(affinity, 80);
    expect(affinity.used).toBe(8);
    affinity.laneOf(81);

    expect(affinity.used).toBe(9);
    expect(affinity.laneOf(81)).toBe(8);
  });

  test("is as often one as another, with any number of tenants", () => {
    for (const count of [8, 80, 320, 1_000]) {
      const each = tenantsPerLane(lanesOf(new LaneAffinity(32, 160), count));

      expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(1);
    }
  });

  test("is the only one there is", () => {
    const affinity = new LaneAffinity(1, 1_500);

    expect(new Set(lanesOf(affinity, 1_000))).toEqual(new Set([0]));
  });

  test("is refused where there is none", () => {
    expect(() => new LaneAffinity(0, 1_500)).toThrow(RangeError);
  });
});
