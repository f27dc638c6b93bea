import { afterEach, describe, expect, test, vi } from "vitest";
import { type FakeSmtp, type FakeSmtpOptions, startFakeSmtp } from "../../test/fake-smtp.ts";
import { CERTIFICATE } from "../../test/localhost-certificate.ts";
import type { SmtpConfig } from "../config.ts";
import type { Message } from "./messages.ts";
import { SmtpTransport } from "./smtp.ts";
import { PermanentDeliveryError } from "./transport.ts";

const LOGIN = { user: "mailer", password: "secret of a test" };
const MAIL: Message = {
  channel: "email",
  to: "ada@corp.test",
  subject: "Confirm your address, Ærø",
  body: "Open https://app.corp.test/confirm?token=abc123\n.\nIt works for a day.\n",
};
const delivery = { id: "42.7.abc", signal: new AbortController().signal };

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function startServer(options?: FakeSmtpOptions): Promise<FakeSmtp> {
  const server = await startFakeSmtp(options);
  closing.unshift(() => server.close());
  return server;
}

function connect(
  server: { port: number },
  overrides: Partial<SmtpConfig> = {},
  options: { timeoutMs?: number; ca?: string } = { ca: CERTIFICATE },
): SmtpTransport {
  const transport = new SmtpTransport(
    {
      host: "127.0.0.1",
      port: server.port,
      user: undefined,
      password: undefined,
      security: "none",
      from: "Example <noreply@example.test>",
      ...overrides,
    },
    options,
  );
  closing.unshift(() => transport.close());
  return transport;
}

/** The error of a mail that is not taken. It must not tell what it was about. */
async function refused(transport: SmtpTransport, mail: Message = MAIL): Promise<Error> {
  const error = await transport.send(mail, delivery).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error("The mail was taken");
  const told = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
  for (const secret of ["ada@", "abc123", LOGIN.password]) expect(told).not.toContain(secret);
  return error;
}

describe("a mail that the server takes", () => {
  test("has the sender, one recipient, subject and text, and no other text than that", async () => {
    const server = await startServer();

    await connect(server).send(MAIL, delivery);

    const [mail] = server.mails;
    expect(mail).toMatchObject({ from: "noreply@example.test", to: ["ada@corp.test"] });
    const source = mail?.source ?? "";
    const [headers = "", ...text] = source.split("\r\n\r\n");
    expect(headers).toContain("From: Example <noreply@example.test>");
    expect(headers).toContain("To: ada@corp.test");
    expect(headers).toContain("Auto-Submitted: auto-generated");
    expect(headers).toContain("Content-Type: text/plain; charset=utf-8");
    expect(headers).toMatch(/^Subject: =\?UTF-8\?Q\?Confirm_your_address=2C_=C3=86r=C3=B8\?=/m);
    expect(text.join("\r\n\r\n")).toBe(
      "Open https://app.corp.test/confirm?token=abc123\r\n.\r\nIt works for a day.\r\n",
    );
  });

  test("has the same Message-ID when it is given again", async () => {
    const server = await startServer();
    const transport = connect(server);

    await transport.send(MAIL, delivery);
    await transport.send(MAIL, delivery);
    await transport.send(MAIL, { ...delivery, id: "42.8.abc" });

    const ids = server.mails.map(({ source }) => /^Message-ID: (.*)$/m.exec(source)?.[1]);
    expect(ids).toEqual([
      "<42.7.abc@example.test>",
      "<42.7.abc@example.test>",
      "<42.8.abc@example.test>",
    ]);
  });

  test("shares a connection with the one before, and close() lets go of it", async () => {
    const server = await startServer();
    const transport = connect(server);

    await transport.send(MAIL, delivery);
    await transport.send(MAIL, delivery);
    expect(server.connectionCount).toBe(1);
    await transport.close();

    await vi.waitFor(() => expect(server.connectionCount).toBe(0));
  });

  test.each(["starttls", "tls"] as const)(
    "is encrypted with %s, the login too",
    async (security) => {
      const server = await startServer({ security, login: LOGIN });

      await connect(server, { security, ...LOGIN }).send(MAIL, delivery);

      expect(server.mails).toMatchObject([{ isEncrypted: true, user: LOGIN.user }]);
    },
  );
});

describe("encryption", () => {
  test("is insisted on: no mail for a server that does not offer STARTTLS", async () => {
    const server = await startServer({ security: "none" });

    const error = await refused(connect(server, { security: "starttls" }));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(server.mails).toEqual([]);
  });

  test("is not begun by itself where it is turned off, though it is offered", async () => {
    const server = await startServer({ security: "starttls" });

    await connect(server, { security: "none" }).send(MAIL, delivery);

    expect(server.mails).toMatchObject([{ isEncrypted: false }]);
  });

  test.each(["starttls", "tls"] as const)(
    "with a certificate that nobody vouches for is refused (%s)",
    async (security) => {
      const server = await startServer({ security });

      const error = await refused(connect(server, { security }, {}));

      expect(error).not.toBeInstanceOf(PermanentDeliveryError);
      expect(server.mails).toEqual([]);
    },
  );
});

describe("a mail that the server refuses", () => {
  test.each([550, 551, 553])("is given up when the recipient is refused with %i", async (reply) => {
    const server = await startServer();
    server.answer("recipient", reply);

    const error = await refused(connect(server));

    expect(error).toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain(`${reply} to RCPT TO`);
    expect(server.mails).toEqual([]);
  });

  test.each([
    ["recipient", 450],
    ["recipient", 530],
    ["from", 550],
    ["data", 452],
    ["data", 554],
  ] as const)("may be taken another time when %s gets %i", async (stage, reply) => {
    const server = await startServer();
    server.answer(stage, reply);

    const error = await refused(connect(server));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain(String(reply));
  });

  test("may be taken another time when the login is refused", async () => {
    const server = await startServer({ security: "starttls", login: LOGIN });
    const settings = { security: "starttls", user: LOGIN.user, password: "wrong" } as const;

    const error = await refused(connect(server, settings));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain("535 to AUTH");
  });

  test("is taken when the next one is not refused: the connection is fine", async () => {
    const server = await startServer();
    const transport = connect(server);
    server.answer("recipient", 550);
    await refused(transport);
    server.answer("recipient", undefined);

    await transport.send(MAIL, delivery);

    expect(server.mails).toHaveLength(1);
  });
});

describe("a server that does not answer", () => {
  test.each(["greeting", "recipient", "data"] as const)(
    "after %s is waited for until the time is up",
    async (stage) => {
      const server = await startServer();
      server.answer(stage, "silence");

      const error = await refused(connect(server, {}, { timeoutMs: 100 }));

      expect(error).not.toBeInstanceOf(PermanentDeliveryError);
      expect(error.message).toContain("ETIMEDOUT");
    },
  );

  test("is given up on when the try is", async () => {
    const server = await startServer();
    server.answer("recipient", "silence");
    const transport = connect(server);
    const over = new AbortController();

    const sending = transport.send(MAIL, { id: "1", signal: over.signal });
    await vi.waitFor(() => expect(server.connectionCount).toBe(1));
    over.abort();

    await expect(sending).rejects.toThrow("EABORT");
    await vi.waitFor(() => expect(server.connectionCount).toBe(0));
  });

  test("because it is not there may be there another time", async () => {
    const server = await startFakeSmtp();
    await server.close();

    const error = await refused(connect(server));

    expect(error).not.toBeInstanceOf(PermanentDeliveryError);
    expect(error.message).toContain("ESOCKET");
  });
});

describe("what would become a header or a second recipient", () => {
  test.each([
    ["a line break in the address", { to: "ada@corp.test\r\nBcc: eve@evil.test" }],
    ["a second address", { to: "ada@corp.test, eve@evil.test" }],
    ["a name around the address", { to: "Eve <eve@evil.test>" }],
    ["no address", { to: "undisclosed" }],
    ["a line break in the subject", { subject: "Hello\r\nBcc: eve@evil.test" }],
    ["a line feed in the subject", { subject: "Hello\nBcc: eve@evil.test" }],
  ])("is given up: %s", async (_, change) => {
    const server = await startServer();

    const error = await refused(connect(server), { ...MAIL, ...change });

    expect(error).toBeInstanceOf(PermanentDeliveryError);
    expect(server.mails).toEqual([]);
    expect(server.connectionCount).toBe(0);
  });
});
