import { Worker } from "node:worker_threads";
import { AppError } from "../errors.ts";
import { runnable } from "../paths.ts";

/** What is to be done: a comparison with a hash, or a new hash of a cost. */
export type HashJob =
  | { readonly password: string; readonly hash: string }
  | { readonly password: string; readonly cost: number };

/** Whether a password is that of a hash; a new hash. */
type HashResult = boolean | string;

/** Memory of a thread, in MB: it holds one small module and one job at a time. */
const MEMORY = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 };

/**
 * A thread that hashes, one job at a time. It is started by the first job and again by the one after it has ended,
 * for whatever reason. While it has nothing to do it does not keep the process.
 */
export class HashThread {
  #worker: Worker | undefined;

  /** @throws AppError `not_ready` when the thread ends before it has answered */
  async run(job: HashJob): Promise<HashResult> {
    const worker = (this.#worker ??= this.#start());
    worker.ref();
    try {
      return await resultOf(worker, job);
    } finally {
      worker.unref();
    }
  }

  /** Ends the thread; what it was at fails. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(runnable("src/auth/hash-worker.js"), {
      name: "hashing",
      resourceLimits: MEMORY,
      // Neither the settings with their secrets nor the options of the process are its business.
      env: {},
      execArgv: [],
    });
    worker.once("exit", () => {
      if (this.#worker === worker) this.#worker = undefined;
    });
    return worker;
  }
}

function resultOf(worker: Worker, job: HashJob): Promise<HashResult> {
  return new Promise((resolve, reject) => {
    let cause: unknown;
    const settle = (finish: () => void) => {
      worker.off("message", onMessage).off("error", onError).off("exit", onExit);
      finish();
    };
    const onMessage = (result: HashResult) => settle(() => resolve(result));
    const onError = (error: unknown) => (cause = error);
    const onExit = (code: number) => {
      cause ??= new Error(`The hashing thread ended with ${code}`);
      const detail = "The password could not be checked just now. Try again.";
      settle(() => reject(new AppError("not_ready", detail, { cause, retryAfterSeconds: 1 })));
    };
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, no window
    worker.postMessage(job);
  });
}
