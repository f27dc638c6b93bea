import { createHash } from "node:crypto";
import type { TenantConnection, TenantDatabase } from "../db/tenant-database.ts";
import type { Keys } from "../keys.ts";
import type { Metrics } from "../metrics.ts";
import { maskEmail, maskPhone } from "../phones.ts";
import type { Message } from "./messages.ts";
import { messageContext, type QueuedMessage } from "./queue.ts";
import { hastenQueue } from "./queue-hints.ts";
import { DeliveryError, PermanentDeliveryError, type Transport } from "./transport.ts";

export interface WorkerLog {
  warn(details: object, message: string): void;
}

/** What sending needs. */
export interface DeliveryContext {
  readonly database: TenantDatabase;
  readonly keys: Keys;
  readonly transports: Readonly<Record<Message["channel"], Transport>>;
  readonly metrics: Metrics;
  readonly log: WorkerLog;
  /** Instead of {@link DELIVERY_TIMEOUT_MS}. */
  readonly deliveryTimeoutMs?: number;
  /** Instead of the worker's own patience when it is stopped. */
  readonly stopPatienceMs?: number;
}

/**
 * How long one try may take. Together with the statements around it, each of which has 2 s and may
 * wait 2 s for a connection, well within the minute that a message is claimed for.
 */
const DELIVERY_TIMEOUT_MS = 20_000;

/** A row of `messages` that this process has to itself for a while. */
export interface ClaimedMessage {
  readonly id: number;
  readonly channel: Message["channel"];
  readonly sealed: Uint8Array;
  /** Tries so far, this one included: no other claim of the row has the same. */
  readonly attempts: number;
  readonly is_expired: boolean;
}

/** Pause before the next try: 2, 4, 8 … seconds up to this, half of it by chance. */
const RETRY_SECONDS_MAX = 600;

/** How often what became of a message is written down before it is left to the claim's end. */
const WRITES_MAX = 3;

/**
 * Tries once to deliver a claimed message, and writes down what became of it: a row that is done with is
 * deleted, one that failed is due again later, and at the latest when it expires. A decoy is deleted
 * without a word, and so is one of a tenant that sends none. Never rejects: what could not be written down is tried again when the claim ends.
 *
 * @param over ends the try: aborted here after a while, and by whoever cannot wait so long
 */
export async function deliver(
  context: DeliveryContext,
  tenantId: number,
  row: ClaimedMessage,
  over: AbortController,
): Promise<void> {
  const details: Record<string, unknown> = {
    tenant: tenantId,
    message: row.id,
    channel: row.channel,
    attempts: row.attempts,
  };
  const told = (outcome: "sent" | "retried" | "given_up" | "expired" | "suppressed") =>
    context.metrics.messages.inc({ channel: row.channel, outcome });
  try {
    const message = open(context, tenantId, row);
    details["to"] = row.channel === "sms" ? maskPhone(message.to) : maskEmail(message.to);
    if (row.is_expired && !message.isDecoy) {
      told("expired");
      context.log.warn(details, "A message was too old to send");
    } else if (!message.isDecoy && (await isMuted(context, tenantId))) {
      told("suppressed");
    } else if (!message.isDecoy) {
      await send(context, message, deliveryId(tenantId, row), over);
      told("sent");
    }
  } catch (error) {
    details["err"] = error;
    if (!(error instanceof PermanentDeliveryError)) {
      told("retried");
      context.log.warn(details, "A message could not be sent yet");
      await writeDown(context, details, () => postpone(context, tenantId, row));
      return;
    }
    told("given_up");
    context.log.warn(details, "A message was given up");
  }
  const tenant = context.database.tenant(tenantId);
  await writeDown(context, details, () => tenant.query`delete from messages where id = ${row.id}`);
}

/** Whether a tenant sends nothing: a copy for trying things out. */
async function isMuted({ database }: DeliveryContext, tenantId: number): Promise<boolean> {
  const [row] = await database.registry.query<{ sends_messages: boolean }[]>`
    select sends_messages from public.tenants where id = ${tenantId}`;
  return row?.sends_messages === false;
}

/**
 * @throws PermanentDeliveryError when it is not what was sealed for this tenant; DeliveryError when the
 *   key is not known here: while ENCRYPTION_KEY is being changed another process may know it
 */
function open(
  { keys }: DeliveryContext,
  tenantId: number,
  { sealed }: ClaimedMessage,
): QueuedMessage {
  if (!keys.canOpen(sealed)) {
    throw new DeliveryError("The message was sealed with a key that is not known here.");
  }
  let message: Partial<QueuedMessage>;
  try {
    // What MessageQueue.add sealed, which may have been of another version.
    message = JSON.parse(keys.open(sealed, messageContext(tenantId))) as Partial<QueuedMessage>;
  } catch {
    throw new PermanentDeliveryError("The message cannot be opened with the keys there are.");
  }
  const { channel, to, body } = message;
  if (channel === undefined || to === undefined || body === undefined) {
    throw new PermanentDeliveryError("What was sealed is not a message.");
  }
  return { ...message, channel, to, body };
}

/**
 * Names a message for the provider and the receiver. Not by its row alone: a database that was restored
 * gives the same ids again, and mailboxes drop what they take for a mail they have.
 */
function deliveryId(tenantId: number, { id, sealed }: ClaimedMessage): string {
  const digest = createHash("sha256").update(sealed).digest("hex").slice(0, 16);
  return `${tenantId}.${id}.${digest}`;
}

/** @throws DeliveryError when the try is over before the provider answers; what the transport throws */
async function send(
  { transports, deliveryTimeoutMs = DELIVERY_TIMEOUT_MS }: DeliveryContext,
  { channel, to, subject, body }: QueuedMessage,
  id: string,
  over: AbortController,
): Promise<void> {
  const { signal } = over;
  const isOver = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () =>
      reject(new DeliveryError("The provider did not answer in the time there was.")),
    );
  });
  const timer = setTimeout(() => over.abort(), deliveryTimeoutMs);
  const message: Message = { channel, to, ...(subject === undefined ? {} : { subject }), body };
  try {
    await Promise.race([transports[channel].send(message, { id, signal }), isOver]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Makes the message due again, and the tenant's queue with it. The number of tries says whose claim it
 * is: one that ran out meanwhile and was taken over is left alone.
 */
async function postpone(
  { database }: DeliveryContext,
  tenantId: number,
  { id, attempts }: ClaimedMessage,
): Promise<void> {
  const tenant: TenantConnection = database.tenant(tenantId);
  const [row] = await tenant.query<{ due_in_seconds: number }[]>`
    update messages
       set next_attempt_at = least(
             now() + make_interval(secs => ${pauseSeconds(attempts)}::float8), expires_at)
     where id = ${id}
       and attempts = ${attempts}
    returning extract(epoch from next_attempt_at - now())::float8 as due_in_seconds`;
  if (row) await hastenQueue(database.registry, tenantId, row.due_in_seconds);
}

/** Half of it is fixed, half by chance: what failed together is not tried together. */
function pauseSeconds(attempts: number): number {
  return Math.min(RETRY_SECONDS_MAX, 2 ** attempts) * (0.5 + Math.random() / 2);
}

/**
 * The provider has the message; a database that is away for a moment is no reason to hand it over
 * again. A failed statement waits for its connection by itself, so there is no pause here.
 */
async function writeDown(
  { log }: DeliveryContext,
  details: object,
  write: () => Promise<unknown>,
): Promise<void> {
  for (let tried = 1; ; tried += 1) {
    try {
      await write();
      return;
    } catch (error) {
      if (tried < WRITES_MAX) continue;
      log.warn({ ...details, err: error }, "What became of a message could not be written down");
      return;
    }
  }
}
