import { describe, expect, test } from "vitest";
import { readConfig } from "../config.ts";
import { productionConfig } from "../../test/production.ts";
import { Outbox } from "./outbox.ts";
import { SmtpTransport } from "./smtp.ts";
import { DeliveryError, PermanentDeliveryError } from "./transport.ts";
import { makeTransports } from "./transports.ts";
import { TwilioTransport } from "./twilio.ts";

const local = readConfig({
  APP_ENV: "local",
  DATABASE_URL: "postgres://api@localhost/x",
  SECRET_KEY: "a".repeat(32),
  PASSWORD_PEPPER: "b".repeat(32),
  ENCRYPTION_KEY: "c".repeat(32),
});
const production = { ...local, ...productionConfig("http://127.0.0.1:1", 1) };

describe("makeTransports", () => {
  test("gives Twilio the SMS and the SMTP server the e-mails", () => {
    const transports = makeTransports(production, undefined);

    expect(transports?.sms).toBeInstanceOf(TwilioTransport);
    expect(transports?.email).toBeInstanceOf(SmtpTransport);
  });

  test("gives the outbox, where there is one, what no provider is configured for", () => {
    const outbox = new Outbox("/nowhere", () => undefined);
    const mailOnly = makeTransports({ ...production, twilio: undefined }, outbox);
    const neither = makeTransports(local, outbox);

    expect(mailOnly?.email).toBeInstanceOf(SmtpTransport);
    expect(mailOnly?.sms).toBe(outbox);
    expect(neither?.email).toBe(outbox);
    expect(neither?.sms).toBe(outbox);
  });

  test("keeps the messages of a channel without a provider for another time", async () => {
    const transports = makeTransports({ ...production, smtp: undefined }, undefined);
    const mail = { channel: "email", to: "ada@corp.test", body: "Hello" } as const;
    const delivery = { id: "1", signal: new AbortController().signal };

    const error = await transports?.email.send(mail, delivery).catch((reason: unknown) => reason);

    expect(error).toBeInstanceOf(DeliveryError);
    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
  });

  test("gives none where there is no provider at all", () => {
    expect(
      makeTransports({ ...production, twilio: undefined, smtp: undefined }, undefined),
    ).toBeUndefined();
  });
});
