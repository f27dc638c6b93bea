import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startProxy, type Proxy } from "../../test/proxy.ts";
import { createScratchTenants, type ScratchTenants } from "../../test/scratch-tenants.ts";
import { sql } from "./sql.ts";
import { TenantDatabase } from "./tenant-database.ts";
import type { TenantSql } from "./transactions.ts";

let scratch: ScratchTenants;
let proxy: Proxy;
let database: TenantDatabase;
let tenant: number;

beforeAll(async () => {
  scratch = await createScratchTenants(1);
  proxy = await startProxy(scratch.url);
  database = new TenantDatabase({
    url: proxy.url,
    lanes: 1,
    transactionConnections: 1,
    preparedPerLaneMax: 10,
  });
  [tenant = 0] = scratch.ids;
});
afterAll(async () => {
  await database.close();
  await proxy.close();
  await scratch.drop();
});

const run = <T>(work: (tx: TenantSql) => Promise<T>) => database.tenant(tenant).transaction(work);
const write = (tx: TenantSql, id: number) =>
  tx`insert into notes (id, tenant) values (${id}, ${tenant})`;
const writeLast = (tx: TenantSql, id: number) =>
  tx.withCommit(sql`insert into notes (id, tenant) values (${id}, ${tenant})`);
const isWritten = async (id: number) => {
  const rows =
    await scratch.admin`select 1 from ${scratch.admin(`t_${tenant}`)}.notes where id = ${id}`;
  return rows.length > 0;
};

describe("withCommit", () => {
  test("sends in the write of the commit, in the order of asking", async () => {
    await run((tx) => write(tx, 100));
    const before = proxy.received.length;

    await run(async (tx) => {
      writeLast(tx, 101);
      tx.withCommit(sql`update notes set id = 102 where id = 101`);
      await write(tx, 103);
      expect(await tx`select 1 from notes where id in (101, 102)`).toEqual([]);
    });

    expect(await Promise.all([101, 102, 103].map(isWritten))).toEqual([false, true, true]);
    const writes = proxy.received.slice(before).map((bytes) => bytes.toString("latin1"));
    expect(writes).toEqual([
      expect.stringContaining("begin;"),
      expect.stringContaining("select 1 from notes"),
      expect.stringMatching(/insert into notes.*update notes.*commit/s),
    ]);
  });

  test("commits nothing when one fails, and throws its error; the connection is good for the next", async () => {
    const work = run(async (tx) => {
      await write(tx, 110);
      tx.withCommit(sql`select 1 / 0`);
      writeLast(tx, 111);
    });

    await expect(work).rejects.toMatchObject({ code: "22012" });
    expect(await Promise.all([110, 111].map(isWritten))).toEqual([false, false]);
    await run((tx) => write(tx, 112));
    expect(await isWritten(112)).toBe(true);
  });

  test("what was asked for in a savepoint goes with it when it is undone, the rest stays", async () => {
    await run(async (tx) => {
      writeLast(tx, 120);
      await tx.savepoint(async () => writeLast(tx, 121));
      await tx
        .savepoint(async () => {
          writeLast(tx, 122);
          throw new Error("undo");
        })
        .catch(() => undefined);
    });

    expect(await Promise.all([120, 121, 122].map(isWritten))).toEqual([true, true, false]);
  });

  test("is not written when the work throws, nor when the connection is lost before", async () => {
    const thrown = run(async (tx) => {
      writeLast(tx, 130);
      throw new Error("changed my mind");
    });
    await expect(thrown).rejects.toThrow("changed my mind");

    const lost = run(async (tx) => {
      await write(tx, 131);
      writeLast(tx, 132);
      proxy.cut();
    });
    await expect(lost).rejects.toMatchObject({ code: "not_ready" });
    proxy.restore();

    expect(await Promise.all([130, 131, 132].map(isWritten))).toEqual([false, false, false]);
  });

  test("cannot be asked of a transaction that has ended", async () => {
    const ended = await run(async (tx) => ({ tx }));

    expect(() => writeLast(ended.tx, 140)).toThrow("has ended");
    expect(await isWritten(140)).toBe(false);
  });
});

describe("afterCommit", () => {
  let told: string[];

  beforeEach(() => {
    told = [];
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test("calls back in the order of asking once the change is there for others to see", async () => {
    let seen: Promise<boolean> | undefined;

    await run(async (tx) => {
      tx.afterCommit(() => {
        told.push("first");
        seen = isWritten(1);
      });
      await write(tx, 1);
      tx.afterCommit(() => told.push("second"));
      expect(told).toEqual([]);
    });

    expect(told).toEqual(["first", "second"]);
    expect(await seen).toBe(true);
  });

  test("does not call back when the work throws", async () => {
    const work = run(async (tx) => {
      await write(tx, 2);
      tx.afterCommit(() => told.push("never"));
      throw new Error("changed my mind");
    });

    await expect(work).rejects.toThrow("changed my mind");
    expect(told).toEqual([]);
    expect(await isWritten(2)).toBe(false);
  });

  test("does not call back when a swallowed error makes the server answer ROLLBACK", async () => {
    const work = run(async (tx) => {
      tx.afterCommit(() => told.push("never"));
      await tx`select 1 / 0`.catch(() => undefined);
    });

    await expect(work).rejects.toThrow("swallowed");
    expect(told).toEqual([]);
  });

  test("does not call back when the answer to the commit is lost, though it was committed", async () => {
    const work = run(async (tx) => {
      await write(tx, 3);
      tx.afterCommit(() => told.push("never"));
      proxy.mute();
    });
    const refusal = work.catch((error: unknown) => error);
    await vi.waitFor(async () => expect(await isWritten(3)).toBe(true), { timeout: 10_000 });
    proxy.cut();

    expect(await refusal).toMatchObject({ code: "not_ready" });
    proxy.restore();
    expect(told).toEqual([]);
  });

  test("what was asked for in a savepoint goes with it when it is undone, the rest stays", async () => {
    await run(async (tx) => {
      tx.afterCommit(() => told.push("before"));
      await tx.savepoint(async () => {
        tx.afterCommit(() => told.push("kept"));
      });
      await tx
        .savepoint(async () => {
          tx.afterCommit(() => told.push("undone"));
          await tx.savepoint(async () => tx.afterCommit(() => told.push("undone within")));
          throw new Error("undo");
        })
        .catch(() => undefined);
      tx.afterCommit(() => told.push("after"));
    });

    expect(told).toEqual(["before", "kept", "after"]);
  });

  test("what a callback throws is a warning: the change stands and the others are called", async () => {
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);

    const result = await run(async (tx) => {
      await write(tx, 4);
      tx.afterCommit(() => {
        throw new Error("a bug");
      });
      tx.afterCommit(() => told.push("called"));
      return "result";
    });

    expect(result).toBe("result");
    expect(told).toEqual(["called"]);
    expect(warn).toHaveBeenCalledWith(expect.objectContaining({ message: "a bug" }));
    expect(await isWritten(4)).toBe(true);
  });

  test("cannot be asked of a transaction that has ended", async () => {
    const ended = await run(async (tx) => ({ tx }));

    expect(() => ended.tx.afterCommit(() => told.push("never"))).toThrow("has ended");
    expect(told).toEqual([]);
  });
});
