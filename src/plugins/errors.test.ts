import net from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;
let port: number;

beforeAll(async () => {
  api = await startTestApp({
    prepare: (app) => {
      app.get("/test/crash/", { config: { guard: "public" } }, () => {
        throw new Error("the password of the database is hunter2");
      });
      app.get("/test/items/:id/", { config: { guard: "public" } }, () => ({ ok: true }));
    },
  });
  tenant = await api.createTenant();
  await api.app.listen({ host: "127.0.0.1", port: 0 });
  const address = api.app.server.address();
  if (address === null || typeof address === "string") throw new Error("The app has no port");
  port = address.port;
});
afterAll(() => api.close());

const LOGIN = "/api/auth/login/";
const problem = (status: number, code: string) => ({ status, code });

/** Sends a body as it is. */
async function send(payload: string, contentType = "application/json") {
  const response = await api.app.inject({
    method: "POST",
    url: LOGIN,
    headers: { "x-tenant": tenant.subdomain, "content-type": contentType },
    payload,
  });
  return { response, body: response.json<Record<string, unknown>>() };
}

/** What the server says to bytes on a socket, until it closes it. */
async function overSocket(
  request: string,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const socket = net.connect({ host: "127.0.0.1", port });
  socket.on("error", () => undefined);
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  socket.write(request);
  // Not `once`, which fails when the socket is reset.
  await new Promise((resolve) => socket.once("close", resolve));
  const [head = "", body = "{}"] = text.split("\r\n\r\n");
  return {
    status: Number(head.split(" ")[1]),
    // What a problem's body is.
    body: JSON.parse(body) as Record<string, unknown>,
  };
}

describe("a refused request", () => {
  test("is a problem of RFC 9457 with every field that is promised", async () => {
    const { response, body } = await send("{}");

    expect(response.statusCode).toBe(400);
    expect(response.headers["content-type"]).toBe("application/problem+json");
    expect(Object.keys(body).sort()).toEqual([
      "code",
      "detail",
      "errors",
      "request_id",
      "status",
      "title",
      "type",
    ]);
    expect(body).toMatchObject({
      title: "Bad Request",
      status: 400,
      code: "validation_error",
      detail: "The request body is invalid.",
    });
    expect(body["type"]).toMatch(/^https:\/\/.+\/errors\/validation_error$/);
    expect(body["request_id"]).toBe(response.headers["x-request-id"]);
    expect(Object.keys(body["errors"] as object)).toEqual(["identifier", "password"]);
  });

  test("only a validation error lists fields", async () => {
    const { body } = await send(JSON.stringify({ identifier: "a", password: "b" }));

    expect(body).toMatchObject(problem(401, "invalid_credentials"));
    expect(body).not.toHaveProperty("errors");
  });

  test("an unknown field is refused and named", async () => {
    const { body } = await send(
      JSON.stringify({ identifier: "a", password: "b", is_tenant_admin: true }),
    );

    expect(body).toMatchObject(problem(400, "validation_error"));
    expect(JSON.stringify(body["errors"])).toContain("is_tenant_admin");
  });

  test.each([
    ["malformed JSON", '{"identifier":'],
    ["an empty body", ""],
    ["an array", "[]"],
    ["null", "null"],
    ["a text", '"identifier"'],
    ["a polluting key", '{"__proto__": {"isAdmin": true}, "identifier": "a", "password": "b"}'],
    ["a deeply nested value", `${"[".repeat(20_000)}${"]".repeat(20_000)}`],
  ])("%s is a validation error", async (_, payload) => {
    const { response, body } = await send(payload);

    expect(response.headers["content-type"]).toBe("application/problem+json");
    expect(body).toMatchObject(problem(400, "validation_error"));
  });

  test.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "text/xml",
  ])("a body of %s is 415", async (contentType) => {
    const { body } = await send(JSON.stringify({ identifier: "a", password: "b" }), contentType);

    expect(body).toMatchObject(problem(415, "unsupported_media_type"));
  });

  test("a body of 10 MB is 413", async () => {
    const { body } = await send(
      JSON.stringify({ identifier: "a".repeat(10 * 1_024 * 1_024), password: "b" }),
    );

    expect(body).toMatchObject(problem(413, "payload_too_large"));
  });

  test.each(["/nothing/", "/api/nothing/", "/api/", "/api/auth/"])(
    "%s is not there: 404, before a tenant is asked for",
    async (url) => {
      const response = await api.app.inject({ url });

      expect(response.json()).toMatchObject(problem(404, "not_found"));
    },
  );

  test.each([
    ["GET", LOGIN, "POST"],
    ["DELETE", "/api/auth/login", "POST"],
    ["POST", "/api/account/profile/", "GET"],
    ["POST", "/healthz", "GET"],
    ["PUT", "/test/items/7/", "GET"],
  ] as const)("%s %s is 405 and says what is allowed", async (method, url, allow) => {
    const response = await api.app.inject({ method, url });

    expect(response.json()).toMatchObject(problem(405, "method_not_allowed"));
    expect(String(response.headers["allow"]).split(", ")).toContain(allow);
    expect(String(response.headers["allow"]).split(", ")).not.toContain(method);
  });

  test.each([
    ["%", "/api/%zz/"],
    ["half a character", "/test/items/%c3/"],
    ["a NUL", "/api/auth/login/%00"],
  ])("a URL with %s is a problem and not a crash", async (_, url) => {
    const response = await api.app.inject({ url });

    expect(response.headers["content-type"]).toBe("application/problem+json");
    expect(response.json()).toMatchObject(problem(404, "not_found"));
  });

  test("a part of a path that is too long is 414", async () => {
    const short = await api.app.inject({ url: `/test/items/${"a".repeat(200)}/` });
    const long = await api.app.inject({ url: `/test/items/${"a".repeat(201)}/` });

    expect(short.statusCode).toBe(200);
    expect(long.json()).toMatchObject(problem(414, "uri_too_long"));
  });

  test("a path answers the same without the slash at its end", async () => {
    for (const url of ["/api/account/profile", "/api/account/profile/"]) {
      const response = await api.app.inject({ url, headers: { "x-tenant": tenant.subdomain } });
      expect(response.json()).toMatchObject(problem(401, "authentication_required"));
    }
    expect((await api.app.inject({ url: "/readyz/" })).statusCode).toBe(200);
  });
});

describe("over a socket", () => {
  test("headers that are too long are 431", async () => {
    const answer = await overSocket(
      `GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: ${"a".repeat(20_000)}\r\n\r\n`,
    );

    expect(answer).toMatchObject({ status: 431, body: problem(431, "headers_too_large") });
  });

  test("a URL that is too long is refused as a problem", async () => {
    const answer = await overSocket(
      `GET /${"a".repeat(20_000)} HTTP/1.1\r\nhost: localhost\r\n\r\n`,
    );

    // Node's parser counts the request line with the headers.
    expect(answer).toMatchObject({ status: 431, body: problem(431, "headers_too_large") });
  });

  test.each([
    ["what is not HTTP", "hello\r\n\r\n"],
    ["a header with a NUL", "GET / HTTP/1.1\r\nhost: localhost\r\nx-tenant: a\u0000b\r\n\r\n"],
    [
      "two lengths",
      "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
    ],
    [
      "a length and chunks",
      "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
  ])("%s is a bad request", async (_, request) => {
    expect(await overSocket(request)).toMatchObject({
      status: 400,
      body: problem(400, "bad_request"),
    });
  });
});

describe("a failure of the service's own", () => {
  test("is a bare 500, logged with the request's id", async () => {
    const response = await api.app.inject({ url: "/test/crash/" });

    const body = response.json<{ request_id: string }>();
    expect(body).toEqual({
      type: expect.stringMatching(/internal_error$/) as string,
      title: "Internal Server Error",
      status: 500,
      code: "internal_error",
      detail: "Something went wrong. It was logged under this request's id.",
      request_id: response.headers["x-request-id"],
    });
    const logged = api.logLines.filter(
      (line) => line.includes(body.request_id) && line.includes('"level":50'),
    );
    expect(logged).toHaveLength(1);
    expect(logged[0]).toContain("errors.test.ts");
  });
});
