import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { TenantPlaces, type Visit } from "./tenant-places.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const ACME = 7;
const OTHER = 8;

/** Comes to the places of one tenant; `turns` tells what it was told later. */
function visitorsOf(places: TenantPlaces, key: number) {
  const turns: string[] = [];
  const enter = (name: string): Visit =>
    places.enter(key, (isAdmitted) => turns.push(`${name} ${isAdmitted ? "in" : "out"}`));
  return { enter, turns };
}

describe("TenantPlaces.enter", () => {
  test("lets in as many as there are places, of each tenant", () => {
    const places = new TenantPlaces(2);
    const acme = visitorsOf(places, ACME);

    expect([acme.enter("a"), acme.enter("b"), acme.enter("c")].map(({ answer }) => answer)).toEqual(
      ["admitted", "admitted", "pending"],
    );
    expect(visitorsOf(places, OTHER).enter("d").answer).toBe("admitted");
  });

  test("hands a place on to whoever has waited longest", () => {
    const { enter, turns } = visitorsOf(new TenantPlaces(2), ACME);
    const [first, second] = [enter("a"), enter("b")];
    const [third] = [enter("c"), enter("d")];

    first.leave();
    expect(turns).toEqual(["c in"]);
    second.leave();
    expect(turns).toEqual(["c in", "d in"]);
    third.leave();
    expect(enter("e").answer).toBe("admitted");
    expect(enter("f").answer).toBe("pending");
  });

  test("refuses who has waited for a second, and whoever comes when as many wait, after a second too", () => {
    const { enter, turns } = visitorsOf(new TenantPlaces(1), ACME);
    const first = enter("a");
    enter("waits");
    enter("too many");

    vi.advanceTimersByTime(999);
    expect(turns).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(turns).toEqual(["waits out", "too many out"]);

    first.leave();
    expect(turns).toHaveLength(2);
    expect(enter("b").answer).toBe("admitted");
  });

  test("holds a thousand refusals back and tells more at once", () => {
    const places = new TenantPlaces(1);
    const { enter, turns } = visitorsOf(places, ACME);
    enter("inside");
    enter("waits");
    const held = Array.from({ length: 1_000 }, (_, index) => enter(`${index}`));

    expect(new Set(held.map(({ answer }) => answer))).toEqual(new Set(["pending"]));
    expect(enter("one more").answer).toBe("refused");
    held[0]?.leave();
    expect(enter("instead").answer).toBe("pending");
    expect(enter("one more").answer).toBe("refused");
    vi.advanceTimersByTime(1_000);
    // The one that waited, those that were held, less the one that had left.
    expect(turns).toHaveLength(1 + 1_000);
    expect(enter("later").answer).toBe("pending");
  });

  test("whoever leaves before their turn is told nothing, and takes nobody's", () => {
    const { enter, turns } = visitorsOf(new TenantPlaces(1), ACME);
    const first = enter("a");
    const gone = enter("gone");
    gone.leave();
    enter("b");

    first.leave();
    vi.advanceTimersByTime(2_000);

    expect(turns).toEqual(["b in"]);
  });

  test("what follows a turn belongs to who waited for it, not to who made room", () => {
    const places = new TenantPlaces(1);
    const store = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const first = places.enter(ACME, () => undefined);
    store.run("the one who waits", () => places.enter(ACME, () => seen.push(store.getStore())));

    store.run("the one who leaves", () => first.leave());

    expect(seen).toEqual(["the one who waits"]);
  });
});
