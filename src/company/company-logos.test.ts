import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { PNG } from "../../test/permission-requests.ts";
import { type Person, World } from "../../test/world.ts";
import { LOGO_BYTES_MAX } from "./company-logos.ts";

const JPEG = Buffer.from("ffd8ffe000104a46494600010100000100010000ffd9", "hex");

let app: TestApp;
let tenant: TestTenant;
let world: World;
let owner: Person;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
  await app.app.listen({ host: "127.0.0.1", port: 0 });
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
  owner = await world.person("owner");
});

function send(
  method: "GET" | "HEAD" | "PUT",
  {
    body,
    type = "image/png",
    headers = {},
  }: {
    body?: Buffer;
    type?: string;
    headers?: Record<string, string>;
  } = {},
) {
  return app.app.inject({
    method,
    url: `/api/company/${world.company}/logo/`,
    headers: {
      "x-tenant": tenant.subdomain,
      authorization: `Bearer ${owner.token}`,
      ...(body === undefined ? {} : { "content-type": type }),
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
  });
}

/** A JPEG of so many bytes. */
function jpegOf(bytes: number): Buffer {
  return Buffer.concat([
    JPEG.subarray(0, 20),
    Buffer.alloc(bytes - JPEG.length),
    JPEG.subarray(20),
  ]);
}

async function stored(): Promise<unknown> {
  return tenant.sql`
    select content_type, length(bytes) as length from company_logos where company = ${world.company}`;
}

describe("PUT /api/company/{id}/logo/", () => {
  test("takes an image for what it is, whatever it is called", async () => {
    const response = await send("PUT", { body: JPEG, type: "image/png" });

    expect(response.statusCode).toBe(200);
    expect(response.json()).toMatchObject({ content_type: "image/jpeg", bytes: JPEG.length });
    const { body } = await world.as(owner).get(`/api/company/${world.company}/`);
    expect(body).toMatchObject({ logo: response.json<{ logo: string }>().logo });
  });

  test("logs what it is, never the bytes; the same again is no change", async () => {
    await send("PUT", { body: PNG });
    await send("PUT", { body: PNG });
    await send("PUT", { body: JPEG });

    const entries = await tenant.sql`
      select action, old_values, new_values from activity_logs
       where company_id = ${world.company} and entity_type = 'CompanyLogo' order by id`;
    expect(entries).toMatchObject([
      {
        action: "CREATE",
        old_values: {},
        new_values: { content_type: "image/png", bytes: PNG.length },
      },
      {
        action: "UPDATE",
        old_values: { content_type: "image/png", bytes: PNG.length },
        new_values: { content_type: "image/jpeg", bytes: JPEG.length },
      },
    ]);
  });

  test.each([
    ["SVG that calls itself a PNG", Buffer.from("<svg/>"), "image/png", 415],
    ["a PNG that calls itself SVG", PNG, "image/svg+xml", 415],
    ["JSON", Buffer.from("{}"), "application/json", 415],
    ["a form", PNG, "multipart/form-data; boundary=x", 415],
    ["nothing", Buffer.alloc(0), "image/png", 400],
    ["a byte too much", jpegOf(LOGO_BYTES_MAX + 1), "image/jpeg", 413],
  ])("refuses %s, and keeps what was there", async (_, body, type, status) => {
    await send("PUT", { body: PNG });
    const before = await stored();

    const response = await send("PUT", { body, type });

    expect(response.statusCode).toBe(status);
    expect(response.headers["content-type"]).toContain("application/problem+json");
    expect(await stored()).toEqual(before);
  });

  test("takes 512 KB, and stops reading past it when no length was told", async () => {
    expect((await send("PUT", { body: jpegOf(LOGO_BYTES_MAX) })).statusCode).toBe(200);
    const { port } = app.app.server.address() as AddressInfo;
    async function* chunks() {
      for (let sent = 0; sent < 20; sent += 1) yield Buffer.alloc(100_000);
    }

    const response = await fetch(`http://127.0.0.1:${port}/api/company/${world.company}/logo/`, {
      method: "PUT",
      headers: {
        "x-tenant": tenant.subdomain,
        authorization: `Bearer ${owner.token}`,
        "content-type": "image/png",
      },
      body: ReadableStream.from(chunks()),
      duplex: "half",
    });

    expect(response.status).toBe(413);
    expect(await stored()).toEqual([{ content_type: "image/jpeg", length: LOGO_BYTES_MAX }]);
  });

  test("by twenty at once keeps one image whole", async () => {
    const images = Array.from({ length: 20 }, (_, n) => jpegOf(1_000 + n));

    const answers = await Promise.all(images.map((body) => send("PUT", { body })));

    expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([200]));
    const served = await send("GET");
    expect(images.some((image) => image.equals(served.rawPayload))).toBe(true);
  });

  test("is for this route alone: others still take JSON only", async () => {
    const response = await app.app.inject({
      method: "PATCH",
      url: "/api/account/profile/",
      headers: {
        "x-tenant": tenant.subdomain,
        authorization: `Bearer ${owner.token}`,
        "content-type": "image/png",
      },
      body: PNG,
    });

    expect(response.statusCode).toBe(415);
  });
});

describe("GET /api/company/{id}/logo/", () => {
  test("gives the bytes with headers that let a browser do nothing but show them", async () => {
    await send("PUT", { body: PNG });

    const response = await send("GET");

    expect(response.rawPayload.equals(PNG)).toBe(true);
    expect(response.headers).toMatchObject({
      "content-type": "image/png",
      "content-length": String(PNG.length),
      "x-content-type-options": "nosniff",
      "content-security-policy": "default-src 'none'; sandbox",
      "content-disposition": 'inline; filename="logo.png"',
      "cache-control": "private, no-cache",
      etag: expect.stringMatching(/^"[0-9a-f]{16}"$/),
    });
  });

  test("answers 304 to who has it already, and the image once it is another", async () => {
    await send("PUT", { body: PNG });
    const etag = String((await send("GET")).headers["etag"]);
    const ask = async (tag: string) =>
      (await send("GET", { headers: { "if-none-match": tag } })).statusCode;

    expect(await ask(etag)).toBe(304);
    expect(await ask(`W/${etag}`)).toBe(304);
    expect(await ask(`"other", ${etag}`)).toBe(304);
    expect(await ask("*")).toBe(304);
    expect(await ask('"other"')).toBe(200);
    await send("PUT", { body: JPEG });
    expect(await ask(etag)).toBe(200);
  });

  test("of a company without one, or one that was deleted, is 404", async () => {
    expect((await send("GET")).statusCode).toBe(404);
    await send("PUT", { body: PNG });
    await world.as(owner).delete(`/api/company/${world.company}/logo/`);

    expect((await send("GET")).statusCode).toBe(404);
    expect((await world.as(owner).delete(`/api/company/${world.company}/logo/`)).status).toBe(404);
  });

  test("answers HEAD without the bytes", async () => {
    await send("PUT", { body: PNG });

    const response = await send("HEAD");

    expect(response.statusCode).toBe(200);
    expect(response.rawPayload).toHaveLength(0);
    expect(response.headers["content-type"]).toBe("image/png");
  });
});
