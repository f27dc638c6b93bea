import { describe, expect, test } from "vitest";
import { FairQueue } from "./fair-queue.ts";

const anybody = () => true;

describe("FairQueue", () => {
  test("takes one of each in turn, and each one's in their order", () => {
    const queue = new FairQueue<string>();
    for (const job of ["a1", "a2", "a3", "b1", "c1", "b2"]) queue.push(job.slice(0, 1), job);

    const taken = Array.from({ length: 6 }, () => queue.take(anybody));

    expect(taken).toEqual(["a1", "b1", "c1", "a2", "b2", "a3"]);
    expect(queue.length).toBe(0);
    expect(queue.take(anybody)).toBeUndefined();
  });

  test("passes over who may not go, and they keep their turn", () => {
    const queue = new FairQueue<string>();
    for (const job of ["a1", "b1", "b2"]) queue.push(job.slice(0, 1), job);

    expect(queue.take((key) => key !== "a")).toBe("b1");
    expect(queue.take((key) => key === "c")).toBeUndefined();
    expect(queue.take(anybody)).toBe("a1");
    expect(queue.length).toBe(1);
  });

  test("a job put back goes before the others of its key", () => {
    const queue = new FairQueue<string>();
    queue.push("a", "a1");
    queue.unshift("a", "a0");
    queue.unshift("b", "b0");

    expect(queue.lengthOf("a")).toBe(2);
    expect(queue.takeAll()).toEqual(["a0", "a1", "b0"]);
    expect(queue.length).toBe(0);
  });

  test("gives up the newest job of who has the most, when that is more than was asked for", () => {
    const queue = new FairQueue<string>();
    for (const job of ["a1", "b1", "b2", "c1"]) queue.push(job.slice(0, 1), job);

    expect(queue.takeLastOfLongest(2)).toBeUndefined();
    expect(queue.takeLastOfLongest(1)).toBe("b2");
    expect(queue.takeLastOfLongest(0)).toBe("a1");
    expect(queue.length).toBe(2);
    expect(queue.takeAll()).toEqual(["b1", "c1"]);
  });
});
