import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  codeIn,
  newPhone,
  startTestApp,
  type TestApp,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const OWNER = "198.51.100.1";
const STRANGER = "203.0.113.1";

const signup = (phone: string, from = OWNER) =>
  api
    .client(tenant)
    .post(
      "/api/auth/signup/",
      { full_name: "Ada Lovelace", primary_mobile: phone },
      { remoteAddress: from },
    );
const resend = (phone: string, from: string) =>
  api
    .client(tenant)
    .post("/api/auth/resent-otp/", { primary_mobile: phone }, { remoteAddress: from });
const verify = (phone: string, otp: string, from = OWNER) =>
  api
    .client(tenant)
    .post("/api/auth/verify-otp/", { primary_mobile: phone, otp }, { remoteAddress: from });

/** A number whose owner has asked for a code and has it. */
async function begin(): Promise<{ phone: string; code: string }> {
  const phone = newPhone();
  await signup(phone);
  return { phone, code: codeIn(await api.nextSms(phone)) };
}

describe("a stranger on another network", () => {
  test("who enters wrong codes does not stop the owner's right one", async () => {
    const { phone, code } = await begin();
    for (let index = 0; index < 5; index += 1) await verify(phone, wrongCode(code), STRANGER);

    // Blocked is the stranger's network, even with the right code.
    expect(await verify(phone, code, STRANGER)).toMatchObject({
      status: 400,
      body: { code: "invalid_otp" },
    });
    expect((await verify(phone, code)).status).toBe(200);
  });

  test("who asks for codes leaves the owner's good, and the number's owner gets theirs", async () => {
    const { phone, code } = await begin();

    expect((await signup(phone, STRANGER)).status).toBe(201);
    expect((await resend(phone, STRANGER)).status).toBe(200);

    expect((await verify(phone, code)).status).toBe(200);
  });

  test("who goes on entering wrong codes while blocked does not wear the owner's code out", async () => {
    const { phone, code } = await begin();

    for (let index = 0; index < 40; index += 1) await verify(phone, wrongCode(code), STRANGER);

    const [row] = await tenant.sql`
      select otp_failures from signups where primary_mobile = ${phone}`;
    expect(row).toEqual({ otp_failures: 3 });
    expect((await verify(phone, code)).status).toBe(200);
  });

  test("who asks for codes from many networks does not crowd out the code of the owner's own", async () => {
    const { phone, code } = await begin();
    for (let index = 1; index <= 8; index += 1) await signup(phone, `203.0.113.${index}`);

    expect((await verify(phone, code)).status).toBe(200);
  });

  test("gets no code sent for a number it was blocked for, and the same answer", async () => {
    const { phone, code } = await begin();
    for (let index = 0; index < 3; index += 1) await verify(phone, wrongCode(code), STRANGER);
    const sent = async () =>
      ((await api.services.outbox?.list()) ?? []).filter(({ to }) => to === phone);
    const before = await sent();

    const blocked = await signup(phone, STRANGER);
    const asked = await resend(phone, STRANGER);
    // What the owner asks for afterwards is sent, so what came before would have been, too.
    await resend(phone, OWNER);
    await api.nextSms(phone);

    expect(blocked).toMatchObject({ status: 201, body: { primary_mobile: phone } });
    expect(asked.status).toBe(200);
    expect(await sent()).toHaveLength(before.length + 1);
  });
});

describe("a code", () => {
  test("can be entered from another network than asked for it", async () => {
    const { phone, code } = await begin();

    expect((await verify(phone, code, "192.0.2.77")).status).toBe(200);
  });

  test("counts once, also under 20 parallel submits from as many networks", async () => {
    const { phone, code } = await begin();

    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => verify(phone, code, `192.0.2.${index + 1}`)),
    );

    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  });

  test("is dead after 30 wrong ones over many networks, and its owner gets another", async () => {
    const { phone, code } = await begin();
    for (let index = 0; index < 29; index += 1) {
      await verify(phone, wrongCode(code), `192.0.2.${100 + Math.floor(index / 3)}`);
    }
    const [last] = await tenant.sql`
      select otp_failures, otp_hash is not null as is_alive from signups where primary_mobile = ${phone}`;
    expect(last).toEqual({ otp_failures: 29, is_alive: true });

    await verify(phone, wrongCode(code), "192.0.2.200");

    expect(await verify(phone, code)).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
    await resend(phone, OWNER);
    expect((await verify(phone, codeIn(await api.nextSms(phone)))).status).toBe(200);
  });

  test("has every wrong one of 20 parallel networks held against it", async () => {
    const { phone, code } = await begin();

    await Promise.all(
      Array.from({ length: 20 }, (_, index) => verify(phone, wrongCode(code), `192.0.2.${index}`)),
    );

    const [row] = await tenant.sql`
      select otp_failures from signups where primary_mobile = ${phone}`;
    expect(row).toEqual({ otp_failures: 20 });
  });

  test("is answered under parallel wrong codes for sign-ups of many networks", async () => {
    const phone = newPhone();
    for (let index = 1; index <= 6; index += 1) await signup(phone, `192.0.2.${index}`);

    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        index % 6 === 0
          ? signup(phone, `192.0.2.${(index % 7) + 1}`)
          : verify(phone, "000000", `198.51.100.${index}`),
      ),
    );

    for (const { status } of answers) expect([201, 400]).toContain(status);
  });

  test("that has expired is told only to whoever has it", async () => {
    const { phone, code } = await begin();
    await tenant.sql`
      update signups set otp_expires_at = now() - interval '1 second' where primary_mobile = ${phone}`;

    expect(await verify(phone, wrongCode(code))).toMatchObject({ body: { code: "invalid_otp" } });
    expect(await verify(phone, code)).toMatchObject({ status: 400, body: { code: "otp_expired" } });
  });
});
