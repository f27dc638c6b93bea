import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Proxy, startProxy } from "../../test/proxy.ts";
import { createScratchTenants, type ScratchTenants } from "../../test/scratch-tenants.ts";
import { AppError } from "../errors.ts";
import { TenantDatabase, type TenantDatabaseOptions } from "./tenant-database.ts";

/** Calls of the chaos test; `SIZE=100000` for a long run. 6,000 take about 10 s on 2 cores. */
const SIZE = Number(process.env["SIZE"] ?? 6_000);

/** What decides which calls are made and what is done to them (not when the server answers). */
const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

const TENANTS = 60;

/** How long and how often to look for what comes by itself; vitest's own second is short on a busy machine. */
const SOON = { timeout: 10_000, interval: 20 };

const opened: { close(): Promise<void> }[] = [];
const strays: unknown[] = [];
const onStray = (error: unknown) => strays.push(error);

let tenants: ScratchTenants;
let a: number;
let b: number;

function closing<T extends { close(): Promise<void> }>(resource: T): T {
  opened.push(resource);
  return resource;
}

function connect(options: Partial<TenantDatabaseOptions> = {}): TenantDatabase {
  return closing(
    new TenantDatabase({
      url: tenants.url,
      lanes: 1,
      transactionConnections: 1,
      preparedPerLaneMax: 100,
      ...options,
    }),
  );
}

async function startRelay(): Promise<Proxy> {
  return closing(await startProxy(tenants.url));
}

/** How a call ended, and after how long. */
async function outcome(call: () => Promise<unknown>): Promise<{ code: string; ms: number }> {
  const startedAt = performance.now();
  const code = await call().then(
    () => "ok",
    (error: unknown) => faultOf(error),
  );
  return { code, ms: performance.now() - startedAt };
}

/** An error by its code; a lost connection by its cause's, too. */
function faultOf(error: unknown): string {
  if (error instanceof AppError) {
    const cause = error.cause as { code?: string; message?: string } | undefined;
    return error.code === "not_ready"
      ? `not_ready (${cause?.code ?? cause?.message ?? "?"})`
      : error.code;
  }
  if (error instanceof postgres.PostgresError) return error.code;
  return String(error);
}

async function noteIds(tenant: number): Promise<number[]> {
  const rows = await tenants.admin.unsafe<{ id: number }[]>(
    `select id::int as id from t_${tenant}.notes order by id`,
  );
  return rows.map(({ id }) => id);
}

/** A promise and what settles it. */
function gate(): { opens: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opens = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opens, open };
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

beforeAll(async () => {
  process.on("unhandledRejection", onStray);
  process.on("uncaughtException", onStray);
  tenants = await createScratchTenants(TENANTS);
  const [first, second] = tenants.ids;
  if (first === undefined || second === undefined) throw new Error("Two tenants are needed");
  a = first;
  b = second;
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((resource) => resource.close()));
  await tenants.admin.unsafe(tenants.ids.map((id) => `truncate t_${id}.notes`).join("; "));
  if (strays.length > 0) throw new AggregateError(strays.splice(0), "Errors nobody was told of");
});

afterAll(async () => {
  await tenants.drop();
  process.off("unhandledRejection", onStray);
  process.off("uncaughtException", onStray);
});

describe("a backend that ends under a transaction's callback", () => {
  test("takes its handle with it: nothing late reaches another tenant's transaction", async () => {
    const database = connect();
    const late = gate();
    const begun = gate();
    let backend = 0;
    const lateResults: Promise<string[]>[] = [];
    const first = outcome(() =>
      database.tenant(a).transaction(async (tx) => {
        const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`;
        backend = row?.pid ?? 0;
        const results = late.opens.then(async () => {
          const codes: string[] = [];
          for (const call of [
            () => tx`select tenant from whoami`,
            () => tx`insert into notes (id, tenant) values (${1}, ${a})`,
            () => tx.savepoint(() => tx`insert into notes (id, tenant) values (${2}, ${a})`),
          ]) {
            codes.push((await outcome(call)).code);
          }
          return codes;
        });
        lateResults.push(results);
        begun.open();
        await results;
      }),
    );
    await begun.opens;
    await tenants.admin`select pg_terminate_backend(${backend})`;

    // The call ends although its callback does not.
    expect((await first).code).toMatch(/^not_ready/);
    // One connection only: the next tenant's transaction has the one that took its place.
    await database.tenant(b).transaction(async (tx) => {
      const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`;
      expect(row?.pid).not.toBe(backend);
      late.open();
      expect(await lateResults[0]).toEqual(Array(3).fill("Error: The transaction has ended"));
      await tx`insert into notes (id, tenant) values (${3}, ${b})`;
    });

    expect(await noteIds(a)).toEqual([]);
    expect(await noteIds(b)).toEqual([3]);
  });

  test("after the commit was asked for, the call is rejected and the connection replaced", async () => {
    const database = connect();
    await tenants.admin.unsafe(`
      create or replace function public.slow() returns trigger language plpgsql
        as 'begin perform pg_sleep(10); return null; end';
      create constraint trigger slow after insert on t_${a}.notes
        deferrable initially deferred for each row execute function public.slow()`);
    try {
      const call = outcome(() =>
        database.tenant(a).transaction((tx) => tx`insert into notes (id, tenant) values (1, 1)`),
      );
      await vi.waitUntil(async () => {
        const ended = await tenants.admin`
          select pg_terminate_backend(pid) from pg_stat_activity
          where usename = ${tenants.loginRole} and query = 'commit' and state = 'active'`;
        return ended.length > 0;
      }, SOON);

      expect((await call).code).toMatch(/^not_ready/);
    } finally {
      await tenants.admin.unsafe(`drop trigger slow on t_${a}.notes`);
    }
    expect(await noteIds(a)).toEqual([]);
    const next = await database.tenant(b).transaction((tx) => tx`select tenant from whoami`);
    expect(next).toEqual([{ tenant: b }]);
  });

  test("by idle_in_transaction_session_timeout, the call is rejected and nothing written", async () => {
    const database = connect({ transactionTimeouts: { idleInTransactionTimeoutMs: 100 } });

    const { code, ms } = await outcome(() =>
      database.tenant(a).transaction(async (tx) => {
        await tx`insert into notes (id, tenant) values (1, 1)`;
        await new Promise(() => undefined);
      }),
    );

    expect(code).toMatch(/^not_ready/);
    expect(ms).toBeLessThan(5_000);
    expect(await noteIds(a)).toEqual([]);
  });
});

describe("a server that is not there", () => {
  const probe = (database: TenantDatabase) => ({
    query: () => outcome(() => database.tenant(a).query`select tenant from whoami`),
    transaction: () =>
      outcome(() => database.tenant(a).transaction((tx) => tx`select tenant from whoami`)),
  });

  test("at the start: calls are not_ready, and succeed once it is", async () => {
    const relay = await startRelay();
    relay.cut();
    const database = connect({ url: relay.url });
    await database.open();
    const { query, transaction } = probe(database);

    for (const { code, ms } of await Promise.all([query(), transaction()])) {
      expect(code).toMatch(/^not_ready/);
      expect(ms).toBeLessThan(6_000);
    }

    relay.restore();
    expect((await query()).code).toBe("ok");
    expect((await transaction()).code).toBe("ok");
  });

  test("for a while: what was under way is not_ready, and later calls succeed", async () => {
    const relay = await startRelay();
    const database = connect({ url: relay.url });
    const { query, transaction } = probe(database);
    await query();
    const underWay = outcome(
      () => database.tenant(a).query`insert into notes (id, tenant) select 1, 1 from pg_sleep(1)`,
    );
    await vi.waitUntil(() => Buffer.concat(relay.received).includes("pg_sleep"), SOON);

    relay.cut();

    expect((await underWay).code).toMatch(/^not_ready/);
    for (const { code } of await Promise.all([query(), transaction()])) {
      expect(code).toMatch(/^not_ready/);
    }
    relay.restore();
    expect((await query()).code).toBe("ok");
    expect((await transaction()).code).toBe("ok");
  });

  test("for less than a lane waits: a query that came meanwhile succeeds", async () => {
    const relay = await startRelay();
    const database = connect({ url: relay.url });
    const { query } = probe(database);
    await query();
    relay.cut();
    await vi.waitUntil(() => database.lanes()[0]?.pid === undefined, SOON);

    const call = query();
    setTimeout(() => relay.restore(), 100);

    expect((await call).code).toBe("ok");
  });

  test("but takes connections and says nothing: calls are not_ready within 8 s", async () => {
    const relay = await startRelay();
    relay.swallow();
    const { query, transaction } = probe(connect({ url: relay.url }));

    for (const { code, ms } of await Promise.all([query(), transaction()])) {
      expect(code).toMatch(/^not_ready/);
      expect(ms).toBeLessThan(8_000);
    }

    relay.restore();
    expect((await query()).code).toBe("ok");
    expect((await transaction()).code).toBe("ok");
  });
});

describe("an answer that is lost", () => {
  test.each(["query", "transaction"] as const)(
    "after a %s has committed rejects the call with not_ready, and the write is made once",
    async (way) => {
      const relay = await startRelay();
      const database = connect({ url: relay.url });
      const tenant = database.tenant(a);
      const write = {
        query: () => tenant.query`insert into notes (id, tenant) values (${1}, ${a})`,
        transaction: () =>
          tenant.transaction(async (tx) => {
            await tx`insert into notes (id, tenant) values (${1}, ${a})`;
            relay.mute();
          }),
      };
      await tenant.query`select tenant from whoami`;
      if (way === "query") relay.mute();

      const call = outcome(write[way]);
      await vi.waitUntil(async () => (await noteIds(a)).length === 1, SOON);
      relay.drop(1);
      relay.drop(0);

      expect((await call).code).toMatch(/^not_ready/);
      await vi.waitUntil(() => database.lanes()[0]?.pid === undefined, SOON);
      // A second try would come before this answer: the lane and the pool have one connection each.
      await tenant.query`select tenant from whoami`;
      await tenant.transaction((tx) => tx`select tenant from whoami`);
      expect(await noteIds(a)).toEqual([1]);
    },
  );
});

describe("a socket that is open and dead", () => {
  test("fails its calls with not_ready within the bound, is closed, and is replaced", async () => {
    const relay = await startRelay();
    const timeouts = { statementTimeoutMs: 300, lockTimeoutMs: 100 };
    const database = connect({
      url: relay.url,
      laneTimeouts: timeouts,
      transactionTimeouts: timeouts,
    });
    const query = () => outcome(() => database.tenant(a).query`select tenant from whoami`);
    const transaction = () =>
      outcome(() => database.tenant(a).transaction((tx) => tx`select tenant from whoami`));
    await Promise.all([query(), transaction()]);
    const before = database.lanes()[0]?.pid;
    relay.stall();

    // 300 + 100 + 2,000 ms of silence, counted in whole seconds.
    for (const { code, ms } of await Promise.all([query(), transaction()])) {
      expect(code).toMatch(/^not_ready/);
      expect(ms).toBeLessThan(6_000);
    }

    await vi.waitUntil(() => {
      relay.poke();
      return relay.connectionCount === 0;
    }, SOON);
    expect((await query()).code).toBe("ok");
    expect((await transaction()).code).toBe("ok");
    expect(database.lanes()[0]?.pid).not.toBe(before);
  });

  test("is not what a busy process takes it for: an answer not yet read counts", async () => {
    const database = connect({ laneTimeouts: { statementTimeoutMs: 100, lockTimeoutMs: 100 } });
    await database.open();
    const pid = database.lanes()[0]?.pid;

    for (let round = 0; round < 2; round += 1) {
      const call = outcome(() => database.tenant(a).query`select tenant from whoami`);
      // Busy past the bound of 3 s: first before the statement went out, then after.
      await new Promise((resolve) => setImmediate(resolve));
      if (round > 0) await new Promise((resolve) => setImmediate(resolve));
      const until = performance.now() + 3_200;
      while (performance.now() < until);
      expect((await call).code).toBe("ok");
    }

    expect(database.lanes()[0]?.pid).toBe(pid);
  });
});

describe("thousands of reads and writes while backends are ended and statements cancelled", () => {
  /** How long one call may take: the queue for a connection (5 s), and opening one (5 s) at worst. */
  const SETTLES_WITHIN_MS = 15_000;
  const CONCURRENCY = 64;

  test(
    "no read and no write reaches another tenant, none that was acknowledged is lost or made twice",
    { timeout: 120_000 + SIZE * 20 },
    async () => {
      const random = randomFrom(SEED);
      const pick = <T>(list: readonly T[]): T => {
        const item = list[Math.floor(random() * list.length)];
        if (item === undefined) throw new Error("Nothing to pick from");
        return item;
      };
      const relay = await startRelay();
      const database = connect({
        url: relay.url,
        lanes: 4,
        transactionConnections: 6,
        preparedPerLaneMax: 60,
        laneTimeouts: { statementTimeoutMs: 40, lockTimeoutMs: 40 },
        transactionTimeouts: { statementTimeoutMs: 60, lockTimeoutMs: 60 },
      });
      const acknowledged = new Map<number, number>();
      const attempted = new Map<number, number>();
      const faults = new Map<string, number>();
      let wrongReads = 0;
      let reads = 0;
      let hangs = 0;
      let nextId = 0;

      const check = (rows: readonly object[] | undefined, tenant: number) => {
        reads += 1;
        const [row] = (rows ?? []) as readonly { tenant?: number }[];
        if (row?.tenant !== tenant) wrongReads += 1;
      };
      const newNote = (tenant: number) => {
        nextId += 1;
        attempted.set(nextId, tenant);
        return nextId;
      };
      const calls: readonly ((tenant: number) => Promise<void>)[] = [
        async (tenant) =>
          check(await database.tenant(tenant).query`select tenant from whoami`, tenant),
        async (tenant) =>
          check(
            await database.tenant(tenant)
              .query`select w.tenant, ${tenant}::bigint as asked from whoami w left join notes n on n.id = ${nextId}`,
            tenant,
          ),
        async (tenant) => {
          const id = newNote(tenant);
          check(
            await database.tenant(tenant)
              .query`insert into notes (id, tenant) select ${id}, ${tenant} returning (select tenant from whoami)`,
            tenant,
          );
          acknowledged.set(id, tenant);
        },
        async (tenant) => {
          const id = newNote(tenant);
          const [before, , after] = await database
            .tenant(tenant)
            .batch((q) => [
              q`select tenant from whoami`,
              q`insert into notes (id, tenant) values (${id}, ${tenant})`,
              q`select tenant from whoami`,
            ]);
          acknowledged.set(id, tenant);
          check(before, tenant);
          check(after, tenant);
        },
        async (tenant) => {
          const id = newNote(tenant);
          const rows = await database.tenant(tenant).transaction(async (tx) => {
            check(await tx`select tenant from whoami`, tenant);
            await sleep(random() * 4);
            await tx`insert into notes (id, tenant) values (${id}, ${tenant})`;
            return tx`select tenant from whoami`;
          });
          acknowledged.set(id, tenant);
          check(rows, tenant);
        },
        async (tenant) => {
          // Past statement_timeout half of the time, with a write that must then not be there.
          const id = newNote(tenant);
          const seconds = random() < 0.5 ? 0.2 : 0.005;
          const isAlone = random() < 0.5;
          const run = isAlone
            ? database.tenant(tenant).transaction(
                (tx) => tx`
                with slept as (select pg_sleep(${seconds}))
                insert into notes (id, tenant) select ${id}, ${tenant} from slept`,
              )
            : database
                .tenant(tenant)
                .batch((q) => [
                  q`insert into notes (id, tenant) values (${id}, ${tenant})`,
                  q`select pg_sleep(${seconds})`,
                ]);
          await run;
          acknowledged.set(id, tenant);
        },
      ];
      // Slow ones are rare: they hold a lane for as long as they last.
      const weighted = [...Array(6).fill(calls.slice(0, 5)).flat(), calls[5]] as typeof calls;

      const todo = { calls: SIZE };
      const worker = async () => {
        while (todo.calls > 0) {
          todo.calls -= 1;
          const tenant = pick(tenants.ids);
          const { code, ms } = await outcome(() => pick(weighted)(tenant));
          if (ms > SETTLES_WITHIN_MS) hangs += 1;
          if (code !== "ok") faults.set(code, (faults.get(code) ?? 0) + 1);
        }
      };
      let ended = 0;
      let cancelled = 0;
      let dropped = 0;
      const chaos = (async () => {
        while (todo.calls > 0) {
          await sleep(random() * 20);
          const chance = random();
          if (chance < 0.2) {
            dropped += 1;
            relay.drop(Math.floor(random() * relay.connectionCount));
            continue;
          }
          const isEnd = chance < 0.5;
          const victims = isEnd
            ? await tenants.admin`
                select pg_terminate_backend(pid) from pg_stat_activity
                where usename = ${tenants.loginRole} order by random() limit 1`
            : await tenants.admin`
                select pg_cancel_backend(pid) from pg_stat_activity
                where usename = ${tenants.loginRole} order by random() limit 3`;
          if (isEnd) ended += victims.length;
          else cancelled += victims.length;
        }
      })();
      const startedAt = performance.now();
      const settled = await Promise.race([
        Promise.all(Array.from({ length: CONCURRENCY }, worker)).then(() => true),
        sleep(100_000 + SIZE * 20, false, { ref: false }),
      ]);
      if (!settled) hangs += 1;
      todo.calls = 0;
      await chaos;

      const stored = await tenants.admin.unsafe<{ place: string; id: number; tenant: string }[]>(
        tenants.ids
          .map((id) => `select ${id} as place, id::int as id, tenant from t_${id}.notes`)
          .join(" union all "),
      );
      const times = new Map<number, number>();
      let wrongWrites = 0;
      let unknownCommitted = 0;
      for (const { place, id, tenant } of stored) {
        if (place !== tenant || attempted.get(id) !== Number(place)) wrongWrites += 1;
        if (!acknowledged.has(id)) unknownCommitted += 1;
        times.set(id, (times.get(id) ?? 0) + 1);
      }
      const lost = [...acknowledged.keys()].filter((id) => !times.has(id)).length;
      const twice = [...times.values()].filter((count) => count > 1).length;
      const lostConnections = [...faults].reduce(
        (sum, [code, count]) => (code.startsWith("not_ready") ? sum + count : sum),
        0,
      );
      // A rejection of a statement that committed is allowed only where the answer was lost on its way.
      console.log(
        `seed ${SEED}: ${SIZE} calls in ${((performance.now() - startedAt) / 1000).toFixed(1)} s, ` +
          `${reads} reads checked, ${acknowledged.size} writes acknowledged; ` +
          `${ended} backends ended, ${dropped} connections dropped, ${cancelled} cancels; ` +
          `faults seen by callers: ${JSON.stringify(Object.fromEntries(faults))}; ` +
          `wrong reads ${wrongReads}, wrong writes ${wrongWrites}, lost ${lost}, twice ${twice}, ` +
          `hangs ${hangs}, stray errors ${strays.length}, rejected but committed ${unknownCommitted}`,
      );

      expect({ wrongReads, wrongWrites, lost, twice, hangs, strays }).toEqual({
        wrongReads: 0,
        wrongWrites: 0,
        lost: 0,
        twice: 0,
        hangs: 0,
        strays: [],
      });
      expect(unknownCommitted).toBeLessThanOrEqual(lostConnections);
      expect(acknowledged.size).toBeGreaterThan(SIZE / 4);
      expect(faults.get("57014") ?? 0).toBeGreaterThan(0);
      expect(lostConnections).toBeGreaterThan(0);
      // Nothing else went wrong, and every lane still works.
      expect(
        [...faults.keys()].filter((code) => !/^(57014|not_ready.*|55P03)$/.test(code)),
      ).toEqual([]);
      for (const tenant of tenants.ids.slice(0, 8)) {
        expect(
          await vi.waitFor(() => database.tenant(tenant).query`select tenant from whoami`, SOON),
        ).toEqual([{ tenant }]);
      }
    },
  );
});
