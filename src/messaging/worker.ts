import { type ClaimedMessage, deliver, type DeliveryContext } from "./deliveries.ts";
import type { Message } from "./messages.ts";
import { type ClaimedQueue, claimDueQueues, settleQueue } from "./queue-hints.ts";
import { Slots } from "./slots.ts";

type Channel = Message["channel"];

/** How long a worker has a message to itself; past it another may send it again. */
const CLAIM_SECONDS = 60;

/** How often the registry is asked which queues are due. */
const SWEEP_INTERVAL_MS = 5_000;

/** Messages of one tenant and channel under way at once: one tenant's many do not hold up the others'. */
const DELIVERIES_PER_TENANT_MAX = 4;

/**
 * Messages of one channel under way at once, 16 in the process: a provider of e-mails that hangs
 * holds up no SMS.
 */
const DELIVERIES_PER_CHANNEL_MAX = 8;

/**
 * How long a worker that is stopped waits for providers: half of what the service has for stopping.
 * What they were given and did not answer for is due again.
 */
const STOP_PATIENCE_MS = 5_000;

/** One tenant's messages of one channel, while this process is at them. */
interface Line {
  readonly tenantId: number;
  readonly channel: Channel;
  /** Set when there may be more than was seen. */
  isRung: boolean;
  ring: () => void;
  done: Promise<void>;
}

/**
 * Sends what is queued: at least once, and once when nothing fails. A message is claimed for a minute
 * by the process that sends it, as many as it can send at that moment; no connection is held meanwhile.
 * What was queued in this process is sent on commit ({@link MessageWorker.wake}), all else is found by
 * the sweep over the registry's hints, which the processes share.
 */
export class MessageWorker {
  readonly #context: DeliveryContext;
  readonly #slots: Readonly<Record<Channel, Slots>>;
  readonly #lines = new Map<string, Line>();
  readonly #looks = new Set<Promise<void>>();
  /** Ends of the tries that are under way. */
  readonly #tries = new Set<AbortController>();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(context: DeliveryContext) {
    this.#context = context;
    this.#slots = {
      email: new Slots(DELIVERIES_PER_CHANNEL_MAX),
      sms: new Slots(DELIVERIES_PER_CHANNEL_MAX),
    };
  }

  /** Looks for due queues now and from time to time. */
  start(): void {
    void this.sweep();
    this.#timer = setInterval(() => void this.sweep(), SWEEP_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Takes no more messages, waits a while for those on their way, and lets go of the providers. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    for (const slots of Object.values(this.#slots)) slots.close();
    const { stopPatienceMs = STOP_PATIENCE_MS } = this.#context;
    const impatience = setTimeout(() => {
      for (const over of this.#tries) over.abort();
    }, stopPatienceMs);
    await Promise.all([...this.#lines.values()].map(({ done }) => done));
    await Promise.all(this.#looks);
    clearTimeout(impatience);
    const { email, sms } = this.#context.transports;
    for (const transport of new Set([email, sms])) await transport.close?.();
  }

  /**
   * Claims queues that are due, wherever the messages come from, and sends what is in them. Resolves
   * when all that was claimed has been dealt with; never rejects.
   */
  async sweep(): Promise<void> {
    if (this.#isStopped) return;
    const sweep = this.#sweep().catch((error: unknown) => {
      if (!this.#isStopped) {
        this.#context.log.warn({ err: error }, "The message queues could not be looked through");
      }
    });
    this.#looks.add(sweep);
    await sweep;
    this.#looks.delete(sweep);
  }

  /**
   * Sends what is due in one tenant's queue. Resolves when that has been dealt with; never rejects.
   */
  wake(tenantId: number, channel: Channel): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    const key = `${tenantId} ${channel}`;
    const known = this.#lines.get(key);
    if (known) {
      known.isRung = true;
      known.ring();
      return known.done;
    }
    const line: Line = {
      tenantId,
      channel,
      isRung: false,
      ring: () => undefined,
      done: Promise.resolve(),
    };
    this.#lines.set(key, line);
    line.done = this.#drain(line, () => this.#lines.delete(key));
    return line.done;
  }

  /**
   * Waits for what this process is sending, and was told to send, at the time of the call.
   *
   * @param patienceMs how long at most: a provider may take its time
   */
  async settled(patienceMs: number): Promise<void> {
    const underWay = Promise.all([...this.#lines.values()].map(({ done }) => done));
    await new Promise<void>((resolve) => {
      const impatience = setTimeout(resolve, patienceMs);
      void underWay.then(() => {
        clearTimeout(impatience);
        resolve();
      });
    });
  }

  async #sweep(): Promise<void> {
    const queues = await claimDueQueues(this.#context.database.registry);
    await Promise.all(
      queues.map((queue) =>
        this.#lookThrough(queue).catch((error: unknown) => {
          // The claim on the queue runs out, and somebody looks again.
          this.#warn(error, queue.tenant_id);
        }),
      ),
    );
  }

  async #lookThrough(queue: ClaimedQueue): Promise<void> {
    const { database } = this.#context;
    await Promise.all([this.wake(queue.tenant_id, "sms"), this.wake(queue.tenant_id, "email")]);
    const [left] = await database.tenant(queue.tenant_id).query<
      { due_in_seconds: number | null }[]
    >`
      select extract(epoch from min(next_attempt_at) - now())::float8 as due_in_seconds
        from messages`;
    await settleQueue(database.registry, queue, left?.due_in_seconds ?? null);
  }

  async #drain(line: Line, forget: () => void): Promise<void> {
    const underWay = new Set<Promise<void>>();
    try {
      do {
        line.isRung = false;
        await this.#sendDue(line, underWay);
        while (underWay.size > 0 && !line.isRung) {
          // What is queued meanwhile does not wait for a slow delivery.
          const rung = new Promise<void>((resolve) => (line.ring = resolve));
          await Promise.race([...underWay, rung]);
        }
      } while (line.isRung && !this.#isStopped);
      await Promise.all(underWay);
    } catch (error) {
      this.#warn(error, line.tenantId);
      await Promise.all(underWay);
    } finally {
      forget();
    }
  }

  /** Claims and begins to send until nothing more is due: never more than can be sent at once. */
  async #sendDue({ tenantId, channel }: Line, underWay: Set<Promise<void>>): Promise<void> {
    const slots = this.#slots[channel];
    for (;;) {
      while (underWay.size >= DELIVERIES_PER_TENANT_MAX) await Promise.race(underWay);
      const taken = await slots.take(DELIVERIES_PER_TENANT_MAX - underWay.size);
      if (taken === 0) return;
      let claimed: ClaimedMessage[] = [];
      try {
        claimed = await this.#claim(tenantId, channel, taken);
      } finally {
        slots.giveBack(taken - claimed.length);
      }
      for (const message of claimed) {
        const over = new AbortController();
        this.#tries.add(over);
        const delivery = deliver(this.#context, tenantId, message, over).finally(() => {
          this.#tries.delete(over);
          slots.giveBack(1);
          underWay.delete(delivery);
        });
        underWay.add(delivery);
      }
      if (claimed.length < taken) return;
    }
  }

  #claim(tenantId: number, channel: Channel, count: number): Promise<ClaimedMessage[]> {
    return this.#context.database.tenant(tenantId).query<ClaimedMessage[]>`
      with due as materialized (
        select id from messages
         where next_attempt_at <= now()
           and channel = ${channel}
         order by next_attempt_at
         limit ${count}::int
           for update skip locked
      )
      update messages m
         set attempts        = m.attempts + 1,
             next_attempt_at = now() + make_interval(secs => ${CLAIM_SECONDS}::int)
        from due
       where m.id = due.id
      returning m.id, m.channel, m.sealed, m.attempts, m.expires_at <= now() as is_expired`;
  }

  #warn(error: unknown, tenantId: number): void {
    // A database that is closed while the service stops is not worth a line.
    if (this.#isStopped) return;
    this.#context.log.warn({ err: error, tenant: tenantId }, "A message queue could not be read");
  }
}
