import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { Script } from "node:vm";

export interface CompiledScript {
  readonly script: Script;
  /** What the module has exported. */
  readonly exports: Readonly<Record<string, unknown>>;
}

/** Where the code cache of a built module is. */
export function codeCacheOf(file: string): string {
  return `${file}.cache`;
}

/**
 * Runs a CommonJS module as `require` does, but with V8's code cache beside it, in which its functions are compiled
 * already: compiling them is a third of a start (docs/PERFORMANCE.md). A cache that is missing, or was made
 * by another version of Node or with other options of V8, is not used, and everything is compiled as usual.
 * https://nodejs.org/docs/latest-v20.x/api/vm.html#new-vmscriptcode-options
 *
 * @param file its path, absolute
 */
export function runCompiled(file: string): CompiledScript {
  const folder = path.dirname(file);
  // ASCII, as esbuild writes it: read as Latin-1 it needs no decoding and half of the memory.
  const body = readFileSync(file, "latin1");
  const script = new Script(
    `(function (exports, require, module, __filename, __dirname) {${body}\n})`,
    {
      filename: file,
      cachedData: readCache(codeCacheOf(file)),
    },
  );
  const module = { exports: {} };
  const run = script.runInThisContext() as (...given: unknown[]) => void;
  run.call(module.exports, module.exports, createRequire(file), module, file, folder);
  return { script, exports: module.exports };
}

function readCache(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}
