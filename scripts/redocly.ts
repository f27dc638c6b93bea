import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { ROOT_DIR } from "../src/paths.ts";

/** The longest that one of its commands may take, on a machine that is busy with tests. */
const TIMEOUT_MS = 300_000;

/** What it writes about one document at the most: each change of it as an object. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Runs a command of Redocly's CLI, which asks nobody on the network. Its report is what it writes to standard
 * output; standard error has a banner about Node's version in every run, so it is shown only when there is no report.
 *
 * @throws Error when it ended without a report
 */
export function runRedocly(...options: readonly string[]): {
  readonly isGood: boolean;
  readonly report: string;
} {
  const cli = path.join(
    path.dirname(createRequire(import.meta.url).resolve("@redocly/cli/package.json")),
    "bin",
    "cli.js",
  );
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [cli, ...options], {
    cwd: ROOT_DIR,
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    maxBuffer: OUTPUT_BYTES_MAX,
    env: {
      ...process.env,
      REDOCLY_TELEMETRY: "off",
      REDOCLY_SUPPRESS_UPDATE_NOTICE: "true",
    },
  });
  if (error) throw error;
  if (status !== 0 && stdout.trim() === "") {
    throw new Error(`redocly ${options.join(" ")} failed: ${stderr.trim()}`);
  }
  return { isGood: status === 0, report: stdout };
}
