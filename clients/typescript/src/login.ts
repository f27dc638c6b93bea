import { OuviraError } from "./errors.ts";
import type { components } from "./schema.ts";
import type { KeptTokens, TokenStore } from "./tokens.ts";

/** What logging in, the second step, finishing a sign-up and a refresh answer with. */
export type Tokens = components["schemas"]["Tokens"];

/** Sent a moment before its end, a token would arrive after it. */
const EARLY_MS = 5_000;

export interface LoginOptions {
  readonly store: TokenStore;
  /** Asks the API for the next tokens. @throws OuviraError when it refuses */
  readonly exchange: (refresh: string) => Promise<Tokens>;
  /** The same for all tabs that may share `store`. */
  readonly lockName: string;
  readonly onLoggedOut: (reason: OuviraError) => void;
}

/** The login that calls are made with. Its refresh token is exchanged by one call at a time. */
export class Login {
  readonly #options: LoginOptions;
  /** The exchange under way, which all calls that need it wait for. */
  #exchange: Promise<KeptTokens | undefined> | undefined;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /**
   * What a call is sent with; undefined when nobody is logged in. Tokens whose time is up are exchanged
   * first, so that a page which was left alone does not begin with refused calls.
   */
  async current(): Promise<KeptTokens | undefined> {
    const kept = await this.#options.store.read();
    if (!kept || Date.now() < kept.expiresAt - EARLY_MS) return kept;
    // The login is over: the call is refused as it would have been, and says so.
    return (await this.after(kept)) ?? kept;
  }

  /**
   * The tokens that come after some that have expired. However many calls ask, one exchange is made; tabs
   * take turns. A tab may still find what the storage held a moment ago (browsers write `localStorage`
   * of several processes with a delay): its exchange then gets the same tokens, since the API answers
   * the token before the current one for 30 seconds.
   *
   * @returns undefined when the login is over
   * @throws what hindered the exchange, such as the network; the login goes on
   */
  after(spent: KeptTokens): Promise<KeptTokens | undefined> {
    this.#exchange ??= exclusively(this.#options.lockName, () => this.#next(spent)).finally(() => {
      this.#exchange = undefined;
    });
    return this.#exchange;
  }

  async keep({ access, refresh, expires_in: seconds }: Tokens): Promise<KeptTokens> {
    const kept = { access, refresh, expiresAt: Date.now() + seconds * 1_000 };
    await this.#options.store.write(kept);
    return kept;
  }

  async forget(): Promise<void> {
    await this.#options.store.write(undefined);
  }

  /** Forgets a login that the API has ended, unless another has begun since, and tells the app. */
  async end(ended: KeptTokens | undefined, reason: OuviraError): Promise<void> {
    const kept = await this.#options.store.read();
    if (kept?.access !== ended?.access) return;
    await this.forget();
    this.#options.onLoggedOut(reason);
  }

  async #next(spent: KeptTokens): Promise<KeptTokens | undefined> {
    const { store, exchange } = this.#options;
    const kept = await store.read();
    // Done already: by another tab, or by a call that was sent with the same tokens and was quicker.
    if (kept?.access !== spent.access) return kept;
    let tokens: Tokens;
    try {
      tokens = await exchange(kept.refresh);
    } catch (error) {
      if (!(error instanceof OuviraError) || !isRefused(error)) throw error;
      await this.end(kept, error);
      return undefined;
    }
    const now = await store.read();
    // Somebody has logged out meanwhile, or in again: these tokens are nobody's.
    return now?.refresh === kept.refresh ? this.keep(tokens) : now;
  }
}

/** Whether a refresh token will not be taken later either. */
function isRefused({ status, code }: OuviraError): boolean {
  return status === 401 || code === "validation_error";
}

/** https://developer.mozilla.org/docs/Web/API/Web_Locks_API; Node has had it since version 24. */
interface LockManager {
  request<T>(name: string, work: () => Promise<T>): Promise<T>;
}

/** Runs `work` while no other tab of the origin does; where there are no locks, at once. */
function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  // Not every runtime has `navigator`, nor `locks` in it (browsers: only with TLS or on localhost).
  const { navigator } = globalThis as { navigator?: { locks?: LockManager } };
  return navigator?.locks ? navigator.locks.request(name, work) : work();
}
