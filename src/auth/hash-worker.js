/**
 * What a thread of `hash-thread.ts` runs. JavaScript, so that Node starts the same file whether the service runs from
 * its source or from what was built of it.
 */
import { readlinkSync } from "node:fs";
import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import bcrypt from "bcrypt";

/** @import { HashJob } from "./hash-thread.ts" */

/**
 * How much this thread gives way to others that want a core (nice(7): 0 is usual, 19 the most). Beside two threads that
 * hash, the event loop waited 147 µs for a core each time at 0, 8 at 10 and 6 at 19; at 10 hashing still gets a tenth of
 * a core that others keep busy, at 19 a seventieth (docs/benchmarks/fairness.md).
 */
const NICENESS = 10;

/**
 * Lets the event loop and the database come first. Linux counts niceness by thread and calls this one by a number of
 * its own; elsewhere, and where /proc is not this process's own, hashing goes on without.
 */
function giveWay() {
  try {
    const [pid, , thread] = readlinkSync("/proc/thread-self").split("/").map(Number);
    if (pid === process.pid && thread) setPriority(thread, NICENESS);
  } catch {
    // Not Linux, or no /proc.
  }
}

/** @param {HashJob} job */
function work(job) {
  return "hash" in job
    ? bcrypt.compareSync(job.password, job.hash)
    : bcrypt.hashSync(job.password, job.cost);
}

giveWay();
// What fails ends the thread, and whoever waits for the answer is told why.
parentPort?.on("message", (/** @type {HashJob} */ job) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, no window
  parentPort?.postMessage(work(job));
});
