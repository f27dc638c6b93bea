import type { RunSql } from "../db/sql.ts";
import { findNewestCheckpoint, findReceipt, readCheckpoints } from "./log-checkpoints.ts";
import {
  BEGINNING,
  countAfter,
  digestOf,
  ENTRIES_PER_SEAL_MAX,
  findEntries,
  findHead,
  laterOf,
  type Log,
  NO_DIGEST,
  type Place,
  readLeaves,
  readSeals,
  type Seal,
  type SealWithLeaves,
  splitLeaves,
} from "./seals.ts";

/** What can be wrong with a log. Sent as it is: add, never rename. */
export type FindingKind =
  /** Its content is not what was sealed. */
  | "edited"
  | "deleted"
  /** It stands among sealed entries and is none of them. */
  | "inserted"
  /** It has another place, or another one's id. */
  | "reordered"
  /** The end of the log is gone, with its seals. */
  | "cut_off"
  /** The chain was made anew to fit what was changed. */
  | "rehashed"
  | "seal_changed"
  | "seal_missing"
  | "checkpoint_changed"
  | "checkpoint_missing";

export interface Finding {
  readonly log: Log;
  readonly kind: FindingKind;
  /** The number of the link. */
  readonly seal: number;
  /** Null: it is the link itself, or cannot be said. */
  readonly entry_id: number | null;
  readonly detail: string;
}

export interface VerificationReport {
  readonly log: Log;
  /** Links there should be, those that were pruned included. */
  readonly seals: number;
  /** Entries that were compared with what was sealed. */
  readonly checked_entries: number;
  /** Entries that are not sealed yet. */
  readonly unsealed_entries: number;
  /** Newest links whose checkpoints are still to be written. */
  readonly pending_checkpoints: number;
  /** The oldest link that was checked; null when there was none. */
  readonly oldest_seal: number | null;
  /** Whether everything was checked that is not pruned. */
  readonly is_complete: boolean;
  /** At most {@link FINDINGS_MAX}. */
  readonly findings: Finding[];
}

export interface VerificationOptions {
  /** Stops, between links, once so many entries were checked. */
  readonly entriesMax?: number;
  /** Only links before this one. */
  readonly before?: number;
  readonly onProgress?: (checkedEntries: number) => void;
}

/** After so many something is so wrong that more would say nothing more. */
export const FINDINGS_MAX = 100;

/** Links checked at a time: at 1,000 entries each 20,000 rows. */
const SEALS_PER_STEP = 20;

/**
 * Checks a log, newest part first, against the chain in the tenant's schema and against the checkpoints in
 * the registry, which the tenant's role cannot change. The checkpoints hold each entry's digest, so what is
 * wrong has a name. What was pruned is known by its receipt.
 *
 * @param tenant reads the tenant's schema @param registry reads the registry
 */
export async function verifyLog(
  tenant: RunSql,
  registry: RunSql,
  tenantId: number,
  log: Log,
  { entriesMax = Infinity, before = Infinity, onProgress }: VerificationOptions = {},
): Promise<VerificationReport> {
  // Links that are made meanwhile are newer than these, and left to the next check.
  const checkpoint = await findNewestCheckpoint(registry, tenantId, log);
  const checkpointed = checkpoint?.number ?? 0;
  const head = await findHead(tenant, log);
  const receipt = await findReceipt(registry, tenantId, log);
  const newest = Math.max(checkpointed, head?.number ?? 0);
  const pruned = receipt?.throughNumber ?? 0;
  const state: State = {
    tenant,
    registry,
    tenantId,
    log,
    head: head?.number ?? 0,
    checkpointed,
    pruned,
    findings: [],
    checkedEntries: 0,
  };
  let next = Math.min(newest, before - 1);
  let oldest: number | null = null;
  while (next > pruned && state.checkedEntries < entriesMax && !isFull(state)) {
    const from = Math.max(pruned + 1, next - SEALS_PER_STEP + 1);
    await verifyStep(state, from, next);
    oldest = from;
    next = from - 1;
    onProgress?.(state.checkedEntries);
  }
  const isComplete = next <= pruned;
  if (isComplete && receipt) await verifyAnchor(state, receipt.digest);
  return {
    log,
    seals: newest,
    checked_entries: state.checkedEntries,
    unsealed_entries: await countAfter(tenant, log, laterOf(head, checkpoint)?.place ?? BEGINNING),
    pending_checkpoints: Math.max(0, (head?.number ?? 0) - checkpointed),
    oldest_seal: oldest,
    is_complete: isComplete && before === Infinity,
    findings: (await withoutPruned(state)).slice(0, FINDINGS_MAX),
  };
}

interface State {
  readonly tenant: RunSql;
  readonly registry: RunSql;
  readonly tenantId: number;
  readonly log: Log;
  /** The newest link in the tenant's schema. */
  readonly head: number;
  readonly checkpointed: number;
  readonly pruned: number;
  readonly findings: Finding[];
  checkedEntries: number;
}

/** What was found but in parts that were pruned meanwhile: they were verified by that. */
async function withoutPruned(state: State): Promise<Finding[]> {
  if (state.findings.length === 0) return state.findings;
  const receipt = await findReceipt(state.registry, state.tenantId, state.log);
  const through = receipt?.throughNumber ?? 0;
  if (through === state.pruned) return state.findings;
  return state.findings.filter(({ seal }) => seal > through);
}

function isFull({ findings }: State): boolean {
  return findings.length >= FINDINGS_MAX;
}

function report(
  state: State,
  kind: FindingKind,
  seal: number,
  entryId: number | null,
  detail: string,
): void {
  state.findings.push({ log: state.log, kind, seal, entry_id: entryId, detail });
}

/** Checks the links of one step, the oldest first. */
async function verifyStep(state: State, from: number, to: number): Promise<void> {
  const { tenant, registry, tenantId, log } = state;
  const seals = await readSeals(tenant, log, from - 1, to);
  const checkpoints = await readCheckpoints(registry, tenantId, log, from - 1, to);
  for (let number = from; number <= to && !isFull(state); number += 1) {
    const seal = seals.get(number);
    const checkpoint = checkpoints.get(number);
    // What is outside the tenant's reach says where a link begins; the link itself where nothing else does.
    const previous = checkpoints.get(number - 1) ?? seals.get(number - 1);
    if (number > 1 && !previous) {
      // The link before is reported by itself; without it this one's beginning is not known.
      report(state, "seal_missing", number - 1, null, `Seal ${number - 1} is missing.`);
      continue;
    }
    await verifySeal(state, number, previous, seal, checkpoint);
  }
}

async function verifySeal(
  state: State,
  number: number,
  previous: Seal | undefined,
  seal: Seal | undefined,
  checkpoint: SealWithLeaves | undefined,
): Promise<void> {
  const { tenant, log } = state;
  const expected = checkpoint ?? seal;
  if (!expected) {
    report(state, "seal_missing", number, null, `Seal ${number} and its checkpoint are missing.`);
    return;
  }
  const begin = previous?.place ?? BEGINNING;
  // However many were put there: with so many more the findings are full.
  const limit = Math.min(expected.entries, ENTRIES_PER_SEAL_MAX) + FINDINGS_MAX;
  const rows = await readLeaves(tenant, log, begin, expected.place, limit);
  const actual = Buffer.concat(rows.map(({ leaf }) => leaf));
  const before = previous?.digest ?? NO_DIGEST;
  const actualDigest = digestOf(before, log, number, expected.place, actual);
  state.checkedEntries += rows.length;
  if (!checkpoint) {
    verifyWithoutCheckpoint(state, number, expected, actualDigest);
    return;
  }
  const made = digestOf(before, log, number, checkpoint.place, checkpoint.leaves);
  if (!made.equals(checkpoint.digest)) {
    report(
      state,
      "checkpoint_changed",
      number,
      null,
      `The checkpoint of seal ${number} was changed.`,
    );
    return;
  }
  if (!actual.equals(checkpoint.leaves)) await compareEntries(state, number, checkpoint, actual);
  verifyLink(state, number, seal, checkpoint, rows.length > 0);
}

/** A link whose checkpoint is still to come, or is gone. */
function verifyWithoutCheckpoint(
  state: State,
  number: number,
  seal: Seal,
  actualDigest: Buffer,
): void {
  if (number <= state.checkpointed) {
    report(state, "checkpoint_missing", number, null, `The checkpoint of seal ${number} is gone.`);
  }
  if (!actualDigest.equals(seal.digest)) {
    const detail = `An entry of seal ${number} is not what was sealed; without a checkpoint it has no name.`;
    report(state, "edited", number, null, detail);
  }
}

/** The link in the tenant's schema against its checkpoint. */
function verifyLink(
  state: State,
  number: number,
  seal: Seal | undefined,
  checkpoint: SealWithLeaves,
  hasEntries: boolean,
): void {
  if (!seal) {
    const isCut = number > state.head;
    const detail = isCut
      ? `Seal ${number} was cut off, with what is after it.`
      : `Seal ${number} is missing.`;
    report(state, isCut && !hasEntries ? "cut_off" : "seal_missing", number, null, detail);
    return;
  }
  const isSame =
    seal.digest.equals(checkpoint.digest) &&
    seal.entries === checkpoint.entries &&
    samePlace(seal.place, checkpoint.place);
  if (isSame) return;
  const isRehashed = !seal.digest.equals(checkpoint.digest);
  const detail = `Seal ${number} is not the one whose checkpoint was written.`;
  report(state, isRehashed ? "rehashed" : "seal_changed", number, null, detail);
}

function samePlace(a: Place, b: Place): boolean {
  return a.transaction === b.transaction && a.id === b.id;
}

/**
 * Names the entries of a link that are not as they were sealed. The order needs no look of its own: it
 * comes from id and transaction, which the leaves hold.
 */
async function compareEntries(
  state: State,
  number: number,
  checkpoint: SealWithLeaves,
  actualLeaves: Buffer,
): Promise<void> {
  const expected = splitLeaves(checkpoint.leaves);
  const actual = splitLeaves(actualLeaves);
  const actualById = new Map(actual.map(({ id, digest }) => [id, digest]));
  const expectedById = new Map(expected.map(({ id, digest }) => [id, digest]));
  const missing = expected.filter(({ id }) => !actualById.has(id)).map(({ id }) => id);
  const elsewhere = await findEntries(state.tenant, state.log, missing);
  const isCut = number > state.head;
  // First: when there are more than were read, what was not read is not missing.
  for (const { id } of actual.filter((entry) => !expectedById.has(entry.id))) {
    report(state, "inserted", number, id, `Entry ${id} was not there when this part was sealed.`);
  }
  for (const id of missing) {
    if (elsewhere.has(id)) report(state, "reordered", number, id, `Entry ${id} has another place.`);
    else if (isCut) report(state, "cut_off", number, id, `Entry ${id} was cut off with its seal.`);
    else report(state, "deleted", number, id, `Entry ${id} was deleted.`);
  }
  const contents = new Set(expected.map(({ digest }) => digest));
  const order = expected.filter(({ id }) => actualById.has(id)).map(({ id }) => id);
  const actualOrder = actual.filter(({ id }) => expectedById.has(id)).map(({ id }) => id);
  const moved = new Set(actualOrder.filter((id, index) => order[index] !== id));
  for (const { id, digest } of actual) {
    const sealed = expectedById.get(id);
    if (sealed === undefined || sealed === digest) continue;
    // Another one's content under this id, or another place in the order: they have changed places.
    if (contents.has(digest) || moved.has(id))
      report(state, "reordered", number, id, `Entry ${id} changed places.`);
    else report(state, "edited", number, id, `Entry ${id} is not what was sealed.`);
  }
}

/** The link that pruning left, and that nothing stands before it. */
async function verifyAnchor(state: State, digest: Buffer): Promise<void> {
  const { tenant, log, pruned } = state;
  const anchor = (await readSeals(tenant, log, pruned, pruned)).get(pruned);
  if (!anchor) {
    report(state, "seal_missing", pruned, null, `Seal ${pruned}, where pruning ended, is missing.`);
    return;
  }
  if (!anchor.digest.equals(digest)) {
    const detail = `Seal ${pruned} is not the one that the receipt of the pruning names.`;
    report(state, "seal_changed", pruned, null, detail);
  }
  const left = await readLeaves(tenant, log, BEGINNING, anchor.place, FINDINGS_MAX);
  for (const { id } of left) {
    report(state, "inserted", pruned, id, `Entry ${id} stands where everything was pruned.`);
  }
}
