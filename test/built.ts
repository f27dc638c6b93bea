import path from "node:path";
import { inject } from "vitest";

/** What is built, as it is started by its path. */
export type Program =
  "src/server" | `scripts/${"check-deploy" | "create-operator" | "migrate" | "shell" | "tenant"}`;

/**
 * A program as `npm run build` makes it, which `test/global-setup.ts` has done once for the run: started from the
 * sources each of some hundred processes would take seconds to read and compile them.
 */
export function builtProgram(program: Program): string {
  return path.join(inject("builtDir"), `${program}.js`);
}
