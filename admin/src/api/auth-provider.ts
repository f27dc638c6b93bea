import type { AuthProvider } from "react-admin";
import { operatorSession } from "./operator-session.ts";
import { ApiError } from "./problem.ts";
import { callPlatform } from "./requests.ts";
import { supportSession } from "./support-session.ts";

/** Codes with which the platform says that a login is over. */
const ENDED = new Set([
  "authentication_required",
  "token_revoked",
  "token_expired",
  "refresh_reused",
]);

/** Who is logged in. The steps of a login are the login page's (login/login-page.tsx). */
export const authProvider: AuthProvider = {
  login: () => Promise.resolve(),
  async logout() {
    const isLoggedIn = operatorSession.get() !== undefined;
    supportSession.set(undefined);
    try {
      if (isLoggedIn) await callPlatform("POST", "logout/");
    } catch {
      // It has ended already, or ends by itself: nobody is kept logged in for it.
    } finally {
      operatorSession.set(undefined);
    }
  },
  async checkAuth() {
    if (!operatorSession.get()) throw new Error("Log in to go on.");
  },
  async checkError(error: unknown) {
    // In a tenant it is the support token that has ended, which its banner tells.
    const isOver = error instanceof ApiError && error.api === "platform" && ENDED.has(error.code);
    // Whoever asked logs out then, and says so.
    if (isOver) throw new Error("Your login has ended. Log in again.");
  },
  async getIdentity() {
    const email = operatorSession.get()?.email ?? "";
    return { id: email, fullName: email };
  },
};
