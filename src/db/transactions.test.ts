import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startProxy, type Proxy } from "../../test/proxy.ts";
import { createScratchTenants, type ScratchTenants } from "../../test/scratch-tenants.ts";
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

describe("afterCommit", () => {
  let told: string[];
  const run = <T>(work: (tx: TenantSql) => Promise<T>) => database.tenant(tenant).transaction(work);
  const write = (tx: TenantSql, id: number) =>
    tx`insert into notes (id, tenant) values (${id}, ${tenant})`;
  const isWritten = async (id: number) => {
    const rows =
      await scratch.admin`select 1 from ${scratch.admin(`t_${tenant}`)}.notes where id = ${id}`;
    return rows.length > 0;
  };

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
