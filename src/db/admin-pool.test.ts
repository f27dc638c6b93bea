import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { adminUrl } from "../../test/cluster.ts";
import { withAdmin } from "./admin.ts";
import { AdminPool } from "./admin-pool.ts";

let pool: AdminPool;

beforeAll(() => {
  pool = new AdminPool({ url: adminUrl });
});
afterEach(async () => {
  await pool.close();
  pool = new AdminPool({ url: adminUrl });
});

const pidOf = () =>
  pool.use(async (admin) => {
    const [row] = await admin.query<{ pid: number }[]>`select pg_backend_pid() as pid`;
    return row?.pid ?? 0;
  });

describe("AdminPool", () => {
  test("keeps a connection for the next, and opens no more than there may be", async () => {
    const first = await pidOf();
    const second = await pidOf();
    const pids = await Promise.all(
      Array.from({ length: 20 }, () =>
        pool.use(async (admin) => {
          const [row] = await admin.query<{ pid: number }[]>`
            select pg_backend_pid() as pid, pg_sleep(0.01)::text as slept`;
          return row?.pid;
        }),
      ),
    );

    expect(second).toBe(first);
    expect(new Set(pids).size).toBe(4);
  });

  test("replaces a connection that was killed, whether idle or in use", async () => {
    const idle = await pidOf();
    await withAdmin(adminUrl, (admin) => admin.query`select pg_terminate_backend(${idle}::int)`);
    await expect.poll(pidOf).not.toBe(idle);

    const inUse = pool.use(async (admin) => {
      await admin.query`select pg_terminate_backend(pg_backend_pid())`;
    });
    await expect(inUse).rejects.toMatchObject({ code: "not_ready" });
    expect(await pidOf()).toBeGreaterThan(0);
  });

  test("undoes a transaction that fails, and the next caller finds none open", async () => {
    const failing = pool.transaction(async (admin) => {
      await admin.execute("create temporary table left_over (id int)");
      throw new Error("changed my mind");
    });

    await expect(failing).rejects.toThrow("changed my mind");
    const [row] = await pool.use(
      (admin) => admin.query`
        select to_regclass('left_over') is null as is_gone, pg_current_xact_id_if_assigned() is null as is_alone`,
    );
    expect(row).toEqual({ is_gone: true, is_alone: true });
  });

  test("refuses who would wait behind too many, and serves those who wait", async () => {
    const small = new AdminPool({ url: adminUrl, connectionsMax: 1, queueMax: 1 });
    try {
      let release: (() => void) | undefined;
      const first = small.use(
        () => new Promise<string>((resolve) => (release = () => resolve("first"))),
      );
      const second = small.use(() => Promise.resolve("second"));

      await expect(small.use(() => Promise.resolve())).rejects.toMatchObject({
        code: "overloaded",
      });
      await expect.poll(() => release).toBeDefined();
      release?.();
      expect(await Promise.all([first, second])).toEqual(["first", "second"]);
    } finally {
      await small.close();
    }
  });

  test("says that the database is away, and comes back with it", async () => {
    const lost = new AdminPool({ url: "postgres://nobody@127.0.0.1:1/nothing", connectionsMax: 1 });

    for (let attempt = 0; attempt < 3; attempt += 1) {
      await expect(lost.use(() => Promise.resolve())).rejects.toMatchObject({ code: "not_ready" });
    }
    await lost.close();
  });

  test("closed, it turns away who waits and who comes", async () => {
    const closing = new AdminPool({ url: adminUrl, connectionsMax: 1 });
    let release: (() => void) | undefined;
    const first = closing.use(() => new Promise<void>((resolve) => (release = resolve)));
    const second = closing.use(() => Promise.resolve());
    await expect.poll(() => release).toBeDefined();

    const closed = closing.close();

    await expect(second).rejects.toMatchObject({ code: "not_ready" });
    release?.();
    await Promise.all([first, closed]);
    await expect(closing.use(() => Promise.resolve())).rejects.toMatchObject({ code: "not_ready" });
  });
});
