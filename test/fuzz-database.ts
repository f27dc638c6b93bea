import type { Sql } from "./app.ts";

/** A table that refusals write. */
interface Exemption {
  /** Why they do. */
  readonly why: string;
  /** The operations whose refusals do; every one where it is written beside requests. */
  readonly where: RegExp;
}

const EVERYWHERE = /^/;

/** Where a password, a code or a token is asked for, and a wrong one counts. */
const SECRETS = /^\/api\/(auth|platform)\/|^\/api\/account\/profile\//;

/** Tables that a refused request may write; what a tenant's schema has goes without its name. */
const WRITTEN_BY_REFUSALS: Readonly<Record<string, Exemption>> = {
  signups: { why: "Counts wrong codes of a sign-up.", where: /^\/api\/auth\/verify-otp\// },
  messages: { why: "The worker sends what earlier requests queued.", where: EVERYWHERE },
  "public.message_queues": { why: "The worker notes when a queue is due.", where: EVERYWHERE },
  log_seals: { why: "Seals follow on what earlier requests logged.", where: EVERYWHERE },
  "public.log_checkpoints": { why: "So do the checkpoints of seals.", where: EVERYWHERE },
  failures: { why: "Counts wrong passwords and codes.", where: SECRETS },
  "platform.failures": { why: "Counts those of operators.", where: SECRETS },
  security_logs: { why: "Tells of wrong passwords and codes.", where: SECRETS },
  "platform.logs": { why: "Tells of those of operators.", where: SECRETS },
};

/** Every table of some schemas: to see whether anything was changed. */
export class Digest {
  readonly #sql: Sql;
  readonly #query: string;

  private constructor(sql: Sql, query: string) {
    this.#sql = sql;
    this.#query = query;
  }

  static async of(sql: Sql, schemas: readonly string[]): Promise<Digest> {
    const tables = await sql<{ schema: string; name: string }[]>`
      select table_schema as schema, table_name as name
        from information_schema.tables
       where table_schema = any(${[...schemas]}::text[]) and table_type = 'BASE TABLE'
       order by 1, 2`;
    const parts = tables
      // xmin names the transaction that wrote a row's version: it changes with every write.
      .map(
        ({ schema, name }) =>
          `select '${schema}.${name}' as name, count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) as state
             from "${schema}"."${name}"`,
      );
    return new Digest(sql, parts.join(" union all "));
  }

  /** By table, a text that changes with every row that is written, changed or deleted. */
  async read(): Promise<ReadonlyMap<string, string>> {
    const rows = await this.#sql.unsafe<{ name: string; state: string }[]>(this.#query, [], {
      prepare: true,
    });
    return new Map(rows.map(({ name, state }) => [name, state]));
  }
}

/** The tables whose digests differ, but for those that a refusal of an operation may write. */
export function changedTables(
  url: string,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): string[] {
  return [...after.keys()].filter((table) => {
    // Tenants' schemas are called t_ and a number.
    const exemption = WRITTEN_BY_REFUSALS[table.replace(/^t_\d+\./, "")];
    return before.get(table) !== after.get(table) && !exemption?.where.test(url);
  });
}
