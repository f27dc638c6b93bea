import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { FastifyBaseLogger } from "fastify";

/** Whether the console can be shown, and if not, what to tell who waits for it. */
export type ConsoleBuildState =
  | { readonly name: "ready" }
  | { readonly name: "building" }
  | { readonly name: "failed"; readonly output: string };

/** What the console is made of, in its folder. */
const SOURCES = ["src", "index.html", "vite.config.ts", "package.json"] as const;

/** Characters kept of what a failed build said: its last screens. */
const OUTPUT_LENGTH_MAX = 20_000;

/**
 * Builds the console of a source tree when it is asked for: by Vite, in a process of its own, so that the API
 * neither waits for it nor loads it. However many ask at once, one build runs; one that failed is tried again
 * when a source has changed.
 */
export class ConsoleBuild {
  /** Run from source, with the packages of development. */
  static readonly isPossible = import.meta.filename.endsWith(".ts") && findVite() !== undefined;

  readonly #folder: string;
  readonly #log: FastifyBaseLogger;
  #child: ChildProcess | undefined;
  #failure: { readonly sourceTime: number; readonly output: string } | undefined;

  /** @param folder of the console's package; its build goes to `dist` there */
  constructor(folder: string, log: FastifyBaseLogger) {
    this.#folder = folder;
    this.#log = log;
  }

  /** How far it is; begins a build where one is needed. */
  state(): ConsoleBuildState {
    if (this.#child) return { name: "building" };
    const sourceTime = newestTime(SOURCES.map((name) => path.join(this.#folder, name)));
    if (newestTime([path.join(this.#folder, "dist", "index.html")]) >= sourceTime) {
      return { name: "ready" };
    }
    if (this.#failure?.sourceTime === sourceTime) {
      return { name: "failed", output: this.#failure.output };
    }
    this.#start(sourceTime);
    return { name: "building" };
  }

  /** Ends a build under way. */
  stop(): void {
    this.#child?.kill();
  }

  #start(sourceTime: number): void {
    this.#log.info("Building the console");
    const child = spawn(process.execPath, [findVite() ?? "", "build", "--logLevel", "warn"], {
      cwd: this.#folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    let output = "";
    const keep = (chunk: Buffer) =>
      (output = `${output}${chunk.toString()}`.slice(-OUTPUT_LENGTH_MAX));
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.once("error", (error) => (output += error.message));
    child.once("close", (code) => {
      this.#child = undefined;
      if (code === 0) {
        this.#failure = undefined;
        this.#log.info("The console is built");
      } else {
        this.#failure = { sourceTime, output };
        this.#log.error({ output }, "The console could not be built");
      }
    });
    this.#child = child;
  }
}

/** Vite's program, where it is installed. */
function findVite(): string | undefined {
  try {
    const manifest = createRequire(import.meta.url).resolve("vite/package.json");
    return path.join(path.dirname(manifest), "bin", "vite.js");
  } catch {
    return undefined;
  }
}

/** When the newest of these was changed, in ms; folders with all that is in them. 0 when there is none. */
function newestTime(names: readonly string[]): number {
  return Math.max(
    0,
    ...names
      .filter((name) => existsSync(name))
      .map((name) => {
        const stat = statSync(name);
        if (!stat.isDirectory()) return stat.mtimeMs;
        // The folder's own time tells of files that were removed.
        return Math.max(
          stat.mtimeMs,
          newestTime(readdirSync(name).map((entry) => path.join(name, entry))),
        );
      }),
  );
}
