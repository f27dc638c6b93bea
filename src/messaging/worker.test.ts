import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { TenantDatabase } from "../db/tenant-database.ts";
import { loadTenantMigrations } from "../db/tenant-migrations.ts";
import { Keys } from "../keys.ts";
import { Metrics } from "../metrics.ts";
import { createTenant } from "../tenants/provisioning.ts";
import { messageContext, type QueuedMessage } from "./queue.ts";
import { markQueue } from "./queue-hints.ts";
import { DeliveryError, PermanentDeliveryError, type Transport } from "./transport.ts";
import { MessageWorker } from "./worker.ts";

const SOON = { timeout: 10_000, interval: 10 };
const TENANTS = 5;
const keys = new Keys({ secretKey: "s".repeat(32), encryptionKey: "e".repeat(32) });

let ground: TestRegistry;
let database: TenantDatabase;
let tenants: number[];
/** The first of them. */
let tenant: number;

/** A provider that takes messages at once, or keeps them waiting until `release`. */
class FakeProvider implements Transport {
  readonly taken: { to: string; id: string }[] = [];
  underWay = 0;
  underWayMost = 0;
  isSlow = false;
  isClosed = false;
  failure: Error | undefined;
  #releases: (() => void)[] = [];

  async send({ to }: { to: string }, { id }: { id: string }): Promise<void> {
    this.underWay += 1;
    this.underWayMost = Math.max(this.underWayMost, this.underWay);
    if (this.isSlow) await new Promise<void>((resolve) => this.#releases.push(resolve));
    this.underWay -= 1;
    if (this.failure) throw this.failure;
    this.taken.push({ to, id });
  }

  release(): void {
    for (const release of this.#releases.splice(0)) release();
  }

  close(): void {
    this.isClosed = true;
  }
}

let sms: FakeProvider;
let email: FakeProvider;
let metrics: Metrics;
let lines: { details: Record<string, unknown>; message: string }[];
let worker: MessageWorker;

beforeAll(async () => {
  ground = await createRegistry();
  const migrations = await loadTenantMigrations();
  tenants = await withAdmin(ground.url, async (admin) => {
    // Roles are the server's: ids of one test file must not meet another's.
    const first = Math.floor(Math.random() * 2 ** 46) + 2 ** 41;
    await admin.query`select setval(pg_get_serial_sequence('public.tenants', 'id'), ${first}::bigint)`;
    const ids: number[] = [];
    for (let count = 0; count < TENANTS; count += 1) {
      const { id } = await createTenant(admin, migrations, ground.apiRole, {
        name: "Acme",
        subdomain: `acme-${count}`,
        owner: { fullName: "Olive Owner", email: "o@acme.test", phone: "+201001234567" },
      });
      ids.push(id);
    }
    return ids;
  });
  [tenant = 0] = tenants;
  database = new TenantDatabase({
    url: ground.apiUrl,
    lanes: 2,
    transactionConnections: 1,
    preparedPerLaneMax: 100,
  });
});
afterAll(async () => {
  await database.close();
  await ground.close();
});
beforeEach(() => {
  sms = new FakeProvider();
  email = new FakeProvider();
  metrics = new Metrics();
  lines = [];
  worker = makeWorker();
});
afterEach(async () => {
  sms.release();
  email.release();
  await worker.stop();
  for (const id of tenants) await ground.sql`delete from ${table(id)}`;
  await ground.sql`delete from public.message_queues`;
});

function makeWorker(
  options: { deliveryTimeoutMs?: number; stopPatienceMs?: number } = {},
): MessageWorker {
  const log = {
    warn: (details: object, message: string) =>
      void lines.push({ details: { ...details }, message }),
  };
  return new MessageWorker({
    database,
    keys,
    metrics,
    log,
    transports: { sms, email },
    ...options,
  });
}

/** Rows of a queue, as if their process had ended after the commit. */
async function insert(
  {
    id = tenant,
    count = 1,
    lifetime = 600,
    sealed,
  }: {
    id?: number;
    count?: number;
    lifetime?: number;
    sealed?: Buffer;
  },
  message: Partial<QueuedMessage> = {},
): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const whole = { channel: "sms", to: `+2010000000${index}`, body: "Hello", ...message } as const;
    const bytes = sealed ?? keys.seal(JSON.stringify(whole), messageContext(id));
    await ground.sql`
      insert into ${table(id)} (channel, sealed, expires_at)
      values (${whole.channel}, ${bytes}, now() + make_interval(secs => ${lifetime}))`;
  }
}

const table = (id = tenant) => ground.sql.unsafe(`t_${id}.messages`);
const rows = (id = tenant) => ground.sql`
  select attempts, extract(epoch from next_attempt_at - now())::float8 as due,
         next_attempt_at = expires_at as is_last
    from ${table(id)} order by id`;
const outcomes = async () =>
  Object.fromEntries(
    (await metrics.messages.get()).values.map(({ labels, value }) => [
      `${labels["channel"]} ${labels["outcome"]}`,
      value,
    ]),
  );

describe("a message that is due", () => {
  test("is sent and deleted, under a name that stays the same when it is sent again", async () => {
    await insert({ count: 2 });
    const before = await ground.sql`select * from ${table()}`;
    await worker.wake(tenant, "sms");
    expect(await rows()).toEqual([]);
    expect(await outcomes()).toEqual({ "sms sent": 2 });
    const names = sms.taken.map(({ id }) => id).toSorted();

    for (const { id, sealed } of before) {
      await ground.sql`
        insert into ${table()} (id, channel, sealed, expires_at) overriding system value
        values (${id as number}, 'sms', ${sealed as Buffer}, now() + interval '10 minutes')`;
    }
    await worker.wake(tenant, "sms");

    expect(new Set(names).size).toBe(2);
    expect(
      sms.taken
        .slice(2)
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual(names);
  });

  test("can be waited for while it is being sent, and no longer than one wants", async () => {
    sms.isSlow = true;
    await insert({});
    void worker.wake(tenant, "sms");

    await worker.settled(1);
    expect(sms.taken).toEqual([]);
    const settled = worker.settled(60_000);
    await vi.waitFor(() => expect(sms.underWay).toBe(1), SOON);
    sms.release();
    await settled;

    expect(sms.taken).toHaveLength(1);
    expect(await rows()).toEqual([]);
  });

  test("is left alone until then", async () => {
    await insert({});
    await ground.sql`update ${table()} set next_attempt_at = now() + interval '1 minute'`;

    await worker.wake(tenant, "sms");

    expect(sms.taken).toEqual([]);
    expect(await rows()).toMatchObject([{ attempts: 0 }]);
  });

  test("past its time is deleted unsent, with a line that does not show the number", async () => {
    await insert({ lifetime: 0 });

    await worker.wake(tenant, "sms");

    expect(sms.taken).toEqual([]);
    expect(await rows()).toEqual([]);
    expect(await outcomes()).toEqual({ "sms expired": 1 });
    expect(lines).toMatchObject([
      { message: "A message was too old to send", details: { tenant, to: "+20*******00" } },
    ]);
  });

  test("of a tenant that sends none is deleted: no provider and no line, and its neighbour's is sent", async () => {
    const [, neighbour = 0] = tenants;
    await insert({ count: 2 });
    await insert({ id: neighbour });
    await ground.sql`update public.tenants set sends_messages = false where id = ${tenant}`;
    try {
      await worker.wake(tenant, "sms");
      await worker.wake(neighbour, "sms");
    } finally {
      await ground.sql`update public.tenants set sends_messages = true where id = ${tenant}`;
    }

    expect(await rows()).toEqual([]);
    expect(sms.taken).toHaveLength(1);
    expect(lines).toEqual([]);
    expect(await outcomes()).toEqual({ "sms suppressed": 2, "sms sent": 1 });
  });

  test("and is a decoy is deleted: no provider, no count, no line", async () => {
    await insert({}, { isDecoy: true });
    await insert({ lifetime: 0 }, { isDecoy: true });

    await worker.wake(tenant, "sms");

    expect(await rows()).toEqual([]);
    expect([sms.taken, lines, await outcomes()]).toEqual([[], [], {}]);
  });

  test.each([
    ["was sealed for another tenant", 1, '{"channel":"sms","to":"+201001234567","body":"Hi"}'],
    ["is no message", 0, '{"channel":"sms"}'],
    ["is no JSON", 0, "Hi"],
  ])("and %s is given up", async (_, offset, text) => {
    await insert({ sealed: keys.seal(text, messageContext(tenant + offset)) });

    await worker.wake(tenant, "sms");

    expect(await rows()).toEqual([]);
    expect(await outcomes()).toEqual({ "sms given_up": 1 });
    expect(lines).toMatchObject([{ message: "A message was given up" }]);
  });
});

describe("a message that was sealed with a key not known here", () => {
  test("is left to whoever knows it, while one of its bytes changed is given up", async () => {
    const other = new Keys({ secretKey: "s".repeat(32), encryptionKey: "f".repeat(32) });
    const text = '{"channel":"sms","to":"+201001234567","body":"Hi"}';
    await insert({ sealed: other.seal(text, messageContext(tenant)) });

    await worker.wake(tenant, "sms");

    expect(await rows()).toHaveLength(1);
    expect(await outcomes()).toEqual({ "sms retried": 1 });

    const changed = keys.seal(text, messageContext(tenant));
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    await insert({ sealed: changed });
    await worker.wake(tenant, "sms");

    expect(await rows()).toHaveLength(1);
    expect(await outcomes()).toEqual({ "sms retried": 1, "sms given_up": 1 });
  });
});

describe("a message that is not taken", () => {
  test.each([
    [1, 1, 2],
    [4, 8, 16],
    [30, 300, 600],
    [5_000, 300, 600],
  ])("at try %i is due again after %i to %i seconds", async (attempt, least, most) => {
    await insert({ lifetime: 86_400 });
    await ground.sql`update ${table()} set attempts = ${attempt - 1}`;
    sms.failure = new DeliveryError("Not now");

    await worker.wake(tenant, "sms");

    const [row] = await rows();
    expect(row?.["attempts"]).toBe(attempt);
    expect(row?.["due"]).toBeGreaterThan(least - 1);
    expect(row?.["due"]).toBeLessThanOrEqual(most);
    expect(await outcomes()).toEqual({ "sms retried": 1 });
  });

  test("is due again no later than when it expires", async () => {
    await insert({ lifetime: 20 });
    await ground.sql`update ${table()} set attempts = 9`;
    sms.failure = new DeliveryError("Not now");

    await worker.wake(tenant, "sms");

    expect(await rows()).toMatchObject([{ is_last: true }]);
  });

  test("and never will be is given up, with the reason and no address in the log", async () => {
    await insert({}, { channel: "email", to: "ada@corp.test", subject: "Hi" });
    email.failure = new PermanentDeliveryError("The mail server answered 550 to RCPT TO.");

    await worker.wake(tenant, "email");

    expect(await rows()).toEqual([]);
    expect(await outcomes()).toEqual({ "email given_up": 1 });
    expect(lines).toMatchObject([
      { message: "A message was given up", details: { to: "a***@corp.test", err: email.failure } },
    ]);
  });

  test("in time is due again, whatever becomes of that try", async () => {
    await worker.stop();
    worker = makeWorker({ deliveryTimeoutMs: 30 });
    sms.isSlow = true;
    await insert({});

    await worker.wake(tenant, "sms");

    const [row] = await rows();
    expect(row?.["due"]).toBeLessThanOrEqual(2);
    expect(lines).toMatchObject([{ message: "A message could not be sent yet" }]);
  });

  test("is left to whoever took it over after the claim had run out", async () => {
    sms.isSlow = true;
    sms.failure = new DeliveryError("Not now");
    await insert({});
    const late = worker.wake(tenant, "sms");
    await vi.waitFor(() => expect(sms.underWay).toBe(1), SOON);
    await ground.sql`update ${table()} set attempts = 2, next_attempt_at = now() + interval '50 s'`;

    sms.release();
    await late;

    const [row] = await rows();
    expect(row?.["attempts"]).toBe(2);
    expect(row?.["due"]).toBeGreaterThan(40);
  });
});

describe("many messages", () => {
  test("of one tenant are sent four at a time, and no more are claimed than are sent", async () => {
    sms.isSlow = true;
    await insert({ count: 9 });

    const done = worker.wake(tenant, "sms");
    await vi.waitFor(() => expect(sms.underWay).toBe(4), SOON);
    expect((await rows()).filter(({ attempts }) => attempts === 1)).toHaveLength(4);
    sms.isSlow = false;
    sms.release();
    await done;

    expect(sms.taken).toHaveLength(9);
    expect(sms.underWayMost).toBe(4);
    expect(await rows()).toEqual([]);
  });

  test("of many tenants are sent eight of a channel at a time, in turn", async () => {
    sms.isSlow = true;
    for (const id of tenants) await insert({ id, count: 5 });

    const done = Promise.all(tenants.map((id) => worker.wake(id, "sms")));
    await vi.waitFor(() => expect(sms.underWay).toBe(8), SOON);
    sms.isSlow = false;
    sms.release();
    await done;

    expect(sms.taken).toHaveLength(25);
    expect(sms.underWayMost).toBe(8);
  });

  test("that a provider of e-mails keeps waiting hold up no SMS", async () => {
    email.isSlow = true;
    for (const id of tenants) {
      await insert({ id, count: 5 }, { channel: "email", to: "ada@corp.test" });
    }
    const mails = Promise.all(tenants.map((id) => worker.wake(id, "email")));
    await vi.waitFor(() => expect(email.underWay).toBe(8), SOON);

    await insert({});
    await worker.wake(tenant, "sms");

    expect(sms.taken).toHaveLength(1);
    email.isSlow = false;
    email.release();
    await mails;
  });

  test("of one tenant do not wait for the slow one before them", async () => {
    sms.isSlow = true;
    await insert({});
    const done = worker.wake(tenant, "sms");
    await vi.waitFor(() => expect(sms.underWay).toBe(1), SOON);

    sms.isSlow = false;
    await insert({}, { to: "+201001234599" });
    void worker.wake(tenant, "sms");

    await vi.waitFor(() => expect(sms.taken).toMatchObject([{ to: "+201001234599" }]), SOON);
    sms.release();
    await done;
    expect(sms.taken).toHaveLength(2);
  });
});

describe("a sweep", () => {
  test("sends what is due in marked queues of both channels, and in no others", async () => {
    const [marked = 0, unmarked = 0] = tenants;
    await insert({ id: marked });
    await insert({ id: marked }, { channel: "email", to: "ada@corp.test" });
    await insert({ id: unmarked });
    await markQueue(database.registry, marked);

    await worker.sweep();

    expect(sms.taken).toHaveLength(1);
    expect(email.taken).toHaveLength(1);
    expect(await rows(marked)).toEqual([]);
    expect(await rows(unmarked)).toHaveLength(1);
  });

  test("goes on past a tenant whose tables are not there", async () => {
    const [gone] = await ground.sql<{ id: number }[]>`
      insert into public.tenants (name, subdomain) values ('Gone', 'gone') returning id`;
    await markQueue(database.registry, gone?.id ?? 0);
    await insert({});
    await markQueue(database.registry, tenant);

    await worker.sweep();

    expect(sms.taken).toHaveLength(1);
    expect(lines.map(({ message }) => message)).toContain("A message queue could not be read");
  });
});

describe("stop", () => {
  test("waits for what is on its way, claims nothing more, and lets go of the providers", async () => {
    sms.isSlow = true;
    await insert({ count: 6 });
    const waking = worker.wake(tenant, "sms");
    await vi.waitFor(() => expect(sms.underWay).toBe(4), SOON);

    let isStopped = false;
    const stopping = worker.stop().then(() => (isStopped = true));
    await rows();
    expect(isStopped).toBe(false);
    sms.release();
    await Promise.all([stopping, waking]);

    expect(sms.taken).toHaveLength(4);
    expect(await rows()).toMatchObject([{ attempts: 0 }, { attempts: 0 }]);
    expect([sms.isClosed, email.isClosed]).toEqual([true, true]);
    await worker.wake(tenant, "sms");
    await worker.sweep();
    expect(sms.taken).toHaveLength(4);
  });

  test("does not wait for a provider that hangs: its message is due again", async () => {
    await worker.stop();
    worker = makeWorker({ stopPatienceMs: 30 });
    sms.isSlow = true;
    await insert({});
    void worker.wake(tenant, "sms");
    await vi.waitFor(() => expect(sms.underWay).toBe(1), SOON);

    await worker.stop();

    const [row] = await rows();
    expect(row?.["attempts"]).toBe(1);
    expect(row?.["due"]).toBeLessThanOrEqual(2);
  });
});
