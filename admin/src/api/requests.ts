import { operatorSession, sessionOf, type Tokens } from "./operator-session.ts";
import { ApiError, type Api, toApiError, unreachable } from "./problem.ts";
import { supportSession } from "./support-session.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** A token that ends this soon is exchanged before it is used. */
const REFRESH_BEFORE_MS = 20_000;

/**
 * Calls `/api/platform/<path>`; with the operator's token where somebody is logged in. An access token that has
 * ended is exchanged first.
 *
 * @returns the answer's body; undefined where it has none
 * @throws ApiError
 */
export async function callPlatform<T>(method: Method, path: string, body?: object): Promise<T> {
  const session = operatorSession.get();
  if (session && session.expiresAt - Date.now() < REFRESH_BEFORE_MS) await refresh();
  try {
    return await call<T>("platform", method, path, platformHeaders(), body);
  } catch (error) {
    // This machine's clock may be wrong: the server has the last word.
    if (!(error instanceof ApiError) || error.code !== "token_expired") throw error;
    await refresh();
    return call<T>("platform", method, path, platformHeaders(), body);
  }
}

const UNAUTHORIZED = 401;

/**
 * Calls `/api/<path>` of the tenant that the operator has stepped into. A token that is refused has ended,
 * whatever this machine's clock says.
 *
 * @throws ApiError
 */
export async function callTenant<T>(method: Method, path: string, body?: object): Promise<T> {
  const support = supportSession.get();
  if (!support) {
    throw new ApiError("tenant", UNAUTHORIZED, "no_support_session", "Step into a tenant first.");
  }
  const headers = { authorization: `Bearer ${support.access}`, "x-tenant": support.subdomain };
  try {
    return await call<T>("tenant", method, path, headers, body);
  } catch (error) {
    const isOver = error instanceof ApiError && error.status === UNAUTHORIZED;
    if (isOver && supportSession.get() === support)
      supportSession.set({ ...support, expiresAt: 0 });
    throw error;
  }
}

function platformHeaders(): Record<string, string> {
  const session = operatorSession.get();
  return session ? { authorization: `Bearer ${session.access}` } : {};
}

let refreshing: Promise<void> | undefined;

/** Exchanges the refresh token: once, however many calls found that the access token has ended. */
function refresh(): Promise<void> {
  refreshing ??= exchange().finally(() => (refreshing = undefined));
  return refreshing;
}

async function exchange(): Promise<void> {
  const session = operatorSession.get();
  if (!session) return;
  const { tokens } = await call<{ tokens: Tokens }>(
    "platform",
    "POST",
    "token/refresh/",
    {},
    { refresh: session.refresh },
  );
  // Somebody may have logged out while the answer was on its way.
  if (operatorSession.get() === session) operatorSession.set(sessionOf(tokens, session));
}

async function call<T>(
  api: Api,
  method: Method,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: object | undefined,
): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/${api === "platform" ? "platform/" : ""}${path}`, {
      method,
      headers: body === undefined ? headers : { ...headers, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw unreachable(api);
  }
  if (!response.ok) throw await toApiError(api, response);
  const text = await response.text();
  // What the OpenAPI document promises for this call; 204 and 205 have no body, and T is void there.
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
