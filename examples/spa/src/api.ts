import { createOuvira, OuviraError, tokensInStorage } from "@ouvira/client";

/** Where the API is; `npm run dev` of the repository serves this one. */
export const API_URL: string = import.meta.env["VITE_API_URL"] ?? "http://localhost:8000";

/** Of the tenant that this tab is about. */
const TENANT_KEY = "ouvira.tenant";

/** The tenant that links name (`?tenant=`) is that of the tab from then on; else the one built for. */
export const TENANT: string = tenantOfTab();

function tenantOfTab(): string {
  const named = new URL(location.href).searchParams.get("tenant");
  if (named !== null) sessionStorage.setItem(TENANT_KEY, named);
  return sessionStorage.getItem(TENANT_KEY) ?? import.meta.env["VITE_TENANT"] ?? "demo";
}

/** Where this tenant's login is kept, for all tabs. */
const LOGIN_KEY = `ouvira.login.${TENANT}`;

/** What to do when nobody is logged in any more; set once, at the start. */
let showLogin: () => void = () => undefined;

export const ouvira = createOuvira({
  baseUrl: API_URL,
  tenant: TENANT,
  // A login outlives a reload and is shared by tabs. The price: a script that gets into this page can
  // read it, so nothing here makes HTML from data, and nothing is loaded from elsewhere.
  tokens: tokensInStorage(localStorage, LOGIN_KEY),
  onLoggedOut: () => showLogin(),
});

/** Calls back when the login ends: by the API, or by the log-out in another tab. */
export function onLoginEnd(show: () => void): void {
  showLogin = show;
  window.addEventListener("storage", ({ key, newValue }) => {
    if (key === LOGIN_KEY && newValue === null) show();
  });
}

/** What to tell a person about a failure that is not about one field. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof OuviraError)) {
    return "The service cannot be reached. Check the connection and try again.";
  }
  const { code, detail, retryAfterSeconds, requestId } = error;
  if (retryAfterSeconds !== undefined) return `${detail} (in ${inWords(retryAfterSeconds)})`;
  if (code === "internal_error") return `${detail} Report it as ${requestId}.`;
  return detail;
}

function inWords(seconds: number): string {
  if (seconds < 120) return `${seconds} seconds`;
  return `${Math.ceil(seconds / 60)} minutes`;
}
