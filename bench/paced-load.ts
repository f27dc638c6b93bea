import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Requests sent in turn for some time: at a rate, or as many as are to be under way at once. */
export type Job = {
  /** As they go over the wire. */
  readonly requests: readonly string[];
  readonly seconds: number;
} & ({ readonly perSecond: number } | { readonly concurrency: number });

/** What became of the requests of a job, in the order in which they were answered. */
export interface Outcomes {
  /** 0: no answer. */
  readonly statuses: number[];
  /** From sending to the end of the answer. */
  readonly milliseconds: number[];
  /** From the first that was sent to the last that was answered. */
  seconds: number;
}

/** A client in a process of its own. */
export class PacedLoad {
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, "exit").then(() => {
      throw new Error("The client has ended");
    });
    // Told to whoever waits for outcomes then; nobody does after close().
    this.#ended.catch(() => undefined);
  }

  static async start(port: number): Promise<PacedLoad> {
    const program = fileURLToPath(new URL("./paced-load-process.ts", import.meta.url));
    const child = fork(program, [String(port)], { execArgv: ["--import", "tsx"] });
    await once(child, "message");
    return new PacedLoad(child);
  }

  /** Sends what the job says; one job at a time. */
  async run(job: Job): Promise<Outcomes> {
    const answered = once(this.#child, "message");
    this.#child.send(job);
    const [outcomes] = await Promise.race([answered, this.#ended]);
    // The other side's own type, which messages do not carry.
    return outcomes as Outcomes;
  }

  close(): void {
    this.#child.disconnect();
  }
}
