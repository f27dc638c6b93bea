/** Whether what changes in the database is heard of; Notifications in the product. */
export interface ChangeFeed {
  readonly isAlive: boolean;
}

/**
 * Answers of the database kept in the process, for as long as changes to them are heard of. While the
 * feed is down every question goes to the database. An answer that was being fetched while its key was
 * revoked is given to whoever asked before, and not kept.
 */
export class RevocableCache<Value> {
  readonly #feed: ChangeFeed;
  readonly #entriesMax: number;
  readonly #ageMaxMs: number;
  /** Oldest first: a Map keeps its entries in the order they were set. */
  readonly #entries = new Map<string, { value: Value; at: number }>();
  readonly #loading = new Map<string, Promise<Value>>();

  constructor(feed: ChangeFeed, entriesMax: number, ageMaxMs: number) {
    this.#feed = feed;
    this.#entriesMax = entriesMax;
    this.#ageMaxMs = ageMaxMs;
  }

  /** How often it was asked and could answer, and could not. */
  hits = 0;
  misses = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** What is kept under `key`, when it may be trusted now. */
  peek(key: string): Value | undefined {
    if (!this.#feed.isAlive) return undefined;
    const entry = this.#entries.get(key);
    if (!entry || performance.now() - entry.at > this.#ageMaxMs) return undefined;
    return entry.value;
  }

  /** What is kept under `key`, or what `load` gives; of calls at the same time one loads. */
  async get(key: string, load: () => Promise<Value>): Promise<Value> {
    const kept = this.peek(key);
    if (kept !== undefined) {
      this.hits += 1;
      return kept;
    }
    this.misses += 1;
    const underway = this.#feed.isAlive ? this.#loading.get(key) : undefined;
    return underway ?? this.reload(key, load);
  }

  /** What `load` gives from now, not from a call under way; kept unless it is revoked meanwhile. */
  reload(key: string, load: () => Promise<Value>): Promise<Value> {
    const loading = load().then(
      (value) => {
        if (this.#loading.get(key) === loading) {
          this.#loading.delete(key);
          this.#keep(key, value);
        }
        return value;
      },
      (error: unknown) => {
        if (this.#loading.get(key) === loading) this.#loading.delete(key);
        throw error;
      },
    );
    this.#loading.set(key, loading);
    return loading;
  }

  /** Forgets a key; a load of it that is under way will not be kept. */
  revoke(key: string): void {
    this.#entries.delete(key);
    this.#loading.delete(key);
  }

  /** Forgets everything, as when changes may have been missed. */
  clear(): void {
    this.#entries.clear();
    this.#loading.clear();
  }

  #keep(key: string, value: Value): void {
    if (!this.#feed.isAlive) return;
    this.#entries.delete(key);
    this.#entries.set(key, { value, at: performance.now() });
    if (this.#entries.size > this.#entriesMax) {
      const oldest = this.#entries.keys().next();
      if (!oldest.done) this.#entries.delete(oldest.value);
    }
  }
}
