import { type SMTPServerDataStream, SMTPServer, type SMTPServerOptions } from "smtp-server";
import { CERTIFICATE, CERTIFICATE_KEY } from "./localhost-certificate.ts";

/** A mail as the server was given it. */
export interface ReceivedMail {
  readonly from: string;
  readonly to: readonly string[];
  /** Who it was given by: the name that was logged in with. */
  readonly user: string | undefined;
  readonly isEncrypted: boolean;
  /** Headers and text as they were sent. */
  readonly source: string;
}

export interface FakeSmtpOptions {
  /** `starttls` offers it, `tls` begins with it, `none` does not have it. */
  readonly security?: "none" | "starttls" | "tls";
  /** Whoever logs in otherwise is refused; undefined: nobody has to log in. */
  readonly login?: { readonly user: string; readonly password: string };
}

/** A command of the protocol that a test can have answered otherwise. */
export type SmtpStage = "greeting" | "from" | "recipient" | "data";

/** A local mail server. */
export interface FakeSmtp {
  readonly port: number;
  readonly mails: readonly ReceivedMail[];
  /** Connections that are open. */
  readonly connectionCount: number;
  /** From now on this command gets this reply; `silence`: none. Undefined: as usual. */
  answer(stage: SmtpStage, reply: number | "silence" | undefined): void;
  close(): Promise<void>;
}

export async function startFakeSmtp({
  security = "none",
  login,
}: FakeSmtpOptions = {}): Promise<FakeSmtp> {
  const mails: ReceivedMail[] = [];
  const replies = new Map<SmtpStage, number | "silence">();
  const answer = (stage: SmtpStage, callback: (error?: Error | null) => void) => {
    const reply = replies.get(stage);
    if (reply === undefined) callback();
    else if (reply !== "silence") {
      callback(Object.assign(new Error("<ada@corp.test> was refused"), { responseCode: reply }));
    }
  };
  const options: SMTPServerOptions = {
    secure: security === "tls",
    hideSTARTTLS: security !== "starttls",
    disabledCommands: [
      ...(security === "starttls" ? [] : ["STARTTLS"]),
      ...(login ? [] : ["AUTH"]),
    ],
    cert: CERTIFICATE,
    key: CERTIFICATE_KEY,
    disableReverseLookup: true,
    closeTimeout: 50,
    onConnect: (_, callback) => answer("greeting", callback),
    onMailFrom: (_, __, callback) => answer("from", callback),
    onRcptTo: (_, __, callback) => answer("recipient", callback),
    onAuth: ({ username, password }, _, callback) => {
      if (username === login?.user && password === login?.password)
        callback(null, { user: username });
      else callback(new Error("Wrong credentials"));
    },
    onData: (stream, session, callback) => {
      void readAll(stream).then((source) => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          user: typeof session.user === "string" ? session.user : undefined,
          isEncrypted: session.secure,
          source,
        });
        answer("data", callback);
      });
    },
  };
  const server = new SMTPServer(options);
  // Clients that give up on TLS are an error of the server's.
  server.on("error", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  return {
    port: address.port,
    mails,
    get connectionCount() {
      return server.connections.size;
    },
    answer(stage, reply) {
      if (reply === undefined) replies.delete(stage);
      else replies.set(stage, reply);
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

async function readAll(stream: SMTPServerDataStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString();
}
