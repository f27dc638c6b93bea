import createFetchClient, { type HeadersOptions, mergeHeaders } from "openapi-fetch";
import type { HttpMethod } from "openapi-typescript-helpers";
import type { Call, CallInit } from "./calls.ts";
import { errorOf, type ErrorCode, OuviraError, UnexpectedAnswerError } from "./errors.ts";
import { Login, type Tokens } from "./login.ts";
import { PUBLIC_OPERATIONS } from "./public-operations.ts";
import type { paths } from "./schema.ts";
import { type KeptTokens, tokensInMemory, type TokenStore } from "./tokens.ts";

export { OuviraError, UnexpectedAnswerError } from "./errors.ts";
export type { ErrorCode, Problem } from "./errors.ts";
export type { Tokens } from "./login.ts";
export { tokensInMemory, tokensInStorage } from "./tokens.ts";
export type { KeptTokens, KeyValueStorage, TokenStore } from "./tokens.ts";
export type { components, operations, paths } from "./schema.ts";

export interface OuviraOptions {
  /** Where the API is, such as `https://api.example.com`. */
  readonly baseUrl: string;
  /** The tenant's subdomain, sent as `X-Tenant`. Not needed where `baseUrl` names the tenant. */
  readonly tenant?: string | undefined;
  /** Where the login is kept. Default: in memory, until the page is left. */
  readonly tokens?: TokenStore;
  /**
   * Nobody is logged in, or no longer: show the page to log in. Called when the API has ended the login
   * (once), and when a call that needs one was made without; not by `logOut`.
   */
  readonly onLoggedOut?: (reason: OuviraError) => void;
  /** True for operators of the platform: the login is that of `/api/platform/`. */
  readonly isOperator?: boolean;
  /** Instead of the runtime's own: to look at headers of answers, say. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

/** The API, as one tenant's user sees it. */
export interface Ouvira {
  readonly GET: Call<"get">;
  readonly POST: Call<"post">;
  readonly PUT: Call<"put">;
  readonly PATCH: Call<"patch">;
  readonly DELETE: Call<"delete">;
  /** Begins a login with what logging in, its second step or finishing a sign-up answered. */
  keepTokens(tokens: Tokens): Promise<void>;
  isLoggedIn(): Promise<boolean>;
  /**
   * Ends the login. The tokens are forgotten whatever happens.
   *
   * @throws when the API could not be told, in which case the login lives on there
   */
  logOut(): Promise<void>;
}

/** How long a refresh may take: other calls, and other tabs, wait for it. */
const REFRESH_TIMEOUT_MS = 15_000;

/** What says to a call with tokens that no later one will be taken. */
const ENDING_CODES: ReadonlySet<ErrorCode> = new Set([
  "authentication_required",
  "token_revoked",
  "token_tenant_mismatch",
  "account_disabled",
]);

/**
 * A client of one tenant. It sends tenant and token, exchanges the refresh token when the access token
 * has expired (once, however many calls wait for it) and then sends those calls again.
 */
export function createOuvira(options: OuviraOptions): Ouvira {
  const { baseUrl, tenant, isOperator = false, tokens = tokensInMemory() } = options;
  const http = createFetchClient<paths>({
    baseUrl,
    headers: { "X-Tenant": tenant },
    bodySerializer: (body: unknown) => (isSentAsItIs(body) ? body : JSON.stringify(body)),
    fetch: options.fetch ?? ((request) => globalThis.fetch(request)),
  });
  // What is sent to which path was checked by the types of `Call`.
  const request = http.request as (
    method: HttpMethod,
    path: string,
    init: object,
  ) => Promise<{ data?: Blob; error?: unknown; response: Response }>;

  async function send(
    method: HttpMethod,
    path: string,
    init: CallInit,
    access?: string,
  ): Promise<unknown> {
    const { body } = init;
    const { data, error, response } = await request(method, path, {
      ...init,
      headers: mergeHeaders(
        body instanceof Blob ? { "Content-Type": body.type } : {},
        access === undefined ? {} : { Authorization: `Bearer ${access}` },
        // What openapi-fetch takes as headers.
        init.headers as HeadersOptions,
      ),
      parseAs: "blob",
      ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
    });
    if (!response.ok) throw errorOf(error, response);
    return data && read(data, response);
  }

  const login = new Login({
    store: tokens,
    lockName: `ouvira ${baseUrl} ${isOperator ? "/api/platform/" : (tenant ?? "")}`,
    onLoggedOut: options.onLoggedOut ?? (() => undefined),
    exchange: async (refresh) => {
      const init = { body: { refresh }, signal: AbortSignal.timeout(REFRESH_TIMEOUT_MS) };
      // What the document promises of the two.
      if (!isOperator) return (await send("post", "/api/auth/token/refresh/", init)) as Tokens;
      const answer = await send("post", "/api/platform/token/refresh/", init);
      return (answer as { tokens: Tokens }).tokens;
    },
  });

  async function call(method: HttpMethod, path: string, init: CallInit = {}): Promise<unknown> {
    if (PUBLIC_OPERATIONS.has(`${method} ${path}`)) return send(method, path, init);
    const sent = await login.current();
    try {
      return await sendAs(sent, method, path, init);
    } catch (error) {
      const isOver = error instanceof OuviraError && ENDING_CODES.has(error.code);
      if (isOver) await login.end(sent, error);
      throw error;
    }
  }

  /** Sends a call with a login; where its token has expired, once more with the next. */
  async function sendAs(
    sent: KeptTokens | undefined,
    method: HttpMethod,
    path: string,
    init: CallInit,
  ): Promise<unknown> {
    try {
      return await send(method, path, init, sent?.access);
    } catch (error) {
      const isExpired = error instanceof OuviraError && error.code === "token_expired";
      const next = isExpired && sent && (await login.after(sent));
      // A stream has been read by now.
      if (!next || init.body instanceof ReadableStream) throw error;
      return send(method, path, init, next.access);
    }
  }

  const calling = <Method extends HttpMethod>(method: Method): Call<Method> =>
    // One function does what the type says for each path.
    ((path: string, init?: CallInit) => call(method, path, init)) as Call<Method>;

  return {
    GET: calling("get"),
    POST: calling("post"),
    PUT: calling("put"),
    PATCH: calling("patch"),
    DELETE: calling("delete"),
    keepTokens: async (begun) => {
      await login.keep(begun);
    },
    isLoggedIn: async () => (await tokens.read()) !== undefined,
    logOut: async () => {
      try {
        const kept = await login.current();
        if (!kept) return;
        const init = isOperator ? {} : { body: { refresh: kept.refresh } };
        const path = isOperator ? "/api/platform/logout/" : "/api/auth/logout/";
        await sendAs(kept, "post", path, init);
      } catch (error) {
        // A login that is refused has ended already.
        if (!(error instanceof OuviraError && error.status === 401)) throw error;
      } finally {
        await login.forget();
      }
    },
  };
}

/** What an answer says. @throws UnexpectedAnswerError when it is no answer of the API */
async function read(data: Blob, { status, headers }: Response): Promise<unknown> {
  const type = headers.get("content-type") ?? "";
  if (data.size === 0) return undefined;
  // The API answers no pages: a proxy does, or a network that wants its terms accepted.
  if (type.startsWith("text/html")) throw new UnexpectedAnswerError(status);
  return type.startsWith("application/json") ? JSON.parse(await data.text()) : data;
}

/** Bodies that `fetch` takes as they are, and that are no JSON. */
function isSentAsItIs(body: unknown): boolean {
  return (
    body instanceof Blob ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) ||
    body instanceof ReadableStream ||
    body instanceof FormData
  );
}
