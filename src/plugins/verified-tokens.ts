/** What of a token says when it holds, in seconds since 1970 (RFC 7519 §4.1). */
interface Dated {
  readonly nbf: number;
  readonly exp: number;
}

/**
 * Tokens whose signature and claims were found right, under themselves: what is found is what was signed. Each is
 * taken from its `nbf` until its `exp`, as when it is verified. Checking a token takes fast-jwt 12 µs, with its own
 * memory, which hashes every token, 6; this takes 1.
 */
export class VerifiedTokens<Claims extends Dated> {
  /** Oldest first: a Map keeps its entries in the order they were set. */
  readonly #claims = new Map<string, Claims>();
  readonly #entriesMax: number;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get(token: string): Claims | undefined {
    const claims = this.#claims.get(token);
    if (!claims) return undefined;
    const now = Date.now();
    return claims.nbf * 1_000 <= now && now < claims.exp * 1_000 ? claims : undefined;
  }

  /** @returns the claims, once more */
  keep(token: string, claims: Claims): Claims {
    this.#claims.set(token, claims);
    if (this.#claims.size > this.#entriesMax) {
      const oldest = this.#claims.keys().next();
      if (!oldest.done) this.#claims.delete(oldest.value);
    }
    return claims;
  }
}
