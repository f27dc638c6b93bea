import { useState } from "react";
import { useLogoutIfAccessDenied, useNotify, useRefresh } from "react-admin";
import { wordsFor } from "../api/problem.ts";

/** How long a refusal stays: it may be long, and says what to do. */
const REFUSAL_MS = 12_000;

/**
 * Runs something that changes rows, says how it went and shows the rows anew. `run` gives whether it was done.
 */
export function useAction(): {
  readonly isRunning: boolean;
  readonly run: (work: () => Promise<unknown>, done?: string) => Promise<boolean>;
} {
  const [isRunning, setIsRunning] = useState(false);
  const notify = useNotify();
  const refresh = useRefresh();
  const logoutIfAccessDenied = useLogoutIfAccessDenied();

  async function run(work: () => Promise<unknown>, done?: string): Promise<boolean> {
    setIsRunning(true);
    try {
      await work();
      if (done !== undefined) notify(done, { type: "success" });
      refresh();
      return true;
    } catch (error) {
      const isLoggedOut = await logoutIfAccessDenied(error);
      if (!isLoggedOut) notify(wordsFor(error), { type: "error", autoHideDuration: REFUSAL_MS });
      return false;
    } finally {
      setIsRunning(false);
    }
  }
  return { isRunning, run };
}
