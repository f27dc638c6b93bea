import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import type { Keys } from "../keys.ts";
import type { Message } from "./messages.ts";
import { MARK_SKIP_SECONDS, markQueue } from "./queue-hints.ts";

/** What a message is sealed for: it opens in the tenant it was written in, nowhere else. */
export function messageContext(tenantId: number): string {
  return `message of tenant ${tenantId}`;
}

/** A message as it is sealed; a decoy is dropped unsent. */
export interface QueuedMessage extends Message {
  readonly isDecoy?: true;
}

export interface MessageQueueOptions {
  readonly keys: Keys;
  readonly registry: TenantConnection;
  /** Called after the commit of what was queued: sends it at once, where this process can send. */
  readonly wake: (tenantId: number, channel: Message["channel"]) => void;
}

interface Mark {
  readonly startedAt: number;
  readonly done: Promise<void>;
}

/** Where functions of a domain put the e-mails and SMS that a change sends. */
export class MessageQueue {
  readonly #options: MessageQueueOptions;
  /** Oldest first. Only those that still spare a mark: as many as had a message in that time. */
  readonly #marks = new Map<number, Mark>();

  constructor(options: MessageQueueOptions) {
    this.#options = options;
  }

  /**
   * Puts a message into the tenant's queue, in the caller's transaction: it is sent if and only if the
   * change it tells of commits, and no connection waits for a provider meanwhile. The tenant is marked
   * in the registry first, in a transaction of its own: should this process end right after the
   * commit, another finds the message.
   *
   * @param lifetimeSeconds after which it is of no use to anybody and is dropped
   * @throws AppError `overloaded`, `not_ready` when the registry cannot be told: the caller's
   *   transaction then fails, or there would be a message that nobody looks for
   */
  async add(
    tx: TenantSql,
    tenantId: number,
    message: QueuedMessage,
    lifetimeSeconds: number,
  ): Promise<void> {
    const { keys, wake } = this.#options;
    await this.#mark(tenantId);
    const sealed = keys.seal(JSON.stringify(message), messageContext(tenantId));
    await tx`
      insert into messages (channel, sealed, expires_at)
      values (${message.channel}, ${sealed}, now() + make_interval(secs => ${lifetimeSeconds}::int))`;
    tx.afterCommit(() => wake(tenantId, message.channel));
  }

  /**
   * Resolves when a mark that is young enough is committed. Its age is counted from before it was
   * sent, so it is never taken for younger than the registry knows it to be.
   */
  #mark(tenantId: number): Promise<void> {
    const now = performance.now();
    for (const [id, { startedAt }] of this.#marks) {
      if (now - startedAt < MARK_SKIP_SECONDS * 1_000) break;
      this.#marks.delete(id);
    }
    const known = this.#marks.get(tenantId);
    if (known) return known.done;
    const mark: Mark = {
      startedAt: now,
      done: markQueue(this.#options.registry, tenantId).catch((error: unknown) => {
        if (this.#marks.get(tenantId) === mark) this.#marks.delete(tenantId);
        throw error;
      }),
    };
    this.#marks.set(tenantId, mark);
    return mark.done;
  }
}
