import type { Config } from "../config.ts";
import type { Message } from "./messages.ts";
import type { Outbox } from "./outbox.ts";
import { SmtpTransport } from "./smtp.ts";
import { DeliveryError, type Transport } from "./transport.ts";
import { TwilioTransport } from "./twilio.ts";

/**
 * Who delivers what: Twilio and the SMTP server where they are configured, else the outbox of a local
 * installation. Undefined when there is nobody. Where there is only one, the other's messages are tried until
 * they expire.
 */
export function makeTransports(
  { twilio, smtp }: Config,
  outbox: Outbox | undefined,
): Readonly<Record<Message["channel"], Transport>> | undefined {
  if (!outbox && !twilio && !smtp) return undefined;
  return {
    email: smtp ? new SmtpTransport(smtp) : (outbox ?? nobody("e-mails")),
    sms: twilio ? new TwilioTransport(twilio) : (outbox ?? nobody("SMS")),
  };
}

function nobody(what: string): Transport {
  return {
    send: () => Promise.reject(new DeliveryError(`No provider of ${what} is configured.`)),
  };
}
