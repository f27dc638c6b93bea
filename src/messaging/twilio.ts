import type { Twilio } from "twilio";
import type { TwilioConfig } from "../config.ts";
import type { Message } from "./messages.ts";
import { DeliveryError, PermanentDeliveryError, type Transport } from "./transport.ts";

/** How long Twilio may be silent. Its own answers take under a second. */
const TIMEOUT_MS = 10_000;

/**
 * Statuses of the 4xx kind that say nothing about the message: credentials, an account that is not
 * there or closed, and an address of the API are the operator's to mend; 408 and 429 pass.
 */
const PASSING_STATUSES = new Set([401, 403, 404, 408, 429]);

/**
 * Codes of a 400 that is about the sender, which the operator mends, or passes: no or a wrong `From`
 * (21212, 21603, 21606, 21659), a full queue of that number (21611), a messaging service that is not
 * there or has no number (21701, 21703, 21704).
 * https://www.twilio.com/docs/api/errors
 */
const SENDER_CODES = new Set([21212, 21603, 21606, 21611, 21659, 21701, 21703, 21704]);

/**
 * Sends SMS through Twilio's Messages resource. It has no idempotency key: a message whose answer
 * was lost is sent again.
 * https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
 */
export class TwilioTransport implements Transport {
  readonly #config: TwilioConfig;
  readonly #timeoutMs: number;
  #client: Promise<Twilio> | undefined;
  readonly #sender: { from: string } | { messagingServiceSid: string };

  constructor(config: TwilioConfig, timeoutMs: number = TIMEOUT_MS) {
    this.#config = config;
    this.#timeoutMs = timeoutMs;
    const { messagingServiceSid, from = "" } = config;
    this.#sender = messagingServiceSid === undefined ? { from } : { messagingServiceSid };
  }

  /** Made for the first message: the package is large, and the service starts without it. */
  async #makeClient(): Promise<Twilio> {
    const { default: twilio } = await import("twilio");
    const { accountSid, authToken, apiUrl } = this.#config;
    const client = twilio(accountSid, authToken, {
      timeout: this.#timeoutMs,
      autoRetry: false,
      // A kept socket may be closed by the other side just as it is used: whether the message was
      // taken is then unknown, and it is sent again.
      keepAlive: false,
    });
    client.api.baseUrl = apiUrl;
    return client;
  }

  async send({ to, body }: Message): Promise<void> {
    this.#client ??= this.#makeClient();
    const client = await this.#client;
    let sid: unknown;
    try {
      ({ sid } = await client.messages.create({ ...this.#sender, to, body }));
    } catch (error) {
      throw toDeliveryError(error);
    }
    if (typeof sid !== "string") throw new DeliveryError("Twilio's answer names no message.");
  }
}

/** Twilio's words, and those of the HTTP client, may quote the number or the token: only codes are kept. */
function toDeliveryError(error: unknown): DeliveryError {
  const { status, code } = codesOf(error);
  if (status === undefined) return new DeliveryError(`Twilio could not be asked: ${code}.`);
  const text = `Twilio refused the message: HTTP ${status}, code ${code}.`;
  const isPermanent =
    status >= 400 &&
    status < 500 &&
    !PASSING_STATUSES.has(status) &&
    !SENDER_CODES.has(Number(code));
  return isPermanent ? new PermanentDeliveryError(text) : new DeliveryError(text);
}

function codesOf(error: unknown): { status: number | undefined; code: string } {
  if (!(error instanceof Error)) return { status: undefined, code: "unknown" };
  // The SDK's exceptions carry the answer's status, the HTTP client's errors a code such as ECONNREFUSED.
  const status = "status" in error && typeof error.status === "number" ? error.status : undefined;
  const code = "code" in error ? String(error.code) : error.name;
  return { status, code };
}
