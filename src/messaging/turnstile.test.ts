import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "../config.ts";
import { AppError } from "../errors.ts";
import { makeLogger } from "../logger.ts";
import { Turnstile } from "./turnstile.ts";

const SECRET = "0x4AAAAAAA-the-site-s-own";
const ANSWER = "0.the-widget-s-answer";
const IP = "203.0.113.9";
const SOLVED = { success: true, "error-codes": [], hostname: "app.corp.test" };

type Answering = (response: ServerResponse, request: IncomingMessage) => void;

let dataDir: string;
let server: Server;
let verifyUrl: string;
let asked: { method: string | undefined; url: string | undefined; form: URLSearchParams }[];
let answering: Answering;

const json =
  (body: object, status = 200): Answering =>
  (response) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

const refused = (...codes: string[]) => json({ success: false, "error-codes": codes });

beforeAll(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-turnstile-"));
});
afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

beforeEach(async () => {
  asked = [];
  answering = json(SOLVED);
  server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    request.on("end", () => {
      asked.push({ method: request.method, url: request.url, form: new URLSearchParams(body) });
      answering(response, request);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port");
  verifyUrl = `http://127.0.0.1:${address.port}/turnstile/v0/siteverify`;
});

afterEach(() => {
  server.close();
  server.closeAllConnections();
});

const verify = (answer: string | undefined = ANSWER, timeoutMs?: number) =>
  new Turnstile(
    { secretKey: SECRET, verifyUrl },
    timeoutMs === undefined ? {} : { timeoutMs },
  ).verify(answer, IP);

async function failureOf(verified: Promise<void>): Promise<AppError> {
  const failure: unknown = await verified.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(failure instanceof AppError)) throw new Error(`Not an AppError: ${inspect(failure)}`);
  return failure;
}

/** What the error handler writes into the log of a failure. */
function logged(failure: AppError): string {
  let lines = "";
  const config = readConfig({ APP_ENV: "local", DATA_DIR: dataDir });
  makeLogger(config, { write: (line) => void (lines += line) }).error(
    { err: failure.cause ?? failure },
    failure.message,
  );
  return lines;
}

describe("a captcha's answer", () => {
  test("is shown to Cloudflare with the secret and the address of who solved it", async () => {
    await verify();

    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ method: "POST", url: "/turnstile/v0/siteverify" });
    expect(Object.fromEntries(asked[0]?.form ?? [])).toEqual({
      secret: SECRET,
      response: ANSWER,
      remoteip: IP,
      idempotency_key: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
    });
  });

  test("arrives as it is, whatever is in it", async () => {
    const odd = "a&secret=other#%41+ü\n";

    await verify(odd);

    expect(asked[0]?.form.getAll("response")).toEqual([odd]);
    expect(asked[0]?.form.getAll("secret")).toEqual([SECRET]);
  });

  test.each([
    ["missing", undefined],
    ["empty", ""],
    ["longer than any that Cloudflare makes", "a".repeat(2_049)],
  ])("that is %s fails and is not asked about", async (_, answer) => {
    const failure = await failureOf(
      new Turnstile({ secretKey: SECRET, verifyUrl }).verify(answer, IP),
    );

    expect(failure.code).toBe("captcha_failed");
    expect(asked).toEqual([]);
  });

  test("of the greatest length is asked about", async () => {
    await verify("a".repeat(2_048));

    expect(asked).toHaveLength(1);
  });

  test.each([
    ["forged", ["invalid-input-response"]],
    ["old or used", ["timeout-or-duplicate"]],
    ["both", ["invalid-input-response", "timeout-or-duplicate"]],
    ["for no reason", []],
  ])("that Cloudflare refuses as %s fails, asked about once", async (_, codes) => {
    answering = refused(...codes);

    const failure = await failureOf(verify());

    expect(failure).toMatchObject({ code: "captcha_failed", statusCode: 400 });
    expect(asked).toHaveLength(1);
  });

  test("that is refused with a 400 fails like any other", async () => {
    answering = json({ success: false, "error-codes": ["invalid-input-response"] }, 400);

    expect((await failureOf(verify())).code).toBe("captcha_failed");
  });
});

describe("without a verdict nobody passes:", () => {
  const unclear: [string, Answering][] = [
    ["our secret is wrong", refused("invalid-input-secret")],
    ["our secret is missing", refused("missing-input-secret")],
    [
      "our secret and the answer are wrong",
      refused("invalid-input-response", "invalid-input-secret"),
    ],
    ["Cloudflare fails inside", refused("internal-error")],
    ["a code that nobody knows", refused("something-new")],
    ["status 500", json(SOLVED, 500)],
    ["status 503", json(SOLVED, 503)],
    ["status 403", json(SOLVED, 403)],
    ["status 429", json({ success: false }, 429)],
    ["a success with a 400", json(SOLVED, 400)],
    ["no JSON", (response) => response.end(`<html>${ANSWER} ${SECRET}</html>`)],
    ["no object", json([true])],
    ["an empty body", (response) => response.end()],
    ["a success that is a text", json({ ...SOLVED, success: "true" })],
    ["codes that are no list", json({ success: false, "error-codes": "bad" })],
    ["an echo in place of a code", refused(`${SECRET} ${ANSWER}`)],
    ["the connection is cut", (response) => response.destroy()],
    [
      "cut in the middle",
      (response) => response.writeHead(200, { "content-length": "99" }).write("{"),
    ],
  ];

  test.each(unclear)("%s", async (_, answer) => {
    answering = (response, request) => {
      answer(response, request);
      if (!response.writableEnded) response.destroy();
    };

    const failure = await failureOf(verify());

    expect(failure).toMatchObject({ code: "not_ready", statusCode: 503, retryAfterSeconds: 5 });
    expect(failure.cause).toBeInstanceOf(Error);
    const log = logged(failure);
    expect(log).toContain("The captcha cannot be checked");
    for (const text of [log, inspect(failure, { depth: null })]) {
      expect(text).not.toContain(SECRET);
      expect(text).not.toContain(ANSWER);
    }
  });

  test("the log says which of our settings is wrong", async () => {
    answering = refused("invalid-input-secret");

    expect(logged(await failureOf(verify()))).toContain("siteverify answered invalid-input-secret");
  });

  test.each<[string, Answering]>([
    ["the first byte", () => undefined],
    [
      "the last byte",
      (response) => void response.writeHead(200).write(JSON.stringify(SOLVED).slice(0, -1)),
    ],
  ])("%s does not come in time", async (_, answer) => {
    answering = answer;
    const startedAt = performance.now();

    const failure = await failureOf(verify(ANSWER, 150));

    expect(failure.code).toBe("not_ready");
    expect(logged(failure)).toContain("TimeoutError");
    expect(performance.now() - startedAt).toBeLessThan(1_500);
    expect(asked).toHaveLength(1);
  });

  test("nobody listens", async () => {
    server.close();
    await once(server, "close");

    const failure = await failureOf(verify());

    expect(failure.code).toBe("not_ready");
    expect(logged(failure)).toContain("ECONNREFUSED");
  });

  test("a body without an end is left, not kept", async () => {
    let isLeft = false;
    answering = (response) => {
      response.on("close", () => (isLeft = true));
      const more = () => void (response.destroyed || response.write("a".repeat(8_192), more));
      more();
    };

    const failure = await failureOf(verify());

    expect(failure.code).toBe("not_ready");
    expect(logged(failure)).toContain("more than 16384 bytes");
    await expect.poll(() => isLeft).toBe(true);
  });

  test("a redirect is not followed: the secret goes nowhere else", async () => {
    answering = (response, request) =>
      request.url === "/elsewhere"
        ? json(SOLVED)(response, request)
        : response.writeHead(307, { location: "/elsewhere" }).end();

    const failure = await failureOf(verify());

    expect(failure.code).toBe("not_ready");
    expect(asked.map(({ url }) => url)).toEqual(["/turnstile/v0/siteverify"]);
  });
});

describe("a connection that breaks", () => {
  test("is tried once more, as the same question", async () => {
    answering = (response, request) =>
      asked.length === 1 ? response.destroy() : json(SOLVED)(response, request);

    await verify();

    expect(asked).toHaveLength(2);
    const keys = asked.map(({ form }) => form.get("idempotency_key"));
    expect(new Set(keys).size).toBe(1);
  });

  test("again is given up", async () => {
    answering = (response) => response.destroy();

    expect((await failureOf(verify())).code).toBe("not_ready");
    expect(asked).toHaveLength(2);
  });

  test("is no reason to ask about two answers as one", async () => {
    await verify();
    await verify();

    const keys = asked.map(({ form }) => form.get("idempotency_key"));
    expect(new Set(keys).size).toBe(2);
  });
});
