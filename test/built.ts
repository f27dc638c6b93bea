import path from "node:path";
import { inject } from "vitest";
import type { OPERATOR_COMMANDS } from "../scripts/operator-commands.ts";

/** What is built, as it is started by its path. */
type Program = "src/server" | `scripts/${(typeof OPERATOR_COMMANDS)[number]}`;

/**
 * A program as `npm run build` makes it, which `test/global-setup.ts` has done once for the run: started from the
 * sources each of some hundred processes would take seconds to read and compile them.
 */
export function builtProgram(program: Program): string {
  return path.join(inject("builtDir"), `${program}.js`);
}
