import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  newEmail,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { Canaries, readCells } from "../../test/canary.ts";
import { type FakeSmtp, startFakeSmtp } from "../../test/fake-smtp.ts";
import { type FakeTwilio, startFakeTwilio } from "../../test/fake-twilio.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { productionConfig, THROUGH_PROXY } from "../../test/production.ts";
import { World } from "../../test/world.ts";
import { CreatedInvitation } from "./schemas.ts";

const INVITATIONS = "/api/access-control/invitations/";
const Made = CreatedInvitation.pick({ id: true, token: true });

/** Longer than a sweep is away, on a machine that is busy. */
const SOON = { timeout: 15_000, interval: 10 };

let twilio: FakeTwilio;
let smtp: FakeSmtp;
let api: TestApp;
let tenant: TestTenant;
let world: World;
/** The tenant's admin, who invites. */
let inviter: string;

beforeAll(async () => {
  twilio = await startFakeTwilio();
  smtp = await startFakeSmtp();
  const config = productionConfig(twilio.url, smtp.port);
  api = await startTestApp({
    config: {
      ...config,
      rateLimits: NO_LIMITS,
      logLevel: "trace",
      frontendUrl: "https://app.corp.test",
    },
  });
});
afterAll(async () => {
  await api.close();
  await Promise.all([twilio.close(), smtp.close()]);
});
beforeEach(async () => {
  tenant = await api.createTenant();
  world = await World.create(api, tenant, await api.services.passwords.hash(PASSWORD));
  inviter = (await api.logIn(tenant, tenant.owner.email, PASSWORD, THROUGH_PROXY)).access;
});

const post = (path: string, body?: object, token = inviter) =>
  api.client(tenant).post(path, body, { ...THROUGH_PROXY, token });
const get = (path: string, token = inviter) =>
  api.client(tenant).get(path, { ...THROUGH_PROXY, token });

async function create(email: string, fields: object = {}): Promise<TestResponse> {
  const role = await world.systemRole("Member");
  return post(INVITATIONS, { email, company: world.company, role, ...fields });
}

/** The mails to an address, as people read them: quoted-printable undone (RFC 2045 §6.7). */
const mailsTo = (address: string) =>
  smtp.mails
    .filter(({ to }) => to.includes(address))
    .map(({ source }) =>
      source
        .replace(/=\r\n/g, "")
        .replace(/((?:=[0-9A-F]{2})+)/g, (bytes) =>
          Buffer.from(bytes.replaceAll("=", ""), "hex").toString("utf8"),
        ),
    );

/** The mail to an address, counted from 1, waited for. */
const mailTo = (address: string, nth = 1) =>
  vi.waitFor(() => {
    const mail = mailsTo(address)[nth - 1];
    if (mail === undefined) throw new Error(`${address} did not get mail ${nth}`);
    return mail;
  }, SOON);

/** Somebody with this address, verified, who is logged in. */
async function logInAs(email: string): Promise<string> {
  const hash = await api.services.passwords.hash(PASSWORD);
  const user = await world.user();
  await tenant.sql`
    update users set email = ${email}, password_hash = ${hash} where id = ${user}`;
  return (await api.logIn(tenant, email, PASSWORD, THROUGH_PROXY)).access;
}

const countIn = async (table: string) => {
  const [row] = await tenant.sql<{ count: number }[]>`
    select count(*) as count from ${tenant.sql(table)}`;
  return row?.count;
};

describe("the e-mail of an invitation", () => {
  test("has the link of the answer, the company, the inviter and when it ends", async () => {
    const email = newEmail();
    const company = 'Ärger "& Söhne" <b>\r\nBcc: all@corp.test';
    await tenant.sql`update companies set name = ${company} where id = ${world.company}`;
    const { body } = await create(email);

    const mail = await mailTo(email);
    expect(tokenIn(mail)).toBe(Made.parse(body).token);
    expect(mail).toContain(`https://app.corp.test/accept-invitation?tenant=${tenant.subdomain}#`);
    expect(mail).toContain("Olive Owner");
    expect(mail).toMatch(/It works until \d{4}-\d\d-\d\d \d\d:\d\d UTC/);
    // A name is not a header.
    expect(mail).not.toMatch(/^Bcc:/m);
    expect(smtp.mails.some(({ to }) => to.includes("all@corp.test"))).toBe(false);
  });

  test("comes later when the mail server is away, and the invitation stands meanwhile", async () => {
    const email = newEmail();
    smtp.answer("from", 451);
    const { status, body } = await create(email);
    expect(status).toBe(201);
    const { id, token } = Made.parse(body);
    await vi.waitFor(async () => {
      const [message] = await tenant.sql<{ attempts: number }[]>`select attempts from messages`;
      expect(message?.attempts).toBeGreaterThan(0);
    }, SOON);
    expect(mailsTo(email)).toEqual([]);
    expect((await get(`${INVITATIONS}${id}/`)).body).toMatchObject({ status: "pending" });

    smtp.answer("from", undefined);
    await vi.waitFor(async () => {
      // It is due as soon as its time has come.
      await tenant.sql`update messages set next_attempt_at = now() where next_attempt_at > now()`;
      await api.services.messages?.wake(tenant.id, "email");
      expect(mailsTo(email)).toHaveLength(1);
    }, SOON);
    expect(tokenIn(await mailTo(email))).toBe(token);
  });

  test.each(["activity_logs", "messages", "invitations"])(
    "is not sent, and there is no invitation, when %s cannot be written",
    async (table) => {
      const email = newEmail();
      await tenant.sql`
        alter table ${tenant.sql(table)} add constraint broken check (false) not valid`;
      expect((await create(email)).status).toBe(500);
      await tenant.sql`alter table ${tenant.sql(table)} drop constraint broken`;

      expect([await countIn("invitations"), await countIn("messages")]).toEqual([0, 0]);
      expect(await countIn("activity_logs")).toBe(0);
      // What is sent next arrives; the other is not there before it.
      expect((await create(email)).status).toBe(201);
      await mailTo(email);
      expect(mailsTo(email)).toHaveLength(1);
    },
  );

  test("sent again, has a new link that works for seven days; the older one is dead", async () => {
    const email = newEmail();
    const { id, token: older } = Made.parse((await create(email)).body);
    await tenant.sql`
      update invitations set expires_at = now() + interval '1 hour' where id = ${id}`;
    const guest = await logInAs(email);
    await mailTo(email);

    expect(await post(`${INVITATIONS}${id}/resend/`)).toMatchObject({
      status: 200,
      body: { detail: expect.any(String) },
    });

    const token = tokenIn(await mailTo(email, 2));
    expect(token).not.toBe(older);
    const accept = (candidate: string) =>
      post(`${INVITATIONS}accept/`, { token: candidate }, guest);
    expect(await accept(older)).toMatchObject({ status: 400, body: { code: "invalid_token" } });
    expect(
      await tenant.sql`
        select expires_at > now() + interval '6 days 23 hours' as is_long, status
          from invitations where id = ${id}`,
    ).toEqual([{ is_long: true, status: "pending" }]);
    expect(await tenant.sql`select 1 from activity_logs where action = 'RESEND'`).toHaveLength(1);
    expect((await accept(token)).status).toBe(200);
  });
});

describe("the token", () => {
  test("is in the first answer and the e-mails, in no other answer, log line or table", async () => {
    const canaries = new Canaries();
    const email = newEmail();
    const answers: unknown[] = [];
    const guest = await logInAs(email);
    const other = await logInAs(newEmail());
    const { id, token } = Made.parse((await create(email)).body);
    canaries.learn("first token", token);
    const at = `${INVITATIONS}${id}/`;
    const role = await world.systemRole("Member");
    const client = api.client(tenant);
    const options = { ...THROUGH_PROXY, token: inviter };
    const body = { email, company: world.company, role };
    answers.push(await client.put(at, body, options), await post(INVITATIONS, body));
    answers.push(await post(`${INVITATIONS}accept/`, { token }, other));
    answers.push(await post(`${INVITATIONS}accept/`, { token, tokens: token }, guest));
    answers.push(await get(`${INVITATIONS}?token=${token}`));
    answers.push(await post(`${at}resend/`));
    await mailTo(email);
    const second = tokenIn(await mailTo(email, 2));
    canaries.learn("second token", second);
    answers.push(await post(`${INVITATIONS}accept/`, { token }, guest));
    answers.push(await post(`${INVITATIONS}accept/`, { token: second }, guest));
    answers.push(await get(INVITATIONS), await get(at));
    answers.push(await get("/api/audit/activity-logs/"));
    answers.push(
      await get("/api/audit/notifications/", guest),
      await get("/api/audit/notifications/"),
    );

    expect(answers.flatMap((answer) => canaries.findIn(JSON.stringify(answer)))).toEqual([]);
    expect(api.logLines.length).toBeGreaterThan(10);
    expect(api.logLines.filter((line) => canaries.findIn(line).length > 0)).toEqual([]);
    const cells = [
      ...(await readCells(tenant.sql, `t_${tenant.id}`)),
      ...(await readCells(api.registry, "public")),
    ];
    expect(cells.some(({ where }) => where === "invitations.token_hash")).toBe(true);
    const found = cells.filter(
      ({ text, isBytes }) =>
        (isBytes ? canaries.findInBytes(text) : canaries.findIn(text)).length > 0,
    );
    expect(found).toEqual([]);
  });
});

describe("one person's invitations", () => {
  test("are e-mails without end no more: past 200 nothing is written or sent for an hour", async () => {
    const { id } = Made.parse((await create(newEmail())).body);
    await tenant.sql`
      update failures set failures = 199
       where failures = 1 and network = '::/0' and locked_until is null`;
    const last = await create(newEmail());
    const address = newEmail();

    const refusedOnes = [await create(address), await post(`${INVITATIONS}${id}/resend/`)];

    expect(last.status).toBe(201);
    for (const { status, body, headers } of refusedOnes) {
      expect({ status, body }).toMatchObject({ status: 429, body: { code: "rate_limited" } });
      expect(headers["retry-after"]).toBe("3600");
    }
    expect(await tenant.sql`select 1 from invitations where email = ${address}`).toEqual([]);
    await tenant.sql`
      update failures set locked_until = now(), updated_at = now() - interval '61 minutes'`;
    expect((await create(address)).status).toBe(201);
  });
});
