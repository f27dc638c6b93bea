/**
 * A value that lasts as long as the browser's tab. Tokens are kept this way: a reload stays logged in, closing the
 * tab logs out, and no other tab or later visit finds them. A script of another origin cannot run here at all
 * (the page's policy), and one that could would reach memory as well.
 */
export class Stored<T extends object> {
  readonly #name: string;
  readonly #listeners = new Set<() => void>();
  #value: T | undefined;

  constructor(name: string) {
    this.#name = name;
    // Written by this class alone.
    this.#value = read(name) as T | undefined;
  }

  /** The same object until it is set again. */
  readonly get = (): T | undefined => this.#value;

  set(value: T | undefined): void {
    this.#value = value;
    if (value === undefined) sessionStorage.removeItem(this.#name);
    else sessionStorage.setItem(this.#name, JSON.stringify(value));
    for (const listener of this.#listeners) listener();
  }

  /** Calls back at every change; gives what ends it. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

function read(name: string): unknown {
  const text = sessionStorage.getItem(name);
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
