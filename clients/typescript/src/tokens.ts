/** The tokens of a login, with the time until which the access token is good, in ms since 1970. */
export interface KeptTokens {
  readonly access: string;
  readonly refresh: string;
  readonly expiresAt: number;
}

/** Where the tokens of the one login are kept. May answer at once or later. */
export interface TokenStore {
  read(): KeptTokens | undefined | Promise<KeptTokens | undefined>;
  /** Undefined takes them away. */
  write(tokens: KeptTokens | undefined): void | Promise<void>;
}

/** In this object alone: a reload, or another tab, has to log in again. No other page can read them. */
export function tokensInMemory(): TokenStore {
  let kept: KeptTokens | undefined;
  return {
    read: () => kept,
    write: (tokens) => {
      kept = tokens;
    },
  };
}

/** `localStorage`, `sessionStorage`, or what works like them. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/**
 * In `localStorage` (all tabs of the origin, until somebody logs out) or `sessionStorage` (one tab, until
 * it is closed). What it risks: every script that runs on a page of this origin, a dependency or an
 * injected one included, can read the refresh token and use it elsewhere until the login ends.
 *
 * @param key one for each tenant: tokens of one are refused by another
 */
export function tokensInStorage(storage: KeyValueStorage, key: string): TokenStore {
  return {
    read: () => parse(storage.getItem(key)),
    write: (tokens) => {
      if (tokens) storage.setItem(key, JSON.stringify(tokens));
      else storage.removeItem(key);
    },
  };
}

/** Whatever else stands there is no login. */
function parse(text: string | null): KeptTokens | undefined {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return isKeptTokens(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isKeptTokens(value: unknown): value is KeptTokens {
  return (
    typeof value === "object" &&
    value !== null &&
    "access" in value &&
    typeof value.access === "string" &&
    "refresh" in value &&
    typeof value.refresh === "string" &&
    "expiresAt" in value &&
    typeof value.expiresAt === "number"
  );
}
