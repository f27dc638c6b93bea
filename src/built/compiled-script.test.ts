import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { codeCacheOf, runCompiled } from "./compiled-script.ts";

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "ouvira-compiled-"));
  file = path.join(folder, "module.cjs");
  await writeFile(
    file,
    `const path = require("node:path");
     exports.sum = (a, b) => a + b;
     exports.where = [path.basename(__filename), path.basename(__dirname), this === exports, module.exports === exports];`,
  );
});
afterEach(() => rm(folder, { recursive: true }));

const expected = () => ["module.cjs", path.basename(folder), true, true];

/** Writes the code cache of the module, after its function was compiled. */
async function makeCache(): Promise<void> {
  const { script, exports } = runCompiled(file);
  (exports["sum"] as (a: number, b: number) => number)(1, 2);
  await writeFile(codeCacheOf(file), script.createCachedData());
}

describe("a compiled script", () => {
  test("runs as require runs it, with and without its code cache, which is used", async () => {
    const before = runCompiled(file);
    await makeCache();
    const after = runCompiled(file);

    expect(before.exports["where"]).toEqual(expected());
    expect(before.script.cachedDataRejected).toBeUndefined();
    expect(after.exports["where"]).toEqual(expected());
    expect(after.script.cachedDataRejected).toBe(false);
  });

  test("does not use a cache of other source", async () => {
    await makeCache();
    await writeFile(file, `exports.where = "elsewhere, and longer or shorter than before";`);

    const { script, exports } = runCompiled(file);

    expect(script.cachedDataRejected).toBe(true);
    expect(exports["where"]).toBe("elsewhere, and longer or shorter than before");
  });

  test("does not use what is no cache", async () => {
    await writeFile(codeCacheOf(file), "no code");

    const { script, exports } = runCompiled(file);

    expect(script.cachedDataRejected).toBe(true);
    expect(exports["where"]).toEqual(expected());
  });
});
