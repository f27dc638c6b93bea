import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FakeTwilio, refusal, startFakeTwilio, TAKEN } from "../../test/fake-twilio.ts";
import { PermanentDeliveryError } from "./transport.ts";
import { TwilioTransport } from "./twilio.ts";

const SID = `AC${"1".repeat(32)}`;
const TOKEN = "token-of-a-test";
const NUMBER = "+201001234567";
const BODY = "123456 is your sign-up code. Ω & = +";

let twilio: FakeTwilio;

beforeAll(async () => {
  twilio = await startFakeTwilio();
});
afterAll(() => twilio.close());
beforeEach(() => twilio.answer(TAKEN));

const settings = () => ({
  accountSid: SID,
  authToken: TOKEN,
  from: "+15005550006",
  messagingServiceSid: undefined,
  apiUrl: twilio.url,
});
function send(transport = new TwilioTransport(settings())): Promise<void> {
  return transport.send({ channel: "sms", to: NUMBER, body: BODY });
}

/** The error of a message that is not taken. It must not tell what it was about. */
async function refused(transport?: TwilioTransport): Promise<Error> {
  const error = await send(transport).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error("The message was taken");
  const told = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
  for (const secret of [NUMBER, NUMBER.slice(1), BODY, "123456", TOKEN]) {
    expect(told).not.toContain(secret);
  }
  return error;
}

describe("a message that Twilio takes", () => {
  test("is posted to the account's Messages with its credentials, sender, number and text", async () => {
    await send();

    const request = twilio.requests.at(-1);
    expect(request).toMatchObject({
      method: "POST",
      path: `/2010-04-01/Accounts/${SID}/Messages.json`,
      form: { From: "+15005550006", To: NUMBER, Body: BODY },
    });
    expect(Object.keys(request?.form ?? {}).toSorted()).toEqual(["Body", "From", "To"]);
    expect(request?.headers["content-type"]).toBe("application/x-www-form-urlencoded");
    expect(request?.headers.authorization).toBe(
      `Basic ${Buffer.from(`${SID}:${TOKEN}`).toString("base64")}`,
    );
  });

  test("goes out through the messaging service where there is one", async () => {
    const messagingServiceSid = `MG${"2".repeat(32)}`;

    await send(new TwilioTransport({ ...settings(), from: undefined, messagingServiceSid }));

    const form = twilio.requests.at(-1)?.form;
    expect(form).toEqual({ MessagingServiceSid: messagingServiceSid, To: NUMBER, Body: BODY });
  });
});

describe("a message that Twilio refuses", () => {
  test.each([
    ["a number that is none", 400, 21211],
    ["a number that unsubscribed", 400, 21610],
    ["a text that is too long", 400, 21617],
    ["something else of the kind", 422, 0],
  ])("is given up for %s", async (_, status, code) => {
    twilio.answer(refusal(status, code, NUMBER));

    const error = await refused();

    expect(error).toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain(`HTTP ${status}, code ${code}`);
  });

  test.each([
    ["the credentials are wrong", 401, 20003],
    ["the account is closed", 403, 20005],
    ["the account is not there", 404, 20404],
    ["the request timed out there", 408, 0],
    ["there are too many requests", 429, 20429],
    ["the sender is not a number of the account", 400, 21606],
    ["the sender's queue is full", 400, 21611],
    ["Twilio fails", 500, 20500],
    ["Twilio is away", 503, 0],
  ])("may be taken another time when %s, and is asked for once", async (_, status, code) => {
    twilio.answer(refusal(status, code, NUMBER));
    const before = twilio.requests.length;

    const error = await refused();

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain(`HTTP ${status}, code ${code}`);
    expect(twilio.requests.length - before).toBe(1);
  });
});

describe("a Twilio that does not answer as it should", () => {
  test("by being silent is waited for until the time is up", async () => {
    twilio.answer("silence");

    const error = await refused(new TwilioTransport(settings(), 50));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain("ECONNABORTED");
  });

  test("by hanging up may answer another time", async () => {
    twilio.answer("hang-up");

    const error = await refused();

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain("ECONNRESET");
  });

  test("by refusing connections may answer another time", async () => {
    const other = await startFakeTwilio();
    await other.close();

    const error = await refused(new TwilioTransport({ ...settings(), apiUrl: other.url }));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain("ECONNREFUSED");
  });

  test.each([
    ["a page", { status: 200, body: "<html>Log in to this network</html>" }],
    ["an empty object", { status: 200, body: {} }],
    ["a redirect", { status: 302, body: {} }],
  ])("with %s has not taken the message", async (_, answer) => {
    twilio.answer(answer);

    expect(await refused()).not.toBeInstanceOf(PermanentDeliveryError);
  });
});
