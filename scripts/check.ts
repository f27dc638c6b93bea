/** `npm run check`: everything a commit has to pass, each part to its end, then which failed. */
import { spawnSync } from "node:child_process";
import { ROOT_DIR } from "../src/paths.ts";

/** Quick ones first. `--no-tests` leaves the tests to a run of their own. */
const PARTS = ["format", "types", "lint", "dead-code", "openapi-check", "test"].filter(
  (part) => part !== "test" || !process.argv.includes("--no-tests"),
);

const failed = PARTS.filter((part) => {
  console.log(`\n── ${part}`);
  return (
    spawnSync("npm", ["run", "--silent", part], { cwd: ROOT_DIR, stdio: "inherit" }).status !== 0
  );
});

if (failed.length > 0) {
  console.error(`\nFailed: ${failed.join(", ")}`);
  process.exitCode = 1;
} else {
  console.log(`\nPassed: ${PARTS.join(", ")}`);
}
