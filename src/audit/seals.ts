import { createHash } from "node:crypto";
import { type RunSql, sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";

/** The logs that are sealed, each in a chain of its own. */
export const LOGS = ["activity", "security"] as const;
export type Log = (typeof LOGS)[number];

/**
 * Entries of one link at most: their leaves are 40 KB, and read in some 10 ms. Never made smaller: links
 * that are longer could not be verified any more.
 */
export const ENTRIES_PER_SEAL_MAX = 1_000;

/**
 * Where an entry stands in the order in which logs are sealed: by transaction, then by id. Ids alone are
 * given out in another order than transactions commit.
 */
export interface Place {
  /** An xid8, in decimal. */
  readonly transaction: string;
  readonly id: number;
}

/** Before every entry. */
export const BEGINNING: Place = { transaction: "0", id: 0 };

/** A link of the chain. */
export interface Seal {
  readonly log: Log;
  /** From 1. */
  readonly number: number;
  /** Of its newest entry. */
  readonly place: Place;
  /** How many it seals. */
  readonly entries: number;
  readonly digest: Buffer;
}

/** A link with what it was made of: {@link LEAF_BYTES} for each entry, in order. */
export interface SealWithLeaves extends Seal {
  readonly leaves: Buffer;
}

/** An entry as it is sealed: its id (8 bytes, big-endian), and the SHA-256 of its content. */
export const LEAF_BYTES = 40;
const ID_BYTES = 8;

/** What stands before everything that is hashed, so that no other digest can be taken for one of these. */
const DOMAIN = "ouvira log seal 1";

/** What the first link has for a digest before it. */
export const NO_DIGEST: Buffer = Buffer.alloc(32);

const TABLES: Readonly<Record<Log, Statement>> = {
  activity: sql`activity_logs`,
  security: sql`security_logs`,
};

// Not a bigint: a time of 'infinity' is an edit to be found, not an error to stop at.
const AT_US = sql`trunc(extract(epoch from l.created_at) * 1000000)`;

/**
 * All of an entry but its id, as one text that is the same for the same content: jsonb
 * writes its keys in one order, times are whole microseconds.
 */
const CONTENTS: Readonly<Record<Log, Statement>> = {
  activity: sql`jsonb_build_array(
    l.user_id, l.user_display, l.company_id, l.date, l.entity_type, l.entity_id, l.action,
    l.old_values, l.new_values, l.ip_address, ${AT_US}, l.transaction_id::text)::text`,
  security: sql`jsonb_build_array(
    l.user_id, l.user_display, l.date, l.action, l.metadata, l.ip_address, ${AT_US},
    l.transaction_id::text)::text`,
};

interface LeafRow {
  transaction: string;
  id: number;
  leaf: Buffer;
}

/**
 * Entries after one place, and up to and with another, in order.
 *
 * @param until null: all whose transactions, and all before them, have ended. Nothing can be written among
 *   those any more: every transaction below the snapshot's xmin has committed or gone.
 *   https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-PG-SNAPSHOT
 */
export async function readLeaves(
  run: RunSql,
  log: Log,
  after: Place,
  until: Place | null,
  limit: number,
): Promise<LeafRow[]> {
  const end = until
    ? sql`(l.transaction_id, l.id) <= (${until.transaction}::xid8, ${until.id}::bigint)`
    : sql`l.transaction_id < pg_snapshot_xmin(pg_current_snapshot())`;
  return run<LeafRow[]>`
    select
      l.transaction_id::text as transaction, l.id,
      int8send(l.id) || sha256(convert_to(${CONTENTS[log]}, 'UTF8')) as leaf
    from ${TABLES[log]} l
    where (l.transaction_id, l.id) > (${after.transaction}::xid8, ${after.id}::bigint) and ${end}
    order by l.transaction_id, l.id
    limit ${limit}::bigint`;
}

/** How many entries there are after a place. */
export async function countAfter(run: RunSql, log: Log, place: Place): Promise<number> {
  const [row] = await run<{ count: number }[]>`
    select count(*) as count
      from ${TABLES[log]} l
     where (l.transaction_id, l.id) > (${place.transaction}::xid8, ${place.id}::bigint)`;
  return row?.count ?? 0;
}

/** Whether there are entries after a place. */
export async function hasAfter(run: RunSql, log: Log, place: Place): Promise<boolean> {
  const rows = await run`
    select 1
      from ${TABLES[log]} l
     where (l.transaction_id, l.id) > (${place.transaction}::xid8, ${place.id}::bigint)
     limit 1`;
  return rows.length > 0;
}

/** Which of some entries there are, wherever they stand. */
export async function findEntries(
  run: RunSql,
  log: Log,
  ids: readonly number[],
): Promise<Set<number>> {
  const rows = await run<{ id: number }[]>`
    select l.id from ${TABLES[log]} l where l.id = any(${ids}::bigint[])`;
  return new Set(rows.map(({ id }) => id));
}

/**
 * The number of the newest link that was made before a moment and holds no entry written after it; 0 when
 * there is none. The link's own time is not enough: it is no part of the digest, and whoever may add a link
 * may say when that was.
 */
export async function findLastBefore(run: RunSql, log: Log, cutoff: Date): Promise<number> {
  const [row] = await run<{ number: number }[]>`
    with kept as (
      select l.transaction_id, l.id
        from ${TABLES[log]} l
       where l.created_at >= ${cutoff}
       order by l.transaction_id, l.id
       limit 1
    )
    select coalesce(max(s.number), 0) as number
      from log_seals s
     where s.log = ${log}
       and s.created_at < ${cutoff}
       and not exists (
         select 1 from kept where (s.last_transaction, s.last_id) >= (kept.transaction_id, kept.id)
       )`;
  return row?.number ?? 0;
}

/** Deletes entries up to and with a place; gives their number. Only the owner of the tables can. */
export async function deleteUntil(run: RunSql, log: Log, place: Place): Promise<number> {
  const [row] = await run<{ count: number }[]>`
    with deleted as (
      delete from ${TABLES[log]} l
       where (l.transaction_id, l.id) <= (${place.transaction}::xid8, ${place.id}::bigint)
      returning 1
    )
    select count(*) as count from deleted`;
  return row?.count ?? 0;
}

/** Links from one number to another, by number. */
export async function readSeals(
  run: RunSql,
  log: Log,
  from: number,
  to: number,
): Promise<Map<number, Seal>> {
  const rows = await run<SealRow[]>`
    select number, last_transaction::text as last_transaction, last_id, entries, digest
      from log_seals
     where log = ${log} and number between ${from} and ${to}
     order by number`;
  return new Map(rows.map((row) => [row.number, toSeal(log, row)]));
}

/** The newest link; undefined before the first. */
export async function findHead(run: RunSql, log: Log): Promise<Seal | undefined> {
  const [row] = await run<SealRow[]>`
    select number, last_transaction::text as last_transaction, last_id, entries, digest
      from log_seals
     where log = ${log}
     order by number desc
     limit 1`;
  return row && toSeal(log, row);
}

interface SealRow {
  number: number;
  last_transaction: string;
  last_id: number;
  entries: number;
  digest: Buffer;
}

function toSeal(log: Log, row: SealRow): Seal {
  return {
    log,
    number: row.number,
    place: { transaction: row.last_transaction, id: row.last_id },
    entries: row.entries,
    digest: row.digest,
  };
}

/**
 * Where a chain goes on: its head, or the newest checkpoint when that is as new. Somebody may have cut the
 * chain off or made it anew; what is written from now on is sealed all the same, after what was sealed.
 */
export function laterOf(head: Seal | undefined, checkpoint: Seal | undefined): Seal | undefined {
  return checkpoint && checkpoint.number >= (head?.number ?? 0) ? checkpoint : head;
}

/** The digest of a link: of the one before, of where it stands, and of every entry in order. */
export function digestOf(
  previous: Buffer,
  log: Log,
  number: number,
  place: Place,
  leaves: Buffer,
): Buffer {
  const head = `${DOMAIN}\n${log}\n${number}\n${place.transaction}\n${place.id}\n${leaves.length}\n`;
  return createHash("sha256").update(head).update(previous).update(leaves).digest();
}

/** The id of each entry and its digest in hexadecimal, in order. */
export function splitLeaves(leaves: Buffer): { id: number; digest: string }[] {
  return Array.from({ length: Math.floor(leaves.length / LEAF_BYTES) }, (_, index) => {
    const leaf = leaves.subarray(index * LEAF_BYTES, (index + 1) * LEAF_BYTES);
    return { id: Number(leaf.readBigInt64BE(0)), digest: leaf.toString("hex", ID_BYTES) };
  });
}

/**
 * Adds one link of what is not sealed yet, in the caller's transaction. Locks no entry and nobody who
 * writes one: it reads what no transaction can add to any more, and leaves the rest to the next time. Of
 * two at the same time the primary key of `log_seals` lets one.
 *
 * @param checkpoint the newest, if any
 * @returns undefined when there is nothing to seal now, or another was faster
 */
export async function sealNext(
  tx: TenantSql,
  log: Log,
  checkpoint: Seal | undefined,
): Promise<SealWithLeaves | undefined> {
  const head = laterOf(await findHead(tx, log), checkpoint);
  const rows = await readLeaves(tx, log, head?.place ?? BEGINNING, null, ENTRIES_PER_SEAL_MAX);
  const last = rows.at(-1);
  if (!last) return undefined;
  const number = (head?.number ?? 0) + 1;
  const place: Place = { transaction: last.transaction, id: last.id };
  const leaves = Buffer.concat(rows.map(({ leaf }) => leaf));
  const digest = digestOf(head?.digest ?? NO_DIGEST, log, number, place, leaves);
  const made = await tx`
    insert into log_seals (log, number, last_transaction, last_id, entries, digest)
    values (${log}, ${number}, ${place.transaction}::xid8, ${place.id}, ${rows.length}, ${digest})
    on conflict (log, number) do nothing
    returning number`;
  if (made.length === 0) return undefined;
  return { log, number, place, entries: rows.length, digest, leaves };
}

/** Links made again in one transaction: at 1,000 entries each 20,000 rows. */
const REMADE_MAX = 20;

/**
 * Links that were committed and whose checkpoints were not, as when a process ends between the two, made
 * again from their entries, the oldest {@link REMADE_MAX} of them.
 *
 * @param checkpoint the newest, if any @throws Error when the entries are not those that were sealed: no checkpoint may say that they are
 */
export async function remakeAfter(
  tenant: TenantConnection,
  log: Log,
  checkpoint: Seal | undefined,
): Promise<SealWithLeaves[]> {
  return tenant.transaction(async (tx) => {
    const head = await findHead(tx, log);
    const first = (checkpoint?.number ?? 0) + 1;
    if (!head || head.number < first) return [];
    const last = Math.min(head.number, first + REMADE_MAX - 1);
    const seals = await readSeals(tx, log, first, last);
    const remade: SealWithLeaves[] = [];
    let before = checkpoint;
    for (let next = first; next <= last; next += 1) {
      const seal = seals.get(next);
      if (!seal) throw new Error(`Seal ${next} of the ${log} log is missing`);
      // One more than there may be: it shows that there are too many.
      const limit = ENTRIES_PER_SEAL_MAX + 1;
      const rows = await readLeaves(tx, log, before?.place ?? BEGINNING, seal.place, limit);
      const leaves = Buffer.concat(rows.map(({ leaf }) => leaf));
      const digest = digestOf(before?.digest ?? NO_DIGEST, log, next, seal.place, leaves);
      if (!digest.equals(seal.digest)) {
        throw new Error(
          `The entries of seal ${next} of the ${log} log are not those it was made of`,
        );
      }
      remade.push({ ...seal, leaves });
      before = seal;
    }
    return remade;
  });
}
