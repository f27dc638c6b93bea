import { sha256 } from "../keys.ts";

/** A statement, or the statements of one write, that took long. */
export interface SlowStatement {
  /** Whose: `t_42`, or the registry's role. */
  readonly schema: string;
  /** What it is called: its verb, its tables and a number by which its text is known. */
  readonly statement: string;
  readonly milliseconds: number;
}

/** Finds what takes long among the statements of tenants, and tells of it: the text's name, no value. */
export class SlowStatements {
  readonly #fromMs: number;
  readonly #onSlow: (slow: SlowStatement) => void;

  /** @param fromMs how long a statement takes at least to be told of */
  constructor(fromMs: number, onSlow: (slow: SlowStatement) => void) {
    this.#fromMs = fromMs;
    this.#onSlow = onSlow;
  }

  /** Takes note of one write, once it is answered. */
  note(
    schema: string,
    statements: readonly { readonly text: string }[],
    milliseconds: number,
  ): void {
    if (milliseconds < this.#fromMs) return;
    const statement = statements.map(({ text }) => nameOf(text)).join(", ");
    this.#onSlow({ schema, statement, milliseconds: Math.round(milliseconds) });
  }

  /** Takes note of a statement of a transaction, when it is answered or has failed. */
  async watch<T>(schema: string, text: string, answer: Promise<T>): Promise<T> {
    const sentAt = performance.now();
    try {
      return await answer;
    } finally {
      this.note(schema, [{ text }], performance.now() - sentAt);
    }
  }
}

/** What a statement reads or changes, as it is written. */
const VERB = /\b(select|insert|update|delete|with)\b/i;
const TABLES = /\b(?:from|join|into|update)\s+(?:only\s+)?([a-z_][a-z0-9_.]*)/gi;
const TABLES_MAX = 4;

/**
 * What a statement is called where its text would be too long: `select users login_sessions #3f2a91c0`. The
 * number is the same for the same text on every process of one release.
 */
export function nameOf(text: string): string {
  const bare = text.replace(/\/\*.*?\*\//gs, " ");
  const verb = VERB.exec(bare)?.[1]?.toLowerCase() ?? "statement";
  const tables = [...new Set([...bare.matchAll(TABLES)].map(([, table = ""]) => table))];
  const number = sha256(bare.replace(/\s+/g, " ").trim()).toString("hex").slice(0, 8);
  return [verb, ...tables.slice(0, TABLES_MAX), `#${number}`].join(" ");
}
