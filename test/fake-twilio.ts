import http from "node:http";

/** What Twilio was asked to send. */
export interface TwilioRequest {
  readonly method: string | undefined;
  readonly path: string | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly form: Readonly<Record<string, string>>;
  /** What it was answered; undefined: not at all, or much later. */
  readonly status: number | undefined;
}

/** How it answers: as Twilio does, not at all (`silence`), or by ending the connection (`hang-up`). */
export type TwilioAnswer =
  { readonly status: number; readonly body: string | object } | "silence" | "hang-up";

/** A local server that speaks as much of Twilio's Messages resource as is used here. */
export interface FakeTwilio {
  readonly url: string;
  readonly requests: readonly TwilioRequest[];
  /** Connections on which it has been asked and has not answered. */
  readonly hanging: number;
  /** From now on answers like this. */
  answer(answer: TwilioAnswer): void;
  /** Answers what was met with silence so far. */
  release(): void;
  close(): Promise<void>;
}

/** As Twilio answers when it has taken a message; fields of interest only. */
export const TAKEN: TwilioAnswer = {
  status: 201,
  body: { sid: `SM${"0".repeat(32)}`, status: "queued", error_code: null },
};

/** As Twilio refuses, with the number in the message as it does. */
export function refusal(status: number, code: number, number = "+201001234567"): TwilioAnswer {
  return {
    status,
    body: { code, message: `The number ${number} was refused`, more_info: "https://…", status },
  };
}

export async function startFakeTwilio(): Promise<FakeTwilio> {
  const requests: TwilioRequest[] = [];
  const silent = new Set<http.ServerResponse>();
  let current: TwilioAnswer = TAKEN;
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      requests.push({
        method: request.method,
        path: request.url,
        headers: request.headers,
        form: Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString())),
        status: typeof current === "string" ? undefined : current.status,
      });
      if (current === "hang-up") request.socket.destroy();
      else if (current === "silence") {
        silent.add(response);
        response.on("close", () => silent.delete(response));
      } else reply(response, current);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    get hanging() {
      return silent.size;
    },
    answer(answer) {
      current = answer;
    },
    release() {
      for (const response of silent) reply(response, TAKEN);
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function reply(response: http.ServerResponse, answer: TwilioAnswer): void {
  if (typeof answer === "string") return;
  const { status, body } = answer;
  response.writeHead(status, { "content-type": "application/json" });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
}
