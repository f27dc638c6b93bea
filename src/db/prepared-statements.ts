/**
 * Which statements of which tenants one connection keeps prepared.
 *
 * A prepared statement saves its parse and plan (of 669 µs for a join of six tables, all but 109),
 * costs the server 17 to 65 KB for as long as the connection lives, and belongs to one tenant: its
 * text begins with the tenant's name, because a plan is thrown away when the `search_path` it was
 * made under changes. So a text is prepared when it is seen for the second time, and the one not
 * used for longest gives way. `npm run bench -- tenant-query` compares the choices.
 */
export class PreparedStatements {
  readonly #max: number;
  /** Least recently used first: a Map keeps its entries in the order they were set. */
  readonly #prepared = new Map<string, Prepared>();
  /** Texts seen once; forgotten all at once when there are as many as may be prepared. */
  readonly #seenOnce = new Set<string>();
  /** Names the server keeps and nobody uses any more. */
  readonly #forgotten: string[] = [];
  #deallocated = 0;
  #generation = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#prepared.size;
  }

  /** How many were given up so far; the driver keeps some memory for each (about 2 KB). */
  get deallocated(): number {
    return this.#deallocated;
  }

  /** How to send a statement now: under which text, and whether the server is to keep it. */
  next(tag: string, text: string): Prepared | undefined {
    const key = tag + text;
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
    // A text that was deallocated must not be taken for prepared by the driver: each preparation
    // has a number of its own.
    this.#generation += 1;
    const prepared: Prepared = {
      key,
      text: `/*${tag} ${this.#generation}*/ ${text}`,
      name: undefined,
    };
    this.#prepared.set(key, prepared);
    return prepared;
  }

  /**
   * Takes note of the name under which the server keeps one. Sent twice before the first answer it has
   * two, of which the driver goes on with the later.
   */
  keptAs(prepared: Prepared, name: string): void {
    if (prepared.name === name) return;
    if (prepared.name !== undefined) this.#forgotten.push(prepared.name);
    prepared.name = name;
    // Given up meanwhile.
    if (this.#prepared.get(prepared.key) !== prepared) this.#forgotten.push(name);
  }

  /**
   * Stops using one: the server never came to keep it, or refuses to run it again, as after a change
   * of a column's type.
   */
  forget(prepared: Prepared): void {
    if (this.#prepared.get(prepared.key) !== prepared) return;
    this.#prepared.delete(prepared.key);
    if (prepared.name !== undefined) this.#forgotten.push(prepared.name);
  }

  /**
   * Names to DEALLOCATE, once there are `surplus` more than may be kept; empty until then.
   * https://www.postgresql.org/docs/18/sql-deallocate.html
   */
  takeSurplus(surplus: number): string[] {
    if (this.#prepared.size + this.#forgotten.length < this.#max + surplus) return [];
    const names = this.#forgotten.splice(0);
    for (const [key, { name }] of this.#prepared) {
      if (this.#prepared.size <= this.#max) break;
      // No name yet: it is on its way for the first time.
      if (name === undefined) continue;
      this.#prepared.delete(key);
      names.push(name);
    }
    this.#deallocated += names.length;
    return names;
  }
}

export interface Prepared {
  /** Tenant and text. */
  readonly key: string;
  /** What to send, the tenant's tag in front. */
  readonly text: string;
  /** The server's name for it, known after the first answer. */
  name: string | undefined;
}
