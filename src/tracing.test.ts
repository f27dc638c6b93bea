import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { startServer } from "../test/server-process.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

let registry: TestRegistry;
let collector: Server;
/** What was sent to the collector, as text: names and attributes stand in protobuf as they are. */
const received: { path: string; text: string; hex: string }[] = [];

beforeAll(async () => {
  registry = await createRegistry();
  await registry.createTenant("acme");
  collector = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      received.push({
        path: request.url ?? "",
        text: body.toString("utf8"),
        hex: body.toString("hex"),
      });
      response.writeHead(200).end();
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  collector.close();
  await registry.close();
});

const settings = (endpoint: string) => ({
  ...registry.environment("/nonexistent"),
  SECRET_KEY: "k".repeat(40),
  PASSWORD_PEPPER: "p".repeat(40),
  ENCRYPTION_KEY: "e".repeat(40),
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  OTEL_SERVICE_NAME: "tested",
});

const askForLogin = (url: string) =>
  fetch(`${url}/api/auth/login/`, {
    method: "POST",
    headers: {
      "x-tenant": "acme",
      "content-type": "application/json",
      traceparent: `00-${TRACE}-00f067aa0ba902b7-01`,
    },
    body: JSON.stringify({ identifier: "nobody@corp.test", password: "a secret password" }),
  });

describe("traces", () => {
  test("hold a span for the request and one for each of its statements, below the caller's", async () => {
    const { port } = collector.address() as AddressInfo;
    const server = await startServer(settings(`http://127.0.0.1:${port}`));

    const answer = await askForLogin(server.url);
    await server.stop();

    expect(answer.status).toBe(401);
    const text = received.map((sent) => sent.text).join("");
    expect(received[0]?.path).toBe("/v1/traces");
    expect(text).toContain("tested");
    expect(text).toContain("POST /api/auth/login/");
    expect(text).toContain("select users");
    expect(text).toContain(answer.headers.get("x-request-id"));
    expect(text).not.toContain("nobody@corp.test");
    expect(text).not.toContain("a secret password");
    // Of the request and of at least one statement.
    expect(
      received
        .map((sent) => sent.hex)
        .join("")
        .split(TRACE).length,
    ).toBeGreaterThan(2);
  });

  test("that nobody takes cost no request, and the process ends", async () => {
    const server = await startServer(settings("http://127.0.0.1:1"));

    expect((await askForLogin(server.url)).status).toBe(401);
    await server.stop();
  });
});
