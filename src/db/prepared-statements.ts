/**
 * Which statements of which tenants one connection keeps prepared.
 *
 * A prepared statement saves its parse and plan (of 669 µs for a join of six tables, all but 109),
 * costs the server 17 to 65 KB for as long as the connection lives, and belongs to one tenant: a plan is
 * thrown away when the `search_path` it was made under changes. So a text is prepared when it is seen
 * for the second time, and the one not used for longest gives way. `npm run bench -- tenant-query`
 * compares the choices.
 */
export class PreparedStatements {
  readonly #max: number;
  /** A number for each text: with thousands of tenants, keys of whole texts would be most of the memory. */
  readonly #numberByText = new Map<string, number>();
  /** Least recently used first: a Map keeps its entries in the order they were set. */
  readonly #prepared = new Map<string, Prepared>();
  /** Seen once; forgotten all at once when there are as many as may be prepared. */
  readonly #seenOnce = new Set<string>();
  /** Names the server keeps and nobody uses any more. */
  readonly #forgotten: string[] = [];
  #generation = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#prepared.size;
  }

  /** How to send a statement now: under which name the server is to keep it, if it is to. */
  next(tag: string, text: string): Prepared | undefined {
    const key = `${tag} ${this.#numberOf(text)}`;
    const known = this.#prepared.get(key);
    if (known) {
      this.#prepared.delete(key);
      this.#prepared.set(key, known);
      return known;
    }
    if (!this.#seenOnce.delete(key)) {
      if (this.#seenOnce.size >= this.#max) this.#seenOnce.clear();
      this.#seenOnce.add(key);
      return undefined;
    }
    // A name is never used again: what was given up may still be on its way.
    this.#generation += 1;
    const prepared: Prepared = {
      key,
      name: `s${this.#generation}`,
      isSent: false,
      columns: undefined,
    };
    this.#prepared.set(key, prepared);
    return prepared;
  }

  #numberOf(text: string): number {
    let number = this.#numberByText.get(text);
    if (number === undefined) {
      number = this.#numberByText.size;
      this.#numberByText.set(text, number);
    }
    return number;
  }

  /**
   * Stops using one: the server never came to keep it, or refuses to run it again, as after a change
   * of a column's type.
   */
  forget(prepared: Prepared): void {
    if (this.#prepared.get(prepared.key) !== prepared) return;
    this.#prepared.delete(prepared.key);
    this.#forgotten.push(prepared.name);
  }

  /**
   * Names to give up, once there are `surplus` more than may be kept; empty until then. Giving up what the
   * server does not keep is no error.
   * https://www.postgresql.org/docs/18/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CLOSE
   */
  takeSurplus(surplus: number): string[] {
    if (this.#prepared.size + this.#forgotten.length < this.#max + surplus) return [];
    const names = this.#forgotten.splice(0);
    for (const [key, { name }] of this.#prepared) {
      if (this.#prepared.size <= this.#max) break;
      this.#prepared.delete(key);
      names.push(name);
    }
    return names;
  }
}

/** A column of an answer. */
export interface Column {
  readonly name: string;
  /** Undefined where the value stays text. */
  readonly parse: ((text: string) => unknown) | undefined;
}

export interface Prepared {
  /** Tenant and text. */
  readonly key: string;
  /** What the server calls it. */
  readonly name: string;
  /** Whether it was sent to be prepared. */
  isSent: boolean;
  /** What the server said of its answers when it had prepared it. */
  columns: readonly Column[] | undefined;
}
