import type { Sql } from "./app.ts";

/** A value of the database as text: what `text`, `jsonb` and `bytea` hold. */
export interface Cell {
  /** `table.column`. */
  readonly where: string;
  readonly text: string;
  readonly isBytes: boolean;
}

/** What may not appear anywhere: each secret under the name it is reported by. */
export class Canaries {
  readonly #secrets = new Map<string, string>();
  /** One pattern for a secret; short codes count only where they stand alone. */
  readonly #patterns = new Map<string, RegExp>();

  get size(): number {
    return this.#secrets.size;
  }

  get values(): readonly string[] {
    return [...this.#secrets.keys()];
  }

  learn(name: string, secret: string): void {
    if (secret.length < 6) throw new Error(`${name} is too short to be looked for`);
    this.#secrets.set(secret, name);
    const escaped = secret.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    // Six digits are in many numbers and hashes by chance.
    const isCode = /^\d{6}$/.test(secret);
    this.#patterns.set(
      secret,
      new RegExp(isCode ? `(?<![0-9A-Za-z.])${escaped}(?![0-9A-Za-z])` : escaped),
    );
  }

  /** The names of the secrets that are in a text, as they are or as JSON and URLs write them. */
  findIn(text: string): string[] {
    const found: string[] = [];
    for (const [secret, name] of this.#secrets) {
      const spellings = [JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)];
      const isThere =
        this.#patterns.get(secret)?.test(text) === true ||
        spellings.some((spelling) => spelling !== secret && text.includes(spelling));
      if (isThere) found.push(name);
    }
    return found;
  }

  /** The names of the secrets whose characters, or whose decoded bytes, are in a column of bytes. */
  findInBytes(hex: string): string[] {
    const found: string[] = [];
    for (const [secret, name] of this.#secrets) {
      const isToken = /^[A-Za-z0-9_-]{40,}$/.test(secret);
      const encodings = [Buffer.from(secret), ...(isToken ? [fromBase64(secret)] : [])];
      if (encodings.some((bytes) => hex.includes(bytes.toString("hex")))) found.push(name);
    }
    return found;
  }
}

function fromBase64(secret: string): Buffer {
  return Buffer.from(secret, "base64url");
}

/** Every text and every bytes of a schema's tables. */
export async function readCells(sql: Sql, schema: string): Promise<Cell[]> {
  const columns = await sql<{ table_name: string; column_name: string; data_type: string }[]>`
    select c.table_name, c.column_name, c.data_type
      from information_schema.columns c
      join information_schema.tables t using (table_schema, table_name)
     where c.table_schema = ${schema}
       and t.table_type = 'BASE TABLE'
       and c.data_type in ('text', 'jsonb', 'json', 'bytea', 'character varying', 'ARRAY')`;
  const cells: Cell[] = [];
  for (const { table_name: table, column_name: column, data_type: type } of columns) {
    const isBytes = type === "bytea";
    const name = sql(column);
    const rows = await sql<{ text: string }[]>`
      select ${isBytes ? sql`encode(${name}, 'hex')` : sql`${name}::text`} as text
        from ${sql(`${schema}.${table}`)}
       where ${name} is not null`;
    for (const { text } of rows) cells.push({ where: `${table}.${column}`, text, isBytes });
  }
  return cells;
}
