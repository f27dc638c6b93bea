import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { seal, sealOnce, verify, writeEntries } from "../../test/logs.ts";
import { LogSealer, sealLog } from "./log-sealer.ts";
import { sealNext, splitLeaves } from "./seals.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});

/** What was sealed, by the checkpoints: the ids of each link. */
async function sealedIds(tenant: TestTenant): Promise<number[][]> {
  const rows = await app.registry<{ entries: Buffer }[]>`
    select entries from public.log_checkpoints
     where tenant_id = ${tenant.id} and log = 'activity' order by number`;
  return rows.map(({ entries }) => splitLeaves(entries).map(({ id }) => id));
}

describe("sealing a log", () => {
  test("links all of it once, in the tenant's schema, the registry and the log stream", async () => {
    const tenant = await app.createTenant();
    const ids = await writeEntries(tenant, 3);

    await seal(app, tenant);
    await seal(app, tenant);

    expect((await sealedIds(tenant)).flat()).toEqual(ids);
    const seals = await tenant.sql`
      select number, entries, encode(digest, 'hex') as digest from log_seals where log = 'activity'`;
    expect(seals).toMatchObject([{ number: 1, entries: 3 }]);
    const lines = app.logLines.filter(
      (line) =>
        line.includes("log sealed") && line.includes(`"tenant":${tenant.id},"log":"activity"`),
    );
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(String(seals[0]?.["digest"]));
  });

  test("goes on where it ended, each link with the digest of the one before", async () => {
    const tenant = await app.createTenant();
    const first = await writeEntries(tenant, 2);
    await seal(app, tenant);
    const second = await writeEntries(tenant, 2);
    await seal(app, tenant);

    expect(await sealedIds(tenant)).toEqual([first, second]);
    expect(await verify(app, tenant)).toMatchObject({ seals: 2, checked_entries: 4, findings: [] });
  });

  test("makes a link of at most a thousand entries, also of one transaction", async () => {
    const tenant = await app.createTenant();
    await tenant.sql`
      insert into activity_logs (user_display, entity_type, entity_id, action)
      select 'ada', 'Company', n, 'UPDATE' from generate_series(1, 2500) as n`;

    await seal(app, tenant);

    expect((await sealedIds(tenant)).map((ids) => ids.length)).toEqual([1_000, 1_000, 500]);
    expect(await verify(app, tenant)).toMatchObject({ checked_entries: 2_500, findings: [] });
  });

  test("waits for an open transaction and all after it, and blocks no writer meanwhile", async () => {
    const tenant = await app.createTenant();
    const [before = 0] = await writeEntries(tenant, 1);
    await seal(app, tenant);
    const other = postgres(app.ownerUrl, {
      max: 1,
      onnotice: () => undefined,
      connection: { search_path: `t_${tenant.id}`, lock_timeout: 500 },
    });
    const [opened, release] = await openTransaction(other);
    const [after = 0] = await writeEntries(tenant, 1);

    await sealOnce(app, tenant);
    const whileOpen = await sealedIds(tenant);
    // Somebody who writes while sealing goes on does not wait: the lock timeout would say so.
    await Promise.all([sealOnce(app, tenant), writeEntries(tenant, 1)]);
    release();
    const openId = await opened;
    await seal(app, tenant);

    expect(whileOpen).toEqual([[before]]);
    const sealed = (await sealedIds(tenant)).flat();
    expect(new Set(sealed).size).toBe(sealed.length);
    expect(sealed).toEqual(expect.arrayContaining([before, openId, after]));
    expect(await verify(app, tenant)).toMatchObject({ checked_entries: 4, unsealed_entries: 0 });
    await other.end();
  });

  test("by ten at a time makes one chain", async () => {
    const tenant = await app.createTenant();
    const ids = await writeEntries(tenant, 5);
    const { database } = app.services;
    const log = { info: () => undefined, warn: () => undefined };

    await vi.waitFor(
      async () => {
        await Promise.all(
          Array.from({ length: 10 }, () =>
            sealLog(database.tenant(tenant.id), database.registry, tenant.id, "activity", log),
          ),
        );
        expect((await sealedIds(tenant)).flat()).toHaveLength(5);
      },
      { timeout: 10_000, interval: 10 },
    );

    expect((await sealedIds(tenant)).flat()).toEqual(ids);
    expect((await verify(app, tenant)).findings).toEqual([]);
  });

  test("writes the checkpoint that a process did not live to write", async () => {
    const tenant = await app.createTenant();
    await writeEntries(tenant, 2);
    await seal(app, tenant);
    await app.registry`delete from public.log_checkpoints where tenant_id = ${tenant.id}`;
    const pending = await verify(app, tenant);

    await seal(app, tenant);

    expect(pending).toMatchObject({ pending_checkpoints: 1, findings: [] });
    expect(await verify(app, tenant)).toMatchObject({ pending_checkpoints: 0, findings: [] });
    expect((await sealedIds(tenant)).flat()).toHaveLength(2);
  });

  test("writes checkpoints in the order of the links, also of another process that ended", async () => {
    const tenant = await app.createTenant();
    const { database } = app.services;
    const connection = database.tenant(tenant.id);
    const ids = await writeEntries(tenant, 1);
    await vi.waitFor(async () => {
      // Another process commits its link between this one's look at the checkpoints and its own link.
      const other = await connection.transaction((tx) => sealNext(tx, "activity", undefined));
      expect(other).toBeDefined();
    });
    ids.push(...(await writeEntries(tenant, 1)));
    await vi.waitFor(async () => {
      const own = await connection.transaction((tx) => sealNext(tx, "activity", undefined));
      expect(own).toMatchObject({ number: 2 });
    });

    await seal(app, tenant);

    expect((await sealedIds(tenant)).flat()).toEqual(ids);
    expect(await verify(app, tenant)).toMatchObject({ pending_checkpoints: 0, findings: [] });
  });

  test("writes no checkpoint for entries that are not those of the link", async () => {
    const tenant = await app.createTenant();
    await writeEntries(tenant, 2);
    await seal(app, tenant);
    await app.registry`delete from public.log_checkpoints where tenant_id = ${tenant.id}`;
    await tenant.sql`update activity_logs set action = 'DELETE'`;

    await sealOnce(app, tenant);

    expect(await sealedIds(tenant)).toEqual([]);
    expect((await verify(app, tenant)).findings).toMatchObject([{ kind: "edited", seal: 1 }]);
    expect(app.logLines.some((line) => line.includes("a log could not be sealed"))).toBe(true);
  });
});

describe("sealing a log after its chain was cut off", () => {
  test("seals what is written then, after the newest checkpoint", async () => {
    const tenant = await app.createTenant();
    const [, cut = 0] = await writeEntries(tenant, 2);
    await seal(app, tenant);
    await tenant.sql`delete from activity_logs where id = ${cut}`;
    await tenant.sql`delete from log_seals`;
    const [after = 0] = await writeEntries(tenant, 1);

    await seal(app, tenant);

    expect((await sealedIds(tenant))[1]).toEqual([after]);
    const named = (await verify(app, tenant)).findings.map(({ kind, seal: n, entry_id: entry }) => [
      kind,
      n,
      entry,
    ]);
    expect(named).toEqual([
      ["deleted", 1, cut],
      ["seal_missing", 1, null],
    ]);
  });
});

describe("the service", () => {
  test("seals what a request has written, soon after", async () => {
    const sealer = new LogSealer({
      database: app.services.database,
      log: { info: () => undefined, warn: () => undefined },
      intervalMs: 20,
    });
    const tenant = await app.createTenant();
    const marks = vi.spyOn(app.services.logSealer, "mark").mockImplementation((id) => {
      sealer.mark(id);
    });
    sealer.start();
    try {
      const token = (await app.logIn(tenant, tenant.owner.email)).access;
      await app.client(tenant).post("/api/company/", { name: "Acme" }, { token });

      await vi.waitFor(async () => {
        expect((await sealedIds(tenant)).flat()).toHaveLength(1);
      });
    } finally {
      marks.mockRestore();
      await sealer.stop();
    }
  });

  test("finds by itself what nobody told it of, in tenants whose neighbours fail", async () => {
    const broken = await app.createTenant();
    const tenant = await app.createTenant();
    await broken.sql`drop table log_seals`;
    await writeEntries(tenant, 1);
    const warn = vi.fn<(details: object, message: string) => void>();
    const sealer = new LogSealer({
      database: app.services.database,
      log: { info: () => undefined, warn },
      sweepDelayMs: 1,
    });
    sealer.start();
    try {
      await vi.waitFor(
        async () => {
          expect((await sealedIds(tenant)).flat()).toHaveLength(1);
        },
        { timeout: 20_000 },
      );
      expect(warn).toHaveBeenCalledWith(
        expect.objectContaining({ tenant: broken.id }),
        "a log could not be sealed",
      );
      // It is tried again, but not for ever.
      for (let round = 0; round < 10; round += 1) await sealer.sealMarked();
      const tries = warn.mock.calls.filter(([details]) =>
        JSON.stringify(details).includes(`"tenant":${broken.id},"log":"activity"`),
      );
      expect(tries).toHaveLength(5);
    } finally {
      await sealer.stop();
    }
  });
});

describe("the role that serves requests", () => {
  test.each(["activity_logs", "security_logs", "log_seals"])(
    "can neither change nor delete a row of %s",
    async (table) => {
      const tenant = await app.createTenant();
      const connection = app.services.database.tenant(tenant.id);

      for (const statement of [
        `update ${table} set created_at = now()`,
        `delete from ${table}`,
        `truncate ${table}`,
        `alter table ${table} add column x int`,
      ]) {
        const template = Object.assign([statement], { raw: [statement] });
        await expect(connection.query(template)).rejects.toMatchObject({ code: "42501" });
      }
    },
  );

  test.each(["log_checkpoints", "log_receipts"])(
    "can neither change nor delete a row of public.%s, of its tenant or another",
    async (table) => {
      const tenant = await app.createTenant();
      const { database } = app.services;
      const remove = [`delete from public.${table}`];
      const change = [`update public.${table} set digest = digest`];

      for (const text of [remove, change]) {
        const template = Object.assign(text, { raw: text });
        for (const connection of [database.registry, database.tenant(tenant.id)]) {
          await expect(connection.query(template)).rejects.toMatchObject({ code: "42501" });
        }
      }
    },
  );
});

/** A transaction that has written an entry and stays open until it is released; gives the entry's id. */
async function openTransaction(
  connection: postgres.Sql,
): Promise<[opened: Promise<number>, release: () => void]> {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let written: () => void = () => undefined;
  const hasWritten = new Promise<void>((resolve) => {
    written = resolve;
  });
  const opened = connection.begin(async (tx) => {
    const [row] = await tx<{ id: string }[]>`
      insert into activity_logs (user_display, entity_type, entity_id, action)
      values ('open', 'Company', 1, 'UPDATE') returning id`;
    written();
    await released;
    return Number(row?.id);
  });
  await hasWritten;
  return [opened, release];
}
