import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { newEmail, newPhone } from "../app.ts";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";
import { Traffic } from "../fault-traffic.ts";
import { type FakeSmtp, startFakeSmtp } from "../fake-smtp.ts";
import { type FakeTwilio, startFakeTwilio } from "../fake-twilio.ts";
import { PRODUCTION_SETTINGS } from "../production-settings.ts";
import { type Proxy, startProxy } from "../proxy.ts";
import type { ServerProcess } from "../server-process.ts";

/** Longer than a few tries: the pauses are 2, 4 and 8 s at most, and a sweep comes every 5 s. */
const DELIVERED_WITHIN = { timeout: 40_000, interval: 50 };
const SOON = { timeout: 15_000, interval: 10 };

/** People who sign up and admins who invite, at the same time. */
const WORKERS = 4;
const MADE_WHILE_DEAD = 30;

let ground: FaultGround;
let smtp: FakeSmtp;
let twilio: FakeTwilio;
/** In front of the providers: what dies and comes back at the same address. */
let smtpRelay: Proxy;
let twilioRelay: Proxy;
const servers: ServerProcess[] = [];
const admins: (LoadTenant & { company: number; role: number })[] = [];

const Made = z.object({ id: z.int() });

beforeAll(async () => {
  [smtp, twilio] = await Promise.all([startFakeSmtp(), startFakeTwilio()]);
  smtpRelay = await startProxy(`http://127.0.0.1:${smtp.port}`);
  twilioRelay = await startProxy(twilio.url);
  ground = await createFaultGround();
  const settings = {
    ...PRODUCTION_SETTINGS,
    DATABASE_URL: ground.registry.apiUrl,
    // Without operators: an empty variable is none.
    DATABASE_MIGRATION_URL: "",
    ALLOWED_HOSTS: "127.0.0.1",
    TWILIO_API_URL: twilioRelay.url.replace(/\/$/, ""),
    EMAIL_HOST: "127.0.0.1",
    EMAIL_PORT: new URL(smtpRelay.url).port,
    EMAIL_USE_TLS: "false",
  };
  servers.push(...(await Promise.all([1, 2].map(() => ground.startService(settings)))));
  const [server] = servers;
  if (!server) throw new Error("There is no server");
  const setUp = new Traffic();
  for (let count = 0; count < 2; count += 1) {
    const tenant = await ground.createTenant(server);
    const { body } = await setUp.send(server.url, {
      method: "POST",
      path: "/api/company/",
      tenant: tenant.subdomain,
      token: tenant.token,
      body: { name: tenant.mark },
    });
    const { sql } = ground.registry;
    const [role] = await sql<{ id: number }[]>`
      select id from ${sql(tenant.schema)}.roles where is_system_role and role = 'Member'`;
    admins.push({ ...tenant, company: Made.parse(body).id, role: Made.parse(role).id });
  }
  setUp.close();
}, 120_000);
afterAll(async () => {
  await ground.close();
  await Promise.all([smtpRelay.close(), twilioRelay.close()]);
  await Promise.all([smtp.close(), twilio.close()]);
});

const taken = (receiver: string) =>
  twilio.requests.filter(({ form, status }) => form["To"] === receiver && status === 201).length +
  smtp.mails.filter(({ to }) => to.includes(receiver)).length;

async function queued(): Promise<{ messages: number; tried: number }> {
  const { sql } = ground.registry;
  let messages = 0;
  let tried = 0;
  for (const { schema } of admins) {
    const [row] = await sql<{ messages: number; tried: number }[]>`
      select count(*) as messages, count(*) filter (where attempts > 0) as tried
        from ${sql(schema)}.messages`;
    messages += row?.messages ?? 0;
    tried += row?.tried ?? 0;
  }
  return { messages, tried };
}

describe("mail server and SMS provider that are dead while people sign up and are invited", () => {
  test("cost no request, and every message is delivered once they are back", async () => {
    const traffic = new Traffic();
    /** Who is to get a message, by when it was asked for. */
    const receivers = { before: [] as string[], dead: [] as string[] };
    let phase: keyof typeof receivers = "before";
    const end = new AbortController();
    let turn = 0;
    const work = async () => {
      while (!end.signal.aborted) {
        turn += 1;
        const server = servers[turn % servers.length];
        const tenant = admins[Math.floor(turn / 2) % admins.length];
        if (!server || !tenant) throw new Error("There is nobody to ask");
        const list = receivers[phase];
        const isInvitation = Math.floor(turn / 4) % 2 === 0;
        const receiver = isInvitation ? newEmail() : newPhone();
        const { status } = await traffic.send(server.url, {
          method: "POST",
          tenant: tenant.subdomain,
          ...(isInvitation
            ? {
                path: "/api/access-control/invitations/",
                token: tenant.token,
                body: { email: receiver, company: tenant.company, role: tenant.role },
              }
            : {
                path: "/api/auth/signup/",
                body: { full_name: "Ada Lovelace", primary_mobile: receiver },
              }),
        });
        if (status === 201) list.push(receiver);
      }
    };
    const workers = Array.from({ length: WORKERS }, work);
    try {
      await vi.waitUntil(() => smtp.mails.length > 3 && twilio.requests.length > 3, SOON);
      await traffic.strike("both providers gone", () => {
        phase = "dead";
        smtpRelay.cut();
        twilioRelay.cut();
      });
      await vi.waitUntil(() => receivers.dead.length >= MADE_WHILE_DEAD, SOON);
    } finally {
      end.abort();
      await Promise.all(workers);
      traffic.close();
    }
    await vi.waitUntil(async () => (await queued()).tried >= MADE_WHILE_DEAD, SOON);
    expect(receivers.dead.filter((receiver) => taken(receiver) > 0)).toEqual([]);

    smtpRelay.restore();
    twilioRelay.restore();
    const since = performance.now();
    await vi.waitUntil(async () => (await queued()).messages === 0, DELIVERED_WITHIN);

    traffic.report();
    const twice = receivers.before.filter((receiver) => taken(receiver) > 1).length;
    console.log(
      `${receivers.dead.length} messages waited and were delivered ${Math.round(performance.now() - since)} ms ` +
        `after the providers were back; ${twice} whose answer was cut off came twice`,
    );
    expect(traffic.flaws).toEqual([]);
    expect(traffic.count(503) + traffic.count(0)).toBe(0);
    expect(receivers.dead.filter((receiver) => taken(receiver) !== 1)).toEqual([]);
    expect(receivers.before.filter((receiver) => taken(receiver) === 0)).toEqual([]);
    expect(servers.every((server) => server.isRunning)).toBe(true);
  }, 100_000);
});
