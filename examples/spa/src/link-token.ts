/**
 * The one-time token of a link that was sent (`…#token=…`). It leaves the address bar and the history
 * at once, and stays in this tab until it was used: people log in or sign up in between.
 */
export function linkToken(purpose: "invitation" | "password" | "email"): string | undefined {
  const key = `ouvira.link.${purpose}`;
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) {
    sessionStorage.setItem(key, token);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(key) ?? undefined;
}

/** Forgets it: it was used, or will not be taken any more. */
export function forgetLinkToken(purpose: "invitation" | "password" | "email"): void {
  sessionStorage.removeItem(`ouvira.link.${purpose}`);
}

/** Where to go on once somebody is logged in. */
export function pathAfterLogin(): string {
  return sessionStorage.getItem("ouvira.link.invitation") === null ? "/" : "/accept-invitation";
}
