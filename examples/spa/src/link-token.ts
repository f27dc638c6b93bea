import { OuviraError } from "@ouvira/client";

/** What links are for. */
type Purpose = "invitation" | "password" | "email";

/**
 * The one-time token of a link that was sent (`…#token=…`). It leaves the address bar and the history
 * at once, and stays in this tab until it was used: people log in or sign up in between.
 */
export function linkToken(purpose: Purpose): string | undefined {
  const key = `ouvira.link.${purpose}`;
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) {
    sessionStorage.setItem(key, token);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(key) ?? undefined;
}

/** Forgets it: it was used, or will not be taken any more. */
export function forgetLinkToken(purpose: Purpose): void {
  sessionStorage.removeItem(`ouvira.link.${purpose}`);
}

/** Whether a refusal says that a link will not be taken later either: not the network, nor a limit. */
export function isOver(error: unknown): boolean {
  return error instanceof OuviraError && ["invalid_token", "conflict"].includes(error.code);
}

/** Where to go on once somebody is logged in. */
export function pathAfterLogin(): string {
  return sessionStorage.getItem("ouvira.link.invitation") === null ? "/" : "/accept-invitation";
}
