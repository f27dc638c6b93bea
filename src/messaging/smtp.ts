import type { SmtpConfig } from "../config.ts";
import type { Message } from "./messages.ts";
import {
  type Delivery,
  DeliveryError,
  PermanentDeliveryError,
  type Transport,
} from "./transport.ts";

export interface SmtpOptions {
  /** Instead of {@link TIMEOUT_MS}. */
  readonly timeoutMs?: number;
  /** A certificate to trust instead of the system's authorities, in PEM. */
  readonly ca?: string;
}

/** How long the server may take to be found, to take the connection, to greet, and to answer. */
const TIMEOUT_MS = 10_000;

/** At least as many as the worker sends at once, so that no message waits for a connection here. */
const CONNECTIONS_MAX = 8;

/** How long a connection is kept for the next message: less than the server's patience and ours. */
const IDLE_MS = 5_000;

/**
 * Replies of the 5xx kind that are about us and not about the recipient: authentication is required,
 * too weak or wrong (RFC 4954 §6), commands out of order. The operator mends what they complain of.
 */
const PASSING_REPLIES = new Set([503, 530, 534, 535, 538]);

/** One mailbox and nothing else: no list, no name, no line break that would begin a header. */
const ONE_ADDRESS = /^[^\s@<>,;:"()[\]\\]+@[^\s@<>,;:"()[\]\\]+$/;
const LINE_BREAK = /[\r\n]/;

/** Sends e-mails, as plain text, through one SMTP server. */
export class SmtpTransport implements Transport {
  readonly #makeMailer: () => ReturnType<typeof makeMailer>;
  /** Made with the first e-mail: nodemailer takes longer to load than most of what a start does. */
  #mailer: ReturnType<typeof makeMailer> | undefined;
  readonly #from: string;
  readonly #domain: string;

  constructor(config: SmtpConfig, options: SmtpOptions = {}) {
    this.#makeMailer = () => makeMailer(config, options);
    this.#from = config.from;
    this.#domain = /@([^\s@<>]+)/.exec(config.from)?.[1] ?? "localhost";
  }

  /** The Message-ID is the same each time, so that a mailbox knows a mail it was given twice. */
  async send({ to, subject = "", body }: Message, { id, signal }: Delivery): Promise<void> {
    if (!ONE_ADDRESS.test(to)) throw new PermanentDeliveryError("The address is not one address.");
    if (LINE_BREAK.test(subject)) throw new PermanentDeliveryError("The subject has a line break.");
    try {
      this.#mailer ??= this.#makeMailer();
      const mailer = await this.#mailer;
      await mailer.sendMail({
        from: this.#from,
        to: { name: "", address: to },
        subject,
        text: body,
        messageId: `<${id}@${this.#domain}>`,
        // RFC 3834 §5: no vacation notes in answer.
        headers: { "Auto-Submitted": "auto-generated" },
        signal,
      });
    } catch (error) {
      throw toDeliveryError(error);
    }
  }

  async close(): Promise<void> {
    (await this.#mailer)?.close();
  }
}

async function makeMailer(config: SmtpConfig, { timeoutMs = TIMEOUT_MS, ca }: SmtpOptions) {
  const { host, port, user, password, security } = config;
  const { createTransport } = await import("nodemailer");
  return createTransport({
    pool: true,
    maxConnections: CONNECTIONS_MAX,
    idleTimeout: Math.min(IDLE_MS, timeoutMs),
    // Whoever sends tries again itself, later.
    maxRequeues: 0,
    host,
    port,
    secure: security === "tls",
    requireTLS: security === "starttls",
    ignoreTLS: security === "none",
    ...(ca === undefined ? {} : { tls: { ca } }),
    ...(user === undefined ? {} : { auth: { user, pass: password ?? "" } }),
    dnsTimeout: timeoutMs,
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** The server's words may quote the address: only codes and the command they answer are kept. */
function toDeliveryError(error: unknown): DeliveryError {
  const { code, command, responseCode } = factsOf(error);
  if (responseCode === undefined) {
    return new DeliveryError(`The mail server could not be used: ${code}.`);
  }
  const text = `The mail server answered ${responseCode} to ${command}.`;
  const isPermanent =
    command === "RCPT TO" && responseCode >= 500 && !PASSING_REPLIES.has(responseCode);
  return isPermanent ? new PermanentDeliveryError(text) : new DeliveryError(text);
}

function factsOf(error: unknown): {
  code: string;
  command: string;
  responseCode: number | undefined;
} {
  const facts: { code?: unknown; command?: unknown; responseCode?: unknown } =
    typeof error === "object" && error !== null ? error : {};
  const { code, command, responseCode } = facts;
  return {
    code: typeof code === "string" ? code : "unknown",
    command: typeof command === "string" ? command : "the connection",
    responseCode: typeof responseCode === "number" ? responseCode : undefined,
  };
}
