import { spawnSync } from "node:child_process";
import path from "node:path";
import { expect, test } from "vitest";

/** It builds the app, its document and the types from it: some 8 s of work. */
const TIMEOUT_MS = 180_000;

test(
  "the generated files are those of the routes: else run npm run client",
  { timeout: TIMEOUT_MS },
  () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--import", "tsx", "scripts/generate.ts", "--check"],
      { cwd: path.join(import.meta.dirname, ".."), encoding: "utf8" },
    );

    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  },
);
