import type postgres from "postgres";
import type { TenantConnection, TenantDatabase } from "../src/db/tenant-database.ts";
import type { TenantSql } from "../src/db/transactions.ts";
import { Keys } from "../src/keys.ts";
import { signupCodeSms } from "../src/messaging/messages.ts";
import { messageContext, MessageQueue } from "../src/messaging/queue.ts";
import { keepBusy, ratio, spread, uniform } from "./load.ts";
import { latencyText, printTable, ratioText, whole } from "./report.ts";

export interface WritesOptions {
  readonly admin: postgres.Sql;
  readonly connect: (transactionConnections: number) => TenantDatabase;
  readonly tenants: number;
  readonly rounds: number;
  readonly seconds: number;
}

/** Writers at once: one alone, so that its latency is the cost; and as many as make commits meet. */
const WRITERS = [1, 32] as const;

const CHANNEL = "bench_messages";

type Queue = (tx: TenantSql, tenant: number) => Promise<void>;

/**
 * What telling others of a queued message costs the transaction that queues it: a mark in the
 * registry, with and without the marks that are skipped, and NOTIFY, as ratios to the insert alone.
 *
 * @returns the ratio with skipped marks under the greatest number of writers
 */
export async function printWrites(options: WritesOptions): Promise<number> {
  let skipped = Number.NaN;
  for (const writers of WRITERS) skipped = await printWritesOf(writers, options);
  return skipped;
}

async function printWritesOf(
  writers: number,
  { admin, connect, tenants, rounds, seconds }: WritesOptions,
): Promise<number> {
  const database = connect(writers);
  await database.open();
  // On a connection of its own.
  const listening = await admin.listen(CHANNEL, () => undefined);
  try {
    const ways = makeWays(database.registry);
    const draw = uniform(tenants);
    const perSecond = new Map<string, number[]>(ways.map(([name]) => [name, []]));
    const medians = new Map<string, number[]>(ways.map(([name]) => [name, []]));
    const tails = new Map<string, number[]>(ways.map(([name]) => [name, []]));
    for (let round = 0; round <= rounds; round += 1) {
      for (const [name, makeQueue] of ways) {
        await admin`truncate public.message_queues`;
        const queue = await makeQueue(tenants);
        const write = () => {
          const tenant = 1 + draw();
          return database.tenant(tenant).transaction((tx) => queue(tx, tenant));
        };
        const measured = await keepBusy(write, { seconds, concurrency: writers });
        // Round 0 opens connections and reads catalogues.
        if (round === 0) continue;
        perSecond.get(name)?.push(measured.perSecond);
        medians.get(name)?.push(measured.latency.p50);
        tails.get(name)?.push(measured.latency.p99);
      }
    }
    const figures = (name: string) => perSecond.get(name) ?? [];
    printTable(
      `Messages queued, ${writers} ${writers === 1 ? "writer" : "writers at once"}`,
      ["how others learn of it", "messages a second", "ratio to the bound", "p50 / p99 ms"],
      ways.map(([name]) => [
        name,
        whole(spread(figures(name)).median),
        ratioText(ratio(figures(name), figures(BOUND))),
        latencyText({
          p50: spread(medians.get(name) ?? []).median,
          p99: spread(tails.get(name) ?? []).median,
        }),
      ]),
    );
    return ratio(figures(SKIPPED), figures(BOUND)).median;
  } finally {
    await listening.unlisten();
    await database.close();
  }
}

const BOUND = "not at all (the bound)";
const SKIPPED = "a mark, but no second one within 30 s";

type Way = readonly [name: string, makeQueue: (tenants: number) => Promise<Queue>];

function makeWays(registry: TenantConnection): Way[] {
  const keys = new Keys({ secretKey: "s".repeat(48), encryptionKey: "e".repeat(48) });
  const message = signupCodeSms("+201001234567", "123456", 10);
  const wake = () => undefined;
  /** The product's way, with another registry. A new queue remembers no mark. */
  const add =
    (to: TenantConnection, queue?: MessageQueue): Queue =>
    (tx, tenant) =>
      (queue ?? new MessageQueue({ keys, registry: to, wake })).add(tx, tenant, message, 600);
  /** A registry that is told nothing: the same code, without the mark. */
  const silent: TenantConnection = { ...registry, batch: nothing };
  const durable: TenantConnection = {
    ...registry,
    // Without the statement that says not to wait for the disk.
    batch: (build) => registry.batch((q) => build(q).slice(1)),
  };
  return [
    [BOUND, async () => add(silent)],
    ["a mark for each message", async () => add(registry)],
    ["the same, the mark on the disk first", async () => add(durable)],
    [SKIPPED, async (tenants) => add(registry, await markedAhead(registry, tenants))],
    ["NOTIFY, as ADR 9 had it", async () => notify],
  ];

  /** A queue that takes every tenant for marked: what is measured are messages after the first one. */
  async function markedAhead(real: TenantConnection, tenants: number): Promise<MessageQueue> {
    let isReal = false;
    const switched: TenantConnection = {
      ...real,
      batch: (build) => (isReal ? real.batch(build) : nothing()),
    };
    const queue = new MessageQueue({ keys, registry: switched, wake });
    const tx = Object.assign(() => Promise.resolve([]), {
      afterCommit: wake,
      savepoint: () => Promise.reject(new Error("Not used here")),
      withCommit: () => undefined,
    });
    for (let tenant = 1; tenant <= tenants; tenant += 1) await queue.add(tx, tenant, message, 600);
    isReal = true;
    return queue;
  }

  async function notify(tx: TenantSql, tenant: number): Promise<void> {
    const sealed = keys.seal(JSON.stringify(message), messageContext(tenant));
    await tx`
      with queued as (
        insert into messages (channel, sealed, expires_at)
        values (${message.channel}, ${sealed}, now() + make_interval(secs => ${600}::int))
        returning id
      )
      select pg_notify(${CHANNEL}::text, ${String(tenant)}::text) from queued`;
  }
}

/** Takes a batch for run. */
function nothing<Rows>(): Promise<Rows> {
  // Nobody looks at the rows of a mark.
  return Promise.resolve([] as Rows);
}
