import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { newPhone, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type FakeSmtp, startFakeSmtp } from "../../test/fake-smtp.ts";
import { type FakeTwilio, refusal, startFakeTwilio, TAKEN } from "../../test/fake-twilio.ts";
import { productionConfig, THROUGH_PROXY } from "../../test/production.ts";
import { TenantDatabase } from "../db/tenant-database.ts";
import { signupCodeSms } from "./messages.ts";
import { messageContext, MessageQueue } from "./queue.ts";
import { MessageWorker } from "./worker.ts";

/** Longer than a sweep is away, on a machine that is busy. */
const SOON = { timeout: 15_000, interval: 20 };

const CODE = "271828";

let twilio: FakeTwilio;
let smtp: FakeSmtp;
/** Two processes of production on one database, both sending through Twilio. */
let first: TestApp;
let second: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  twilio = await startFakeTwilio();
  smtp = await startFakeSmtp();
  const config = productionConfig(twilio.url, smtp.port);
  first = await startTestApp({ config });
  second = await first.startReplica({ config });
});
afterAll(async () => {
  await first.close();
  await Promise.all([twilio.close(), smtp.close()]);
});
beforeEach(async () => {
  twilio.answer(TAKEN);
  tenant = await first.createTenant();
});

/** Queues a code as a domain's function does. */
function queue(
  to: string,
  options: { app?: TestApp; of?: TestTenant; messageQueue?: MessageQueue } = {},
): Promise<void> {
  const { services } = options.app ?? first;
  const { of = tenant, messageQueue = services.messageQueue } = options;
  return services.database
    .tenant(of.id)
    .transaction((tx) => messageQueue.add(tx, of.id, signupCodeSms(to, CODE, 10), 600));
}

/** A queue whose process ends before it can send: nobody is woken. */
function queueOfAnother(): MessageQueue {
  const { keys, database } = first.services;
  return new MessageQueue({ keys, registry: database.registry, wake: () => undefined });
}

const sentTo = (phone: string) => twilio.requests.filter(({ form }) => form["To"] === phone);
const rowsOf = ({ sql }: TestTenant) => sql`
  select attempts, next_attempt_at > now() as is_later, sealed from messages order by id`;
const isSent = (phone: string) =>
  vi.waitFor(async () => {
    expect(sentTo(phone)).toHaveLength(1);
    expect(await rowsOf(tenant)).toEqual([]);
  }, SOON);

/** What is waited for is due now, and the tenant is to be looked at. */
async function makeDue(): Promise<void> {
  await tenant.sql`update messages set next_attempt_at = now()`;
  await first.registry`
    insert into public.message_queues (tenant_id) values (${tenant.id})
    on conflict (tenant_id) do update set due_at = now()`;
}

async function countOf(outcome: string): Promise<number> {
  let sum = 0;
  for (const { services } of [first, second]) {
    const { values } = await services.metrics.messages.get();
    for (const { labels, value } of values) if (labels["outcome"] === outcome) sum += value;
  }
  return sum;
}

describe("an SMS that was queued", () => {
  test("is sent once when the transaction has committed, and its row is deleted", async () => {
    const phone = newPhone();
    const before = await countOf("sent");

    await queue(phone);

    await isSent(phone);
    expect(sentTo(phone)[0]?.form["Body"]).toContain(CODE);
    expect(await countOf("sent")).toBe(before + 1);
  });

  test("is not sent when the transaction is undone", async () => {
    const phone = newPhone();

    const undone = first.services.database.tenant(tenant.id).transaction(async (tx) => {
      const sms = signupCodeSms(phone, CODE, 10);
      await first.services.messageQueue.add(tx, tenant.id, sms, 600);
      throw new Error("changed my mind");
    });

    await expect(undone).rejects.toThrow("changed my mind");
    await makeDue();
    await first.services.messages?.sweep();
    expect(sentTo(phone)).toEqual([]);
    expect(await rowsOf(tenant)).toEqual([]);
  });

  test("shows neither number nor code at rest", async () => {
    const phone = newPhone();
    twilio.answer("silence");

    await queue(phone);

    const [row] = await rowsOf(tenant);
    const bytes = Buffer.from(row?.["sealed"] as Uint8Array);
    for (const encoding of ["latin1", "utf16le", "base64", "hex"] as const) {
      expect(bytes.toString(encoding)).not.toContain(CODE);
      expect(bytes.toString(encoding)).not.toContain(phone.slice(1));
    }
    await vi.waitFor(() => expect(twilio.hanging).toBe(1), SOON);
    twilio.release();
    await isSent(phone);
  });

  test("is found by the sweep of another process when the one that queued it never sends", async () => {
    const phone = newPhone();

    await queue(phone, { messageQueue: queueOfAnother() });

    await vi.waitFor(() => expect(sentTo(phone)).toHaveLength(1), SOON);
    await isSent(phone);
  });

  test("is sent exactly once by two processes that queue and sweep at the same time", async () => {
    const tenants = await Promise.all(Array.from({ length: 4 }, () => first.createTenant()));
    const phones = Array.from({ length: 40 }, newPhone);
    const sweeping = new AbortController();
    const sweeps = [first, second].map(async ({ services }) => {
      while (!sweeping.signal.aborted) await services.messages?.sweep();
    });

    await Promise.all(
      phones.map((phone, index) =>
        queue(phone, { app: index % 2 ? first : second, of: tenants[index % 4] ?? tenant }),
      ),
    );
    await vi.waitFor(async () => {
      for (const each of tenants) expect(await rowsOf(each)).toEqual([]);
    }, SOON);
    sweeping.abort();
    await Promise.all(sweeps);

    expect(phones.map((phone) => sentTo(phone).length)).toEqual(phones.map(() => 1));
  });

  test("is sent again when the process that sent it ended before it could say so", async () => {
    const phone = newPhone();
    const database = new TenantDatabase({
      url: first.config.databaseUrl ?? "",
      lanes: 1,
      transactionConnections: 1,
      preparedPerLaneMax: 10,
    });
    let taken = 0;
    const dying = {
      send: async () => {
        taken += 1;
        await database.close();
      },
    };
    const { keys, metrics } = first.services;
    const log = { warn: () => undefined };
    const worker = new MessageWorker({
      database,
      keys,
      metrics,
      log,
      transports: { sms: dying, email: dying },
    });
    const sealed = keys.seal(
      JSON.stringify(signupCodeSms(phone, CODE, 10)),
      messageContext(tenant.id),
    );
    // Without a mark: nobody else is to find it first.
    await tenant.sql`
      insert into messages (channel, sealed, expires_at)
      values ('sms', ${sealed}, now() + interval '10 minutes')`;
    await worker.wake(tenant.id, "sms");

    expect(taken).toBe(1);
    await first.services.messages?.sweep();
    expect(sentTo(phone)).toEqual([]);
    expect(await rowsOf(tenant)).toMatchObject([{ attempts: 1, is_later: true }]);
    await makeDue();
    await second.services.messages?.sweep();

    await isSent(phone);
  });
});

describe("an e-mail that was queued", () => {
  test("goes to the mail server under its own name, and its row is deleted", async () => {
    const { database, messageQueue } = first.services;
    const mail = { channel: "email", to: "ada@corp.test", subject: "Hi", body: "Hello" } as const;

    await database
      .tenant(tenant.id)
      .transaction((tx) => messageQueue.add(tx, tenant.id, mail, 600));

    await vi.waitFor(async () => {
      expect(smtp.mails).toMatchObject([{ to: ["ada@corp.test"] }]);
      expect(await rowsOf(tenant)).toEqual([]);
    }, SOON);
    expect(smtp.mails[0]?.source).toMatch(
      new RegExp(`^Message-ID: <${tenant.id}\\.\\d+\\.[0-9a-f]{16}@example\\.test>`, "m"),
    );
  });
});

describe("a registry that cannot be told", () => {
  test("fails the sign-up with 503, and nothing of it is written or sent", async () => {
    const phone = newPhone();
    const signUp = () =>
      first
        .client(tenant)
        .post(
          "/api/auth/signup/",
          { full_name: "Ada Lovelace", primary_mobile: phone },
          THROUGH_PROXY,
        );
    await first.registry`insert into public.message_queues (tenant_id) values (${tenant.id})`;

    const refused = await first.registry.begin(async (lock) => {
      await lock`select 1 from public.message_queues where tenant_id = ${tenant.id} for update`;
      return signUp();
    });

    expect(refused).toMatchObject({ status: 503, body: { code: "overloaded" } });
    expect(await tenant.sql`select 1 from signups`).toEqual([]);
    expect(await rowsOf(tenant)).toEqual([]);
    expect((await signUp()).status).toBe(201);
    await isSent(phone);
  });
});

describe("a Twilio that hangs", () => {
  test("delays no answer and holds no connection", async () => {
    const phones = [newPhone(), newPhone()];
    twilio.answer("silence");

    for (const phone of phones) {
      const { status } = await first
        .client(tenant)
        .post(
          "/api/auth/signup/",
          { full_name: "Ada Lovelace", primary_mobile: phone },
          THROUGH_PROXY,
        );
      expect(status).toBe(201);
    }
    await vi.waitFor(() => expect(twilio.hanging).toBe(2), SOON);

    // All settled but for heartbeats and sweeps, which are over in a moment.
    await vi.waitFor(async () => {
      const busy = await first.registry`
        select application_name, state, query from pg_stat_activity
         where datname = current_database()
           and application_name like 'ouvira%'
           and state <> 'idle'`;
      expect(busy).toEqual([]);
    }, SOON);
    expect(twilio.hanging).toBe(2);
    twilio.release();
    await vi.waitFor(async () => expect(await rowsOf(tenant)).toEqual([]), SOON);
  });
});

describe("a Twilio that refuses", () => {
  test("for now is asked again later, at the hint's time, and then has the message once", async () => {
    const phone = newPhone();
    twilio.answer(refusal(503, 20503, phone));
    const before = await countOf("retried");

    await queue(phone);

    // Within two seconds it may have been asked once more.
    await vi.waitFor(async () => {
      expect(await countOf("retried")).toBeGreaterThan(before);
      const [row] = await tenant.sql`
        select extract(epoch from m.next_attempt_at - now()) <= 2 ^ m.attempts as is_soon,
               q.due_at <= m.next_attempt_at + interval '1 ms'                 as is_hinted
          from messages m, public.message_queues q
         where q.tenant_id = ${tenant.id}`;
      expect(row).toEqual({ is_soon: true, is_hinted: true });
    }, SOON);
    twilio.answer(TAKEN);
    await makeDue();
    await second.services.messages?.sweep();
    await vi.waitFor(async () => expect(await rowsOf(tenant)).toEqual([]), SOON);
    expect(sentTo(phone).filter(({ status }) => status === 201)).toHaveLength(1);
    expect(sentTo(phone).length).toBeGreaterThan(1);
  });

  test("for good is not asked again; the log has the reason, and no number and no code", async () => {
    const phone = newPhone();
    twilio.answer(refusal(400, 21211, phone));
    const before = await countOf("given_up");

    await queue(phone);

    await vi.waitFor(async () => expect(await rowsOf(tenant)).toEqual([]), SOON);
    await makeDue();
    await second.services.messages?.sweep();
    expect(sentTo(phone)).toHaveLength(1);
    expect(await countOf("given_up")).toBe(before + 1);
    const line = first.logLines.find((text) => text.includes("A message was given up")) ?? "";
    expect(line).toContain("HTTP 400, code 21211");
    expect(line).toContain(`${phone.slice(0, 3)}*`);
    const all = [...first.logLines, ...second.logLines].join("");
    expect(all).not.toContain(phone.slice(1));
    expect(all).not.toContain(`${CODE} is your`);
  });
});

describe("a dead Twilio", () => {
  test("delays no answer, and the message waits", async () => {
    const dead = await startFakeTwilio();
    await dead.close();
    const third = await first.startReplica({ config: productionConfig(dead.url) });
    const phone = newPhone();

    const { status } = await third
      .client(tenant)
      .post(
        "/api/auth/signup/",
        { full_name: "Ada Lovelace", primary_mobile: phone },
        THROUGH_PROXY,
      );

    expect(status).toBe(201);
    await vi.waitFor(() => {
      expect(third.logLines.join("")).toContain("ECONNREFUSED");
    }, SOON);
    await third.services.messages?.stop();
    // The others can reach theirs.
    await isSent(phone);
  });
});
