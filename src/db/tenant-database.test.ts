import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startProxy } from "../../test/proxy.ts";
import { createScratchTenants, type ScratchTenants } from "../../test/scratch-tenants.ts";
import { Connection } from "./connection.ts";
import { LaneConnection } from "./lane-connection.ts";
import { Lane } from "./lane.ts";
import { json, sql } from "./sql.ts";
import { TenantDatabase, type TenantDatabaseOptions, tenantSchema } from "./tenant-database.ts";
import { type TenantSql, TransactionPool } from "./transactions.ts";

const TIMEOUTS = {
  applicationName: "ouvira test",
  statementTimeoutMs: 5_000,
  lockTimeoutMs: 1_000,
  idleInTransactionTimeoutMs: 5_000,
};

/** How long and how often to look for what comes by itself; vitest's own second is short on a busy machine. */
const SOON = { timeout: 10_000, interval: 20 };

let tenants: ScratchTenants;
let a: number;
let b: number;
const opened: { close(): Promise<void> }[] = [];

/** A database of the scratch tenants, closed after the test. */
function connect(options: Partial<TenantDatabaseOptions> = {}): TenantDatabase {
  return closing(
    new TenantDatabase({
      url: tenants.url,
      lanes: 1,
      transactionConnections: 2,
      preparedPerLaneMax: 100,
      ...options,
    }),
  );
}

function closing<T extends { close(): Promise<void> }>(resource: T): T {
  opened.push(resource);
  return resource;
}

function scopeOf(tenant: number) {
  return { role: tenantSchema(tenant), schema: tenantSchema(tenant) };
}

/** What every tenant's `notes` hold, seen by the superuser. */
async function notes(): Promise<{ place: string; id: number }[]> {
  const parts = tenants.ids.map((id) => `select 't_${id}' as place, id::int from t_${id}.notes`);
  return tenants.admin.unsafe<{ place: string; id: number }[]>(
    `${parts.join(" union all ")} order by place, id`,
  );
}

/** The rejection of a call, which must reject. */
async function refusal(call: Promise<unknown>): Promise<{ code?: string; message: string }> {
  return call.then(
    () => {
      throw new Error("It was not refused");
    },
    (error: unknown) => error as { code?: string; message: string },
  );
}

/** A promise and what settles it. */
function gate(): { opens: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opens = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opens, open };
}

beforeAll(async () => {
  tenants = await createScratchTenants(3);
  const [first, second] = tenants.ids;
  if (first === undefined || second === undefined) throw new Error("Two tenants are needed");
  a = first;
  b = second;
  // A table that public and b have, and a has not.
  await tenants.admin.unsafe(`
    grant usage on schema public to public;
    create table public.elsewhere (name text);
    insert into public.elsewhere values ('public');
    grant select, insert on public.elsewhere to public;
    create table t_${b}.elsewhere (name text);
    grant select, insert on t_${b}.elsewhere to t_${b};`);
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((resource) => resource.close()));
  await tenants.admin.unsafe(tenants.ids.map((id) => `delete from t_${id}.notes`).join("; "));
});

afterAll(() => tenants.drop());

describe("isolation", () => {
  test.each(["query", "batch", "transaction"] as const)(
    "%s reads and writes its own tenant's tables",
    async (way) => {
      const database = connect();
      for (const id of [a, b]) {
        const tenant = database.tenant(id);
        const run = {
          query: async () => {
            await tenant.query`insert into notes (id, tenant) values (${1}, ${id})`;
            return tenant.query`select tenant, current_user::text as role from whoami`;
          },
          batch: async () =>
            (
              await tenant.batch((q) => [
                q`insert into notes (id, tenant) values (${1}, ${id})`,
                q`select tenant, current_user::text as role from whoami`,
              ])
            )[1],
          transaction: () =>
            tenant.transaction(async (tx) => {
              await tx`insert into notes (id, tenant) values (${1}, ${id})`;
              return tx`select tenant, current_user::text as role from whoami`;
            }),
        };

        expect(await run[way]()).toEqual([{ tenant: id, role: `t_${id}` }]);
      }
      expect(await notes()).toEqual([
        { place: `t_${a}`, id: 1 },
        { place: `t_${b}`, id: 1 },
      ]);
    },
  );

  test("another tenant's table by its full name is 42501, for reading and for writing", async () => {
    const tenant = connect().tenant(a);
    // The name cannot be a value; a route never builds it, and this is what it would meet.
    const foreign = (text: string) => sql(Object.assign([text], { raw: [text] }));
    const read = foreign(`select tenant from t_${b}.whoami`);
    const write = foreign(`insert into t_${b}.notes (id, tenant) values (1, 1)`);

    for (const statement of [read, write]) {
      expect(await refusal(tenant.batch(() => [statement]))).toMatchObject({ code: "42501" });
      expect(await refusal(tenant.transaction((tx) => tx`${statement}`))).toMatchObject({
        code: "42501",
      });
    }
    expect(await notes()).toEqual([]);
  });

  test("a table the tenant lacks is 42P01 though public and another tenant have one", async () => {
    const database = connect();
    const tenant = database.tenant(a);

    expect(await refusal(tenant.query`select name from elsewhere`)).toMatchObject({
      code: "42P01",
    });
    expect(
      await refusal(tenant.transaction((tx) => tx`insert into elsewhere values ('mine')`)),
    ).toMatchObject({ code: "42P01" });
    expect(await database.tenant(b).query`select name from elsewhere`).toEqual([]);
    expect(await tenants.admin`select name from public.elsewhere`).toEqual([{ name: "public" }]);
  });

  test("without a tenant nothing is found, not even public's table of that name", async () => {
    const connection = closing(await Connection.open({ ...TIMEOUTS, url: tenants.url }));
    const statement = { text: "select name from elsewhere", values: [] };

    expect(await refusal(connection.send(statement))).toMatchObject({ code: "42P01" });
    expect(await connection.send("show search_path")).toMatchObject([{ search_path: '""' }]);
  });

  test("the login role alone may not read or write a tenant's table", async () => {
    const connection = closing(await Connection.open({ ...TIMEOUTS, url: tenants.url }));

    expect(await refusal(connection.send(`select tenant from t_${a}.whoami`))).toMatchObject({
      code: "42501",
    });
    expect(await refusal(connection.send(`insert into t_${a}.notes values (1, 1)`))).toMatchObject({
      code: "42501",
    });
    expect(await notes()).toEqual([]);
  });

  test("a tenant whose role the login role may not take on is refused", async () => {
    const stranger = 2 ** 50;

    expect(
      await refusal(connect().tenant(stranger).query`select tenant from whoami`),
    ).toMatchObject({ code: "22023" });
    expect(
      await refusal(
        connect()
          .tenant(stranger)
          .transaction((tx) => tx`select 1 as one`),
      ),
    ).toMatchObject({ code: "22023" });
  });

  test("a number that is no id makes no tenant", () => {
    for (const id of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
      expect(() => connect().tenant(id)).toThrow(RangeError);
    }
  });
});

describe("query and batch", () => {
  test("the first run of a statement with values is one write, as is its preparation", async () => {
    const proxy = closing(await startProxy(tenants.url));
    const database = connect({ url: proxy.url });
    await database.tenant(b).query`select 1 as one`;
    for (let run = 1; run <= 3; run += 1) {
      const before = proxy.received.length;

      await database.tenant(a).query`select tenant from whoami where tenant > ${run}`;

      const writes = proxy.received.slice(before);
      expect(writes).toHaveLength(1);
      expect(writes[0]?.toString("latin1")).toMatch(/\0scope\0.*\/\*t_\d+\*\/ select|\0s1\0/s);
    }
    expect(database.lanes()).toMatchObject([{ prepared: 1 }]);
  });

  test("a batch is one transaction: when one statement fails, nothing is written", async () => {
    const tenant = connect().tenant(a);

    const error = await refusal(
      tenant.batch((q) => [
        q`insert into notes (id, tenant) values (${1}, ${a})`,
        q`select 1 / ${0}::int as nothing`,
        q`insert into notes (id, tenant) values (${2}, ${a})`,
      ]),
    );

    expect(error).toMatchObject({ code: "22012" });
    expect(await notes()).toEqual([]);
  });

  test("a failed call fails none of those sent beside it", async () => {
    const database = connect();

    const results = await Promise.allSettled([
      database.tenant(a).query`insert into notes (id, tenant) values (${1}, ${a})`,
      database.tenant(b).query`select 1 / ${0}::int as nothing`,
      database.tenant(b).query`insert into notes (id, tenant) values (${1}, ${b})`,
    ]);

    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(await notes()).toHaveLength(2);
  });

  test("a deferred constraint that fails at commit rejects the call, and nothing is written", async () => {
    await tenants.admin.unsafe(`
      create table if not exists t_${a}.pairs (id int primary key, other int references t_${a}.pairs (id) deferrable initially deferred);
      grant select, insert on t_${a}.pairs to t_${a}`);
    const tenant = connect().tenant(a);

    expect(await refusal(tenant.query`insert into pairs values (1, 2)`)).toMatchObject({
      code: "23503",
    });
    expect(
      await refusal(tenant.transaction((tx) => tx`insert into pairs values (1, 2)`)),
    ).toMatchObject({ code: "23503" });
    expect(await tenant.query`select id from pairs`).toEqual([]);
  });

  test("a statement of several commands is refused, and nothing is written", async () => {
    const error = await refusal(
      connect().tenant(a).query`commit; insert into notes (id, tenant) values (1, 1)`,
    );

    expect(error).toMatchObject({ code: "42601" });
    expect(await notes()).toEqual([]);
  });

  test("statements of a batch may each take as long as one may", async () => {
    // The lane gives a dead socket up after 4 to 5 s of silence; this is longer and never silent.
    const lane = closing(
      new Lane({
        ...TIMEOUTS,
        statementTimeoutMs: 1_000,
        lockTimeoutMs: 100,
        url: tenants.url,
        preparedMax: 10,
        pipelineMax: 4,
        pipelinePerTenantMax: 4,
        queueMax: 10,
        queuePerTenantMax: 10,
      }),
    );

    const results = await lane.run(
      scopeOf(a),
      Array.from({ length: 8 }, () => sql`select pg_sleep(0.8), ${1}::int as one`),
    );

    expect(results.flat()).toMatchObject(Array.from({ length: 8 }, () => ({ one: 1 })));
  });

  test("come and go as what they are, on first, second and later runs", async () => {
    const tenant = connect().tenant(a);
    const text = `it's "quoted" \\ \\n $1 é 😀 ; --`;
    const bytes = Buffer.from([0, 1, 92, 39, 255]);
    const at = new Date("1850-06-01T12:34:56.789Z");
    const list = ["a,b", 'c"d', "e\\f", "NULL", "", "{}"];

    for (let run = 1; run <= 3; run += 1) {
      const [row] = await tenant.query`
        select
          ${2 ** 53 - 1}::bigint                as big,
          ${at}::timestamptz                    as at,
          ${json({ text, list: [1, null] })}::jsonb as document,
          ${bytes}::bytea                       as bytes,
          to_json(${list}::text[])              as list,
          to_json(${[3, 1]}::bigint[])          as numbers,
          ${text}::text                         as text,
          ${null}::int                          as nothing,
          ${true}::boolean                      as yes,
          ${"2026-02-28"}::date                 as day`;

      expect(row).toEqual({
        big: 2 ** 53 - 1,
        at,
        document: { text, list: [1, null] },
        bytes,
        list,
        numbers: [3, 1],
        text,
        nothing: null,
        yes: true,
        day: "2026-02-28",
      });
    }
  });

  test("a time is read right whatever the server's time zone", async () => {
    await tenants.admin.unsafe(
      `alter role ${tenants.loginRole} set timezone = 'America/New_York'; alter role ${tenants.loginRole} set datestyle = 'SQL, DMY'`,
    );
    try {
      const at = new Date("1850-06-01T12:34:56.789Z");

      expect(await connect().tenant(a).query`select ${at}::timestamptz as at`).toEqual([{ at }]);
    } finally {
      await tenants.admin.unsafe(`alter role ${tenants.loginRole} reset all`);
    }
  });

  test.each([
    { day: "0044-03-15 BC", outcome: "0044-03-15 BC" },
    { day: "infinity", outcome: "infinity" },
    { day: "never", outcome: "22007" },
  ])(
    "the day $day, which JavaScript cannot read, costs nobody the connection",
    async ({ day, outcome }) => {
      const database = connect();
      await database.open();
      const [before] = database.lanes();
      const outcomes: string[] = [];

      for (let run = 1; run <= 3; run += 1) {
        outcomes.push(
          await database.tenant(a).query<{ day: string }[]>`select ${day}::date as day`.then(
            ([row]) => row?.day ?? "nothing",
            ({ code }: { code: string }) => code,
          ),
        );
      }

      expect(outcomes).toEqual([outcome, outcome, outcome]);
      expect(database.lanes()).toMatchObject([{ pid: before?.pid }]);
    },
  );

  test("a NUL character is an error, nothing is written, and the lane survives", async () => {
    const database = connect();
    const tenant = database.tenant(a);
    await database.open();
    const [before] = database.lanes();

    for (let run = 1; run <= 3; run += 1) {
      expect(
        await refusal(
          tenant.query`insert into notes (id, tenant) select 1, 1 where 'x' < ${"\0"}::text`,
        ),
      ).toMatchObject({ code: "22021" });
    }

    expect(await notes()).toEqual([]);
    expect(await tenant.query`select tenant from whoami`).toEqual([{ tenant: a }]);
    expect(database.lanes()).toMatchObject([{ pid: before?.pid }]);
  });
});

describe("prepared statements on the server", () => {
  /** What the tenants' backend keeps, asked through the lane itself. */
  const kept = async (database: TenantDatabase, like = "%") =>
    database.tenant(b).query<{ statement: string; from_sql: boolean }[]>`
      select statement from pg_prepared_statements
      where statement like ${like} and statement not like '%pg_prepared_statements%'`;

  test("a statement is prepared at its second sight, once", async () => {
    const database = connect();
    const run = () => database.tenant(a).query`select tenant as seen from whoami`;

    await run();
    expect(await kept(database, "%as seen%")).toEqual([]);
    await run();
    await run();
    expect(await kept(database, "%as seen%")).toMatchObject([
      { statement: expect.stringMatching(new RegExp(`^/\\*t_${a}\\*/ select`)) as string },
    ]);
  });

  test("however many there are, the server never keeps more than may be and 64, and the least recently used go", async () => {
    const preparedPerLaneMax = 8;
    const database = connect({ preparedPerLaneMax });
    const tenant = database.tenant(a);
    const numbered = (index: number) => {
      const text = `select ${index} as numbered`;
      return tenant.batch(() => [sql(Object.assign([text], { raw: [text] }))]);
    };
    let most = 0;
    for (let index = 0; index < 200; index += 1) {
      // The first statement stays in use; the others come and go.
      await numbered(0);
      await numbered(index);
      await numbered(index);
      most = Math.max(most, (await kept(database, "%as numbered")).length);
    }

    expect(most).toBeGreaterThan(preparedPerLaneMax);
    expect(most).toBeLessThanOrEqual(preparedPerLaneMax + 64);
    const statements = (await kept(database, "%as numbered")).map(({ statement }) => statement);
    expect(statements.filter((statement) => statement.includes("select 0 as"))).toHaveLength(1);
    expect(statements.some((statement) => statement.includes("select 1 as"))).toBe(false);
  });

  test("statements that fail after they were prepared, or are sent many at once, are not left behind", async () => {
    const database = connect({ preparedPerLaneMax: 8 });
    const tenant = database.tenant(a);
    const failing = (index: number) => {
      const text = `select 1 / 0 as numbered, ${index} as index`;
      return tenant.batch(() => [sql(Object.assign([text], { raw: [text] }))]);
    };
    for (let index = 0; index < 150; index += 1) {
      await Promise.allSettled(Array.from({ length: 4 }, () => failing(index)));
    }

    expect((await kept(database, "%as numbered%")).length).toBeLessThanOrEqual(8 + 64);
  });
});

describe("a column's type changes under a prepared statement", () => {
  const alter = (type: string) =>
    tenants.admin.unsafe(
      `alter table t_${a}.changing alter column amount type ${type} using amount::text::${type}`,
    );

  beforeAll(async () => {
    await tenants.admin.unsafe(`
      create table t_${a}.changing (id int, amount int);
      insert into t_${a}.changing values (1, 7);
      grant select, insert on t_${a}.changing to t_${a}`);
  });

  test("the next read succeeds, and no statement of it runs beside other tenants' transactions", async () => {
    await alter("int");
    const proxy = closing(await startProxy(tenants.url));
    const database = connect({ url: proxy.url });
    const read = () => database.tenant(a).query`select amount, ${"x"}::text as x from changing`;
    const other = () => database.tenant(b).query`select tenant, ${"x"}::text as x from whoami`;
    for (let run = 1; run <= 3; run += 1) await Promise.all([read(), other()]);
    await alter("text");
    const before = proxy.received.length;

    const [mine, theirs] = await Promise.all([
      Promise.all([read(), read(), read()]),
      Promise.all([other(), other(), other()]),
    ]);

    expect(mine.flat()).toEqual([1, 2, 3].map(() => ({ amount: "7", x: "x" })));
    expect(theirs.flat()).toEqual([1, 2, 3].map(() => ({ tenant: b, x: "x" })));
    // Between one Sync and the next, only what names the tenant whose scope was taken on there.
    const sent = Buffer.concat(proxy.received.slice(before)).toString("latin1");
    const scopes = sent
      .split("S\0\0\0\u0004")
      .map((exchange) => ({
        scope: /\0scope\0[^]*?(t_\d+)/.exec(exchange)?.[1],
        tags: [...exchange.matchAll(/\/\*(t_\d+)/g)].map(([, tag]) => tag),
      }))
      .filter(({ tags }) => tags.length > 0);
    expect(scopes.length).toBeGreaterThan(0);
    for (const { scope, tags } of scopes) expect(new Set(tags)).toEqual(new Set([scope]));
  });

  test("a statement whose plan is stale fails, and the connection goes on", async () => {
    const connection = closing(await LaneConnection.open({ ...TIMEOUTS, url: tenants.url }));
    const prepared = { key: "", name: "s1", isSent: false, columns: undefined };
    const statement = { text: "select amount from changing", values: [], prepared };
    await alter("int");
    await connection.runTransaction(scopeOf(a), [statement]);
    await alter("text");

    expect(await refusal(connection.runTransaction(scopeOf(a), [statement]))).toMatchObject({
      code: "0A000",
    });
    expect(connection.isOpen).toBe(true);
    const other = { text: "select tenant from whoami", values: [], prepared: undefined };
    expect(await connection.runTransaction(scopeOf(b), [other])).toEqual([[{ tenant: b }]]);
  });

  test.each([
    { from: "int", to: "bigint", old: 1, fresh: 3_000_000_000 },
    { from: "int", to: "text", old: 1, fresh: "many" },
    { from: "text", to: "int", old: "1", fresh: 2 },
  ])("a write prepared for $from succeeds for $to, once", async ({ from, to, old, fresh }) => {
    await tenants.admin.unsafe(`delete from t_${a}.changing where id = 2`);
    await alter(from);
    const tenant = connect().tenant(a);
    const write = (amount: string | number) =>
      tenant.query`insert into changing (id, amount) values (2, ${amount})`;
    for (let run = 1; run <= 3; run += 1) await write(old);
    await alter(to);
    await tenants.admin.unsafe(`delete from t_${a}.changing where id = 2`);

    await write(fresh);

    expect(await tenant.query`select amount from changing where id = 2`).toEqual([
      { amount: fresh },
    ]);
    await tenants.admin.unsafe(`delete from t_${a}.changing where id = 2`);
  });

  test("a statement that is wrong in itself fails, and is run only once more", async () => {
    await alter("int");
    const tenant = connect().tenant(a);
    const count = () => tenants.admin`select nextval('public.tries')`;
    await tenants.admin.unsafe(
      "create sequence public.tries; grant usage on public.tries to public",
    );
    const wrong = () => tenant.query`select nextval('public.tries'), ${"x"}::text::int as number`;
    for (let run = 1; run <= 2; run += 1) await refusal(wrong());
    const [before] = await count();

    expect(await refusal(wrong())).toMatchObject({ code: "22P02" });

    const [after] = await count();
    expect(Number(after?.["nextval"]) - Number(before?.["nextval"])).toBeLessThanOrEqual(3);
  });
});

describe("transaction", () => {
  test("a callback that throws writes nothing, and its error is the call's", async () => {
    const tenant = connect().tenant(a);

    const error = await refusal(
      tenant.transaction(async (tx) => {
        await tx`insert into notes (id, tenant) values (${1}, ${a})`;
        throw new Error("on second thoughts");
      }),
    );

    expect(error.message).toBe("on second thoughts");
    expect(await notes()).toEqual([]);
  });

  test("a statement whose error is swallowed fails the whole, and nothing is written", async () => {
    const tenant = connect().tenant(a);

    const error = await refusal(
      tenant.transaction(async (tx) => {
        await tx`insert into notes (id, tenant) values (${1}, ${a})`;
        await tx`select 1 / ${0}::int as nothing`.catch(() => undefined);
      }),
    );

    expect(error.message).toMatch("swallowed");
    expect(await notes()).toEqual([]);
  });

  test("what fails in a savepoint is undone alone, and the rest is written", async () => {
    const tenant = connect().tenant(a);

    await tenant.transaction(async (tx) => {
      await tx`insert into notes (id, tenant) values (${1}, ${a})`;
      const inner = tx.savepoint(async () => {
        await tx`insert into notes (id, tenant) values (${2}, ${a})`;
        await tx.savepoint(() => tx`insert into notes (id, tenant) values (${3}, ${a})`);
        await tx`select 1 / ${0}::int as nothing`;
      });
      expect(await refusal(inner)).toMatchObject({ code: "22012" });
      await tx.savepoint(() => tx`insert into notes (id, tenant) values (${4}, ${a})`);
    });

    expect((await notes()).map(({ id }) => id)).toEqual([1, 4]);
  });

  test("an error swallowed within a savepoint fails the savepoint", async () => {
    await connect()
      .tenant(a)
      .transaction(async (tx) => {
        await tx`insert into notes (id, tenant) values (${1}, ${a})`;
        const inner = tx.savepoint(async () => {
          await tx`insert into notes (id, tenant) values (${2}, ${a})`;
          await tx`select 1 / ${0}::int as nothing`.catch(() => undefined);
        });
        expect(await refusal(inner)).toMatchObject({ code: "25P02" });
      });

    expect((await notes()).map(({ id }) => id)).toEqual([1]);
  });

  test.each<[string, (tx: TenantSql) => unknown]>([
    ["a statement", (tx) => tx`insert into notes (id, tenant) values (${2}, ${a})`],
    ["a statement that fails", (tx) => tx`select 1 / ${0}::int as nothing`],
    [
      "a savepoint",
      (tx) => tx.savepoint(() => tx`insert into notes (id, tenant) values (${2}, ${a})`),
    ],
  ])("%s that is not awaited fails the whole, and nothing is written", async (_, forget) => {
    const unhandled = vi.fn<(reason: unknown) => void>();
    process.on("unhandledRejection", unhandled);
    try {
      const error = await refusal(
        connect()
          .tenant(a)
          .transaction(async (tx) => {
            await tx`insert into notes (id, tenant) values (${1}, ${a})`;
            void forget(tx);
          }),
      );

      expect(error.message).toMatch("not awaited");
      expect(await notes()).toEqual([]);
      await new Promise((resolve) => setImmediate(resolve));
      expect(unhandled).not.toHaveBeenCalled();
    } finally {
      process.off("unhandledRejection", unhandled);
    }
  });

  test("what a callback left running sends nothing once it has returned", async () => {
    const proxy = closing(await startProxy(tenants.url));
    const database = connect({ url: proxy.url, transactionConnections: 1 });
    const tenant = database.tenant(a);
    let late: Promise<unknown> = Promise.resolve();

    await refusal(
      tenant.transaction(async (tx) => {
        late = refusal(
          (async () => {
            await tx`select pg_sleep(0.05)`;
            await tx`insert into notes (id, tenant) values (${666}, ${a})`;
          })(),
        );
      }),
    );

    expect(await late).toMatchObject({ message: "The transaction has ended" });
    expect(Buffer.concat(proxy.received).toString("latin1")).not.toContain("666");
    expect(await notes()).toEqual([]);
  });

  test.each(["commits", "fails"])("its handle is of no use after it %s", async (end) => {
    const tenant = connect({ transactionConnections: 1 }).tenant(a);
    let kept: TenantSql | undefined;
    await tenant
      .transaction(async (tx) => {
        kept = tx;
        if (end === "fails") throw new Error("no");
      })
      .catch(() => undefined);
    const other = gate();
    const running = connect({ transactionConnections: 1 })
      .tenant(b)
      .transaction(() => other.opens);

    const leftover = kept;
    if (!leftover) throw new Error("The callback did not run");
    const write = leftover`insert into notes (id, tenant) values (${1}, ${a})`;
    expect((await refusal(write)).message).toBe("The transaction has ended");
    expect((await refusal(leftover.savepoint(async () => 1))).message).toBe(
      "The transaction has ended",
    );
    other.open();
    await running;
    expect(await notes()).toEqual([]);
  });

  test("a connection serves one tenant after the other", async () => {
    const database = connect({ transactionConnections: 1 });
    const read = (id: number) =>
      database.tenant(id).transaction(
        (tx) => tx<{ tenant: number; pid: number }[]>`
          select tenant, pg_backend_pid() as pid from whoami`,
      );

    const rows = [...(await read(a)), ...(await read(b)), ...(await read(a))];

    expect(rows.map(({ tenant }) => tenant)).toEqual([a, b, a]);
    expect(new Set(rows.map(({ pid }) => pid)).size).toBe(1);
  });
});

describe("limits", () => {
  const laneOf = (queueMax: number, queuePerTenantMax = queueMax) =>
    closing(
      new Lane({
        ...TIMEOUTS,
        url: tenants.url,
        preparedMax: 10,
        pipelineMax: 1,
        pipelinePerTenantMax: 1,
        queueMax,
        queuePerTenantMax,
      }),
    );

  test("a lane's queue takes as many as it may, and refuses one more with overloaded", async () => {
    const lane = laneOf(2);
    const write = (id: number) => sql`insert into notes (id, tenant) values (${id}, ${a})`;
    const first = lane.run(scopeOf(a), [sql`select pg_sleep(1)`]);
    await vi.waitUntil(() => lane.load === 1 && lane.pid !== undefined, SOON);

    const taken = [lane.run(scopeOf(a), [write(1)]), lane.run(scopeOf(a), [write(2)])];
    const refused = await refusal((async () => lane.run(scopeOf(a), [write(3)]))());

    expect(refused).toMatchObject({ code: "overloaded", statusCode: 503, retryAfterSeconds: 1 });
    await Promise.all([first, ...taken]);
    expect((await notes()).map(({ id }) => id)).toEqual([1, 2]);
    await lane.run(scopeOf(a), [write(4)]);
    expect(await notes()).toHaveLength(3);
  });

  test("a loud tenant is refused while others are taken, and they do not wait for all of its", async () => {
    const lane = laneOf(10, 2);
    const order: string[] = [];
    const read = (name: string, id: number) =>
      lane.run(scopeOf(id), [sql`select tenant from whoami`]).then(() => order.push(name));
    const first = lane.run(scopeOf(a), [sql`select pg_sleep(0.5)`]);
    await vi.waitUntil(() => lane.load === 1 && lane.pid !== undefined, SOON);

    const loud = [read("a1", a), read("a2", a)];
    const refused = await refusal((async () => lane.run(scopeOf(a), [sql`select 1`]))());
    const quiet = read("b1", b);

    expect(refused).toMatchObject({ code: "overloaded" });
    await Promise.all([first, ...loud, quiet]);
    expect(order).toEqual(["a1", "b1", "a2"]);
  });

  const poolOf = (queueMax: number, queueTimeoutMs: number) =>
    closing(
      new TransactionPool({
        ...TIMEOUTS,
        url: tenants.url,
        connectionsMax: 1,
        connectionsPerTenantMax: 1,
        queueMax,
        queuePerTenantMax: queueMax,
        queueTimeoutMs,
      }),
    );

  test("transactions past the queue are refused with overloaded, those in it run", async () => {
    const pool = poolOf(1, 5_000);
    const write = (id: number) => (tx: TenantSql) =>
      tx`insert into notes (id, tenant) values (${id}, ${a})`;
    const { opens, open } = gate();
    const first = pool.run(scopeOf(a), () => opens);
    const second = pool.run(scopeOf(a), write(2));

    const refused = await refusal(pool.run(scopeOf(a), write(3)));

    expect(refused).toMatchObject({ code: "overloaded", retryAfterSeconds: 1 });
    open();
    await Promise.all([first, second]);
    expect((await notes()).map(({ id }) => id)).toEqual([2]);
  });

  test("a transaction that waits too long is refused with overloaded, and never runs", async () => {
    const pool = poolOf(5, 50);
    const { opens, open } = gate();
    const first = pool.run(scopeOf(a), () => opens);
    const work = vi.fn<() => Promise<void>>();

    expect(await refusal(pool.run(scopeOf(a), work))).toMatchObject({ code: "overloaded" });

    open();
    await first;
    await pool.run(scopeOf(a), (tx) => tx`insert into notes (id, tenant) values (${1}, ${a})`);
    expect(work).not.toHaveBeenCalled();
    expect(pool.load).toBe(0);
  });

  test("a statement past the timeout is ended with 57014, on a lane and in a transaction", async () => {
    const database = connect({
      laneTimeouts: { statementTimeoutMs: 50 },
      transactionTimeouts: { statementTimeoutMs: 50 },
    });
    const tenant = database.tenant(a);
    const slow = sql`insert into notes (id, tenant) select 1, 1 from pg_sleep(10)`;

    expect(await refusal(tenant.batch(() => [slow]))).toMatchObject({ code: "57014" });
    expect(await refusal(tenant.transaction((tx) => tx`${slow}`))).toMatchObject({ code: "57014" });
    expect(await notes()).toEqual([]);
  });

  test("a statement that waits for a lock is ended with 55P03", async () => {
    const database = connect({ laneTimeouts: { lockTimeoutMs: 50 } });
    const { opens, open } = gate();
    const locked = gate();
    const holder = database.tenant(a).transaction(async (tx) => {
      await tx`lock table notes`;
      locked.open();
      await opens;
    });
    await locked.opens;

    expect(
      await refusal(database.tenant(a).query`insert into notes (id, tenant) values (1, 1)`),
    ).toMatchObject({ code: "55P03" });

    open();
    await holder;
    expect(await notes()).toEqual([]);
  });
});

describe("open", () => {
  test("opens one connection for each lane and the registry, however often it is called", async () => {
    const database = connect({ lanes: 2 });

    await database.openRegistry();
    await database.open();
    await Promise.all([database.open(), database.open()]);

    const sessions = await tenants.admin<{ application_name: string }[]>`
      select application_name from pg_stat_activity where usename = ${tenants.loginRole}`;
    expect(sessions.map(({ application_name: name }) => name).toSorted()).toEqual([
      "ouvira lane 0",
      "ouvira lane 1",
      "ouvira registry",
    ]);
    await database.close();
  });

  test("opens eight lanes of many; the others come with more tenants than those can keep", async () => {
    const database = connect({ lanes: 12, preparedPerLaneMax: 16 });
    await database.open();
    const pids = () => database.lanes().filter(({ pid }) => pid !== undefined).length;
    expect(pids()).toBe(8);

    for (let id = 1; id <= 9; id += 1) {
      // Whether the tenant is there or not, its lane is asked.
      await database.tenant(id).query`select 1`.catch(() => undefined);
    }

    expect(pids()).toBe(9);
    await database.close();
  });
});

describe("close", () => {
  test("waits for what is under way, refuses the rest, and leaves no connection", async () => {
    const database = connect({ lanes: 2 });
    await database.open();
    const { opens, open } = gate();
    const begun = gate();
    const transaction = database.tenant(a).transaction(async (tx) => {
      await tx`insert into notes (id, tenant) values (${1}, ${a})`;
      begun.open();
      await opens;
      await tx`insert into notes (id, tenant) values (${2}, ${a})`;
    });
    await begun.opens;
    const query = database.tenant(b)
      .query`insert into notes (id, tenant) select ${3}, ${b} from pg_sleep(0.1)`;

    let isClosed = false;
    const closed = database.close().then(() => {
      isClosed = true;
    });
    const late = [
      refusal(database.tenant(a).query`insert into notes (id, tenant) values (4, 4)`),
      refusal(database.tenant(a).transaction((tx) => tx`insert into notes values (5, 5)`)),
    ];
    for (const error of await Promise.all(late)) expect(error).toMatchObject({ code: "not_ready" });
    await query;
    // The lanes have said goodbye; only the transaction is left.
    await vi.waitFor(async () => {
      expect(
        await tenants.admin`select state from pg_stat_activity where usename = ${tenants.loginRole}`,
      ).toEqual([{ state: "idle in transaction" }]);
    }, SOON);
    expect(isClosed).toBe(false);
    open();
    await Promise.all([transaction, closed]);

    expect((await notes()).map(({ id }) => id).toSorted((x, y) => x - y)).toEqual([1, 2, 3]);
    await vi.waitFor(async () => {
      expect(
        await tenants.admin`select pid from pg_stat_activity where usename = ${tenants.loginRole}`,
      ).toEqual([]);
    }, SOON);
  });

  test("a transaction that waits for a connection is refused", async () => {
    const database = connect({ transactionConnections: 1 });
    const { opens, open } = gate();
    const first = database.tenant(a).transaction(() => opens);
    const waiting = refusal(
      database.tenant(a).transaction((tx) => tx`insert into notes (id, tenant) values (1, 1)`),
    );

    const closed = database.close();

    expect(await waiting).toMatchObject({ code: "not_ready" });
    open();
    await Promise.all([first, closed]);
    expect(await notes()).toEqual([]);
  });

  test("leaves nothing that keeps the process alive", async () => {
    const program = `
      const { TenantDatabase } = await import(${JSON.stringify(new URL("tenant-database.ts", import.meta.url).href)});
      const database = new TenantDatabase({ url: process.env.URL, lanes: 2, transactionConnections: 2, preparedPerLaneMax: 10 });
      await database.open();
      const tenant = database.tenant(${a});
      await Promise.all([tenant.query\`select 1\`, tenant.transaction((tx) => tx\`select 1\`)]);
      await database.close();
      process.stdout.write("closed");`;

    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", program],
      { env: { ...process.env, URL: tenants.url }, timeout: 15_000 },
    );

    expect(stdout).toBe("closed");
  });
});
