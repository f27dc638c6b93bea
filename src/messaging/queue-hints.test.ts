import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { TenantDatabase } from "../db/tenant-database.ts";
import { Keys } from "../keys.ts";
import { signupCodeSms } from "./messages.ts";
import { MessageQueue } from "./queue.ts";
import {
  type ClaimedQueue,
  claimDueQueues,
  hastenQueue,
  MARK_SKIP_SECONDS,
  markQueue,
  settleQueue,
} from "./queue-hints.ts";

let ground: TestRegistry;
let database: TenantDatabase;
let tenant: number;

beforeAll(async () => {
  ground = await createRegistry();
  database = new TenantDatabase({
    url: ground.apiUrl,
    lanes: 1,
    transactionConnections: 1,
    preparedPerLaneMax: 10,
  });
});
afterAll(async () => {
  await database.close();
  await ground.close();
});
beforeEach(async () => {
  await ground.sql`truncate public.message_queues`;
  const [row] = await ground.sql<{ id: number }[]>`
    insert into public.tenants (name, subdomain)
    values ('Acme', 'acme-' || nextval('public.tenants_id_seq')) returning id`;
  tenant = row?.id ?? 0;
});

const mark = () => markQueue(database.registry, tenant);
const claim = () => claimDueQueues(database.registry);

/** The one queue that is due. */
async function claimOne(): Promise<ClaimedQueue> {
  const [queue, ...others] = await claim();
  if (!queue || others.length > 0) throw new Error("One queue was to be due");
  return queue;
}

/** The hint, its times in seconds from now. */
async function hint(): Promise<{ marked: number; due: number } | undefined> {
  const [row] = await ground.sql<{ marked: number; due: number }[]>`
    select extract(epoch from marked_at - now())::float8 as marked,
           extract(epoch from due_at - now())::float8    as due
      from public.message_queues where tenant_id = ${tenant}`;
  return row;
}

const age = (seconds: number) => ground.sql`
  update public.message_queues
     set marked_at = marked_at - make_interval(secs => ${seconds}),
         due_at    = due_at - make_interval(secs => ${seconds})
   where tenant_id = ${tenant}`;

describe("a queue that was marked", () => {
  test("is claimed by one of many that ask at once, and by nobody until the lease is over", async () => {
    await mark();

    const claims = await Promise.all(Array.from({ length: 8 }, claim));

    expect(claims.flat().map(({ tenant_id }) => tenant_id)).toEqual([tenant]);
    expect((await hint())?.due).toBeCloseTo(60, 0);
    expect(await claim()).toEqual([]);
    await age(61);
    expect(await claim()).toMatchObject([{ tenant_id: tenant }]);
  });

  test("is not claimed while its tenant is suspended, and is afterwards", async () => {
    await mark();
    await ground.sql`update public.tenants set status = 'suspended' where id = ${tenant}`;
    expect(await claim()).toEqual([]);

    await ground.sql`update public.tenants set status = 'active' where id = ${tenant}`;

    expect(await claim()).toMatchObject([{ tenant_id: tenant }]);
  });

  test("is forgotten with its tenant", async () => {
    await mark();

    await ground.sql`delete from public.tenants where id = ${tenant}`;

    expect(await hint()).toBeUndefined();
  });
});

describe("a queue that was looked through and is empty", () => {
  test("is looked at once more when nothing can come to light any more", async () => {
    await mark();
    await age(30);
    const queue = await claimOne();
    expect(queue.is_quiet).toBe(false);

    await settleQueue(database.registry, queue, null);

    const { marked = 0, due = 0 } = (await hint()) ?? {};
    expect(due - marked).toBeCloseTo(120, 3);
  });

  test("is forgotten when the mark is older than any transaction that rests on it", async () => {
    await mark();
    await age(121);
    const queue = await claimOne();
    expect(queue.is_quiet).toBe(true);

    await settleQueue(database.registry, queue, null);

    expect(await hint()).toBeUndefined();
  });

  test.each([
    ["old", 121],
    ["young", 10],
  ])("is due at once when it was marked meanwhile (%s mark)", async (_, seconds) => {
    await mark();
    await age(seconds);
    const queue = await claimOne();

    await mark();
    await settleQueue(database.registry, queue, null);

    expect((await hint())?.due).toBeLessThanOrEqual(0);
  });
});

describe("a queue with messages left", () => {
  test("is due when the first of them is", async () => {
    await mark();
    await age(121);

    await settleQueue(database.registry, await claimOne(), 300);

    expect((await hint())?.due).toBeCloseTo(300, 0);
  });

  test("is due earlier when others may come to light until then", async () => {
    await mark();
    await age(20);

    await settleQueue(database.registry, await claimOne(), 300);

    expect((await hint())?.due).toBeCloseTo(100, 0);
  });

  test("keeps the earlier time that a failed delivery asked for meanwhile", async () => {
    await mark();
    await age(121);
    const queue = await claimOne();

    await hastenQueue(database.registry, tenant, 2);
    await settleQueue(database.registry, queue, 300);

    expect((await hint())?.due).toBeCloseTo(2, 0);
  });

  test("is not put off by a delivery that fails until later than that", async () => {
    await mark();

    await hastenQueue(database.registry, tenant, 300);

    expect((await hint())?.due).toBeLessThanOrEqual(0);
  });

  test("is left to whoever claimed it after the lease was over", async () => {
    await mark();
    const late = await claimOne();
    await age(61);
    await claimOne();
    const before = await hint();

    await settleQueue(database.registry, late, 1);

    expect((await hint())?.due).toBeCloseTo(before?.due ?? 0, 0);
  });
});

describe("MessageQueue.add", () => {
  const keys = new Keys({ secretKey: "s".repeat(32), encryptionKey: "e".repeat(32) });
  const sms = signupCodeSms("+201001234567", "271828", 10);
  /** What a transaction would run and be asked to call back; the rest of it is not used. */
  const makeTx = () => {
    const statements: string[] = [];
    const tx = Object.assign(
      (strings: TemplateStringsArray) => {
        statements.push(strings.join("?"));
        return Promise.resolve([]);
      },
      {
        afterCommit: () => undefined,
        savepoint: () => Promise.reject(new Error("Not used")),
        withCommit: () => undefined,
      },
    );
    return { tx, statements };
  };
  const makeQueue = () =>
    new MessageQueue({ keys, registry: database.registry, wake: () => undefined });

  test("has the mark committed before the message is written", async () => {
    const { tx } = makeTx();
    let isMarked = false;
    const watching = Object.assign(async () => {
      isMarked = (await hint()) !== undefined;
      return [];
    }, tx);

    await makeQueue().add(watching, tenant, sms, 600);

    expect(isMarked).toBe(true);
  });

  test("marks once for what is queued within half a minute, and again after it", async () => {
    const queue = makeQueue();
    const { tx } = makeTx();
    const clock = vi.spyOn(performance, "now").mockReturnValue(1_000);
    await Promise.all(Array.from({ length: 5 }, () => queue.add(tx, tenant, sms, 600)));
    await age(5);
    clock.mockReturnValue(1_000 + MARK_SKIP_SECONDS * 1_000 - 1);
    await queue.add(tx, tenant, sms, 600);
    expect((await hint())?.marked).toBeLessThanOrEqual(-5);

    clock.mockReturnValue(1_000 + MARK_SKIP_SECONDS * 1_000);
    await queue.add(tx, tenant, sms, 600);

    expect((await hint())?.marked).toBeGreaterThan(-5);
    clock.mockRestore();
  });

  test("writes no message that could not be marked, and marks the next one", async () => {
    const queue = makeQueue();
    const { tx, statements } = makeTx();
    await mark();
    await ground.sql.begin(async (lock) => {
      await lock`select 1 from public.message_queues where tenant_id = ${tenant} for update`;
      // 55P03, which a request answers with 503.
      await expect(queue.add(tx, tenant, sms, 600)).rejects.toMatchObject({ code: "55P03" });
    });
    expect(statements).toEqual([]);
    await age(5);

    await queue.add(tx, tenant, sms, 600);

    expect(statements).toHaveLength(1);
    expect((await hint())?.marked).toBeGreaterThan(-5);
  });
});
