import type { RunSql } from "../db/sql.ts";
import { LEAF_BYTES, type Log, type Seal, type SealWithLeaves } from "./seals.ts";

/** That the oldest part of a log was pruned, up to and with one link. */
export interface PruningReceipt {
  readonly throughNumber: number;
  readonly digest: Buffer;
}

/** Writes what a link must be into the registry. Once: a second time changes nothing. */
export async function addCheckpoint(
  registry: RunSql,
  tenantId: number,
  { log, number, place, leaves, digest }: SealWithLeaves,
): Promise<void> {
  await registry`
    insert into public.log_checkpoints (
      tenant_id, log, number, last_transaction, last_id, entries, digest
    )
    values (
      ${tenantId}, ${log}, ${number}, ${place.transaction}::xid8, ${place.id}, ${leaves}, ${digest}
    )
    on conflict (tenant_id, log, number) do nothing`;
}

/** The link of the newest checkpoint; undefined before the first. */
export async function findNewestCheckpoint(
  registry: RunSql,
  tenantId: number,
  log: Log,
): Promise<Seal | undefined> {
  const [row] = await registry<
    { number: number; last_transaction: string; last_id: number; bytes: number; digest: Buffer }[]
  >`
    select number, last_transaction::text as last_transaction, last_id, length(entries) as bytes, digest
      from public.log_checkpoints
     where tenant_id = ${tenantId} and log = ${log}
     order by number desc
     limit 1`;
  return (
    row && {
      log,
      number: row.number,
      place: { transaction: row.last_transaction, id: row.last_id },
      entries: row.bytes / LEAF_BYTES,
      digest: row.digest,
    }
  );
}

/** Checkpoints from one number to another, by number. */
export async function readCheckpoints(
  registry: RunSql,
  tenantId: number,
  log: Log,
  from: number,
  to: number,
): Promise<Map<number, SealWithLeaves>> {
  const rows = await registry<
    {
      number: number;
      last_transaction: string;
      last_id: number;
      leaves: Buffer;
      digest: Buffer;
    }[]
  >`
    select number, last_transaction::text as last_transaction, last_id, entries as leaves, digest
      from public.log_checkpoints
     where tenant_id = ${tenantId} and log = ${log} and number between ${from} and ${to}
     order by number`;
  return new Map(
    rows.map(({ number, last_transaction: transaction, last_id: id, leaves, digest }) => [
      number,
      {
        log,
        number,
        place: { transaction, id },
        entries: leaves.length / LEAF_BYTES,
        digest,
        leaves,
      },
    ]),
  );
}

/** How far a log was pruned; undefined when it never was. */
export async function findReceipt(
  registry: RunSql,
  tenantId: number,
  log: Log,
): Promise<PruningReceipt | undefined> {
  const [row] = await registry<{ through_number: number; digest: Buffer }[]>`
    select through_number, digest
      from public.log_receipts
     where tenant_id = ${tenantId} and log = ${log}
     order by through_number desc
     limit 1`;
  return row && { throughNumber: row.through_number, digest: row.digest };
}
