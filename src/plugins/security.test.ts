import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { guardPlugin } from "./guards.ts";

const STRANGER = "https://evil.test";
const APP = "https://app.corp.test";
const PROXY = "10.0.0.1";

let local: TestApp;
let production: TestApp;
/** Production with no proxy that is trusted. */
let direct: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  local = await startTestApp();
  tenant = await local.createTenant();
  const config = {
    appEnv: "production",
    debug: false,
    tenantBaseDomain: "ouvira.test",
    allowedHosts: ["api.corp.test"],
    corsAllowedOrigins: [APP],
    csrfTrustedOrigins: ["https://trusted.test"],
  } as const;
  production = await local.startReplica({ config: { ...config, trustedProxies: [PROXY] } });
  direct = await local.startReplica({ config });
});
afterAll(() => local.close());

interface Call {
  app?: TestApp;
  method?: "GET" | "POST" | "OPTIONS";
  url?: string;
  headers?: Record<string, string>;
  from?: string;
}

/** To production through its proxy and TLS, unless said otherwise. */
async function call({
  app = production,
  method = "GET",
  url = "/",
  headers = {},
  from = PROXY,
}: Call = {}) {
  const response = await app.app.inject({
    method,
    url,
    remoteAddress: from,
    headers: {
      host: "api.corp.test",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-proto": "https",
      ...headers,
    },
  });
  return {
    status: response.statusCode,
    headers: response.headers,
    code:
      response.headers["content-type"] === "application/problem+json"
        ? response.json<{ code: string }>().code
        : undefined,
  };
}

const preflight = (headers: Record<string, string> = {}) => ({
  origin: STRANGER,
  "access-control-request-method": "POST",
  "access-control-request-headers": "authorization,content-type,x-tenant",
  ...headers,
});

describe("a preflight", () => {
  test("is answered without looking a tenant up, and allows X-Tenant", async () => {
    const find = vi.spyOn(local.services.directory, "findBySubdomain");

    const answer = await call({
      app: local,
      method: "OPTIONS",
      url: "/api/auth/login/",
      headers: preflight(),
    });

    expect(answer.status).toBe(204);
    expect(answer.headers["access-control-allow-origin"]).toBe(STRANGER);
    expect(answer.headers["access-control-allow-headers"]).toContain("x-tenant");
    expect(answer.headers["access-control-allow-methods"]).toBe("GET, POST, PUT, PATCH, DELETE");
    expect(find).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });

  test("passes for a tenant that does not exist: the call itself is refused, readably", async () => {
    const headers = preflight({ "x-tenant": "nobody" });
    const answer = await call({ app: local, method: "OPTIONS", url: "/api/auth/login/", headers });
    const refused = await call({
      app: local,
      url: "/api/account/profile/",
      headers: { origin: STRANGER, "x-tenant": "nobody" },
    });

    expect(answer.status).toBe(204);
    expect(refused.code).toBe("tenant_not_found");
    expect(refused.headers["access-control-allow-origin"]).toBe(STRANGER);
  });

  test("in production passes for the origins that are listed, and for no other", async () => {
    const allowed = await call({
      method: "OPTIONS",
      url: "/api/auth/login/",
      headers: preflight({ origin: APP }),
    });
    const refused = await call({
      method: "OPTIONS",
      url: "/api/auth/login/",
      headers: preflight(),
    });

    expect(allowed.headers["access-control-allow-origin"]).toBe(APP);
    expect(refused.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test("OPTIONS that is no preflight is answered like one", async () => {
    const answer = await call({ app: local, method: "OPTIONS", url: "/api/auth/login/" });

    expect(answer.status).toBe(204);
  });
});

describe("an answer", () => {
  test("exposes to other origins what a client needs to read", async () => {
    const { headers } = await call({ app: local, headers: { origin: STRANGER } });

    const exposed = String(headers["access-control-expose-headers"]).split(", ");
    expect(exposed).toEqual(
      expect.arrayContaining([
        "retry-after",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-request-id",
      ]),
    );
    expect(headers["access-control-allow-credentials"]).toBeUndefined();
    expect(headers["vary"]).toContain("Origin");
  });

  test("carries an id of the server's own making, whatever the client sent", async () => {
    const first = await call({
      app: local,
      headers: { "x-request-id": "forged", "request-id": "forged" },
    });
    const second = await call({ app: local });

    expect(first.headers["x-request-id"]).toMatch(/^req-[0-9a-f-]{36}$/);
    expect(second.headers["x-request-id"]).not.toBe(first.headers["x-request-id"]);
  });

  test.each(["/", "/api/account/profile/", "/nothing/"])(
    "of %s has the headers that browsers heed",
    async (url) => {
      const { headers } = await call({ app: local, url });

      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
      expect(headers["x-powered-by"]).toBeUndefined();
      expect(headers["strict-transport-security"]).toBeUndefined();
    },
  );
});

describe("/dev/outbox/", () => {
  const HERE = { host: "localhost:8000" };

  test.each([
    "/dev/outbox/",
    "/dev/outbox",
    "/dev/outbox/?a=b",
    "/%64ev/outbox/",
    "/dev/%6futbox/",
    "/dev/./outbox/",
  ])("as %s it is there, and no other origin may read it", async (url) => {
    const answer = await call({ app: local, url, headers: { ...HERE, origin: STRANGER } });

    expect(answer.status).toBe(200);
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test.each([
    "/dev%2foutbox/",
    "/DEV/outbox/",
    "//dev/outbox/",
    "/dev//outbox/",
    "/dev/outbox;a=b",
  ])("as %s it is not there", async (url) => {
    expect((await call({ app: local, url, headers: { origin: STRANGER } })).status).toBe(404);
  });

  test("is there for its own pages, and no preflight allows more", async () => {
    expect((await call({ app: local, url: "/dev/outbox/", headers: HERE })).status).toBe(200);
    const answer = await call({
      app: local,
      method: "OPTIONS",
      url: "/dev/outbox/",
      headers: preflight({ "access-control-request-method": "GET" }),
    });
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test.each(["localhost", "demo.localhost:8000", "127.0.0.1:8000", "[::1]:8000"])(
    "answers as %s",
    async (host) => {
      const answer = await call({ app: local, url: "/dev/outbox/", headers: { host } });
      expect(answer.status).toBe(200);
    },
  );

  test("refuses a name that a stranger's DNS can point here", async () => {
    const answer = await call({ app: local, url: "/dev/outbox/", headers: { host: "evil.test" } });
    expect(answer).toMatchObject({ status: 400, code: "bad_host" });
  });

  test("does not exist in production", async () => {
    expect(await call({ url: "/dev/outbox/" })).toMatchObject({ status: 404, code: "not_found" });
  });
});

describe("in production, a host", () => {
  test("that is listed, or a tenant's subdomain or verified domain, is served", async () => {
    const domain = `www.${tenant.subdomain}.example`;
    await local.registry`
      insert into public.tenant_domains (tenant_id, domain, verified_at) values (${tenant.id}, ${domain}, now())`;

    const hosts = ["api.corp.test", "API.corp.test:443", `${tenant.subdomain}.ouvira.test`, domain];
    const answers = await Promise.all(hosts.map((host) => call({ headers: { host } })));

    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });

  test.each([
    ["a stranger's", "evil.test"],
    ["a subdomain of nobody", "nobody.ouvira.test"],
    ["the base domain itself", "ouvira.test"],
    ["one that ends alike", "evilapi.corp.test"],
    ["one that begins alike", "api.corp.test.evil.test"],
    ["an address", "192.0.2.1"],
    ["hostile", "a'--.ouvira.test"],
    ["very long", `${"a".repeat(3_000)}.ouvira.test`],
  ])("that is %s is refused", async (_, host) => {
    expect(await call({ headers: { host } })).toMatchObject({ status: 400, code: "bad_host" });
  });

  test("that cannot be a name is not asked for", async () => {
    const find = vi.spyOn(production.services.directory, "findByDomain");

    await call({ headers: { host: "a".repeat(3_000) } });
    await call({ headers: { host: "a_b'c" } });

    expect(find).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });

  test.each(["/healthz", "/readyz", "/readyz/"])(
    "does not matter to %s, nor does TLS",
    async (url) => {
      const answer = await call({
        url,
        headers: { host: "10.1.2.3", "x-forwarded-proto": "http" },
      });

      expect(answer.status).toBe(200);
    },
  );
});

describe("in production, plain HTTP", () => {
  test("behind a trusted proxy is sent to https, whole", async () => {
    const answer = await call({ url: "/api/x/?a=b", headers: { "x-forwarded-proto": "http" } });

    expect(answer.status).toBe(308);
    expect(answer.headers["location"]).toBe("https://api.corp.test/api/x/?a=b");
  });

  test("without a proxy that is trusted is answered: nobody could follow", async () => {
    expect((await call({ app: direct, headers: { "x-forwarded-proto": "http" } })).status).toBe(
      200,
    );
    expect(
      (await call({ from: "203.0.113.5", headers: { "x-forwarded-proto": "http" } })).status,
    ).toBe(200);
  });

  test("answers say that https is to be used for a year", async () => {
    const { headers } = await call();

    expect(headers["strict-transport-security"]).toBe("max-age=31536000; includeSubDomains");
  });
});

describe("in production, an unsafe method from a browser", () => {
  const post = (origin?: string) =>
    call({
      method: "POST",
      url: "/api/auth/login/",
      headers: {
        host: `${tenant.subdomain}.ouvira.test`,
        ...(origin === undefined ? {} : { origin }),
      },
    });

  test.each([
    ["no browser", undefined],
    ["a listed origin", APP],
    ["a trusted origin", "https://trusted.test"],
  ])("of %s passes", async (_, origin) => {
    expect((await post(origin)).code).toBe("validation_error");
  });

  test("of the tenant's own pages passes", async () => {
    expect((await post(`https://${tenant.subdomain}.ouvira.test`)).code).toBe("validation_error");
  });

  test.each([
    STRANGER,
    "null",
    "http://app.corp.test",
    "https://app.corp.test.evil.test",
    "https://app.corp.test:444",
  ])("of %s is refused", async (origin) => {
    expect(await post(origin)).toMatchObject({ status: 403, code: "origin_refused" });
  });
});

describe("what a client writes about itself", () => {
  const FORGED = {
    "x-forwarded-for": "198.51.100.66",
    "x-forwarded-host": "api.corp.test",
    "x-forwarded-proto": "https",
  };

  test("is ignored without a trusted proxy: its address is the socket's", async () => {
    const { user, password } = await local.signUp(tenant);
    await local
      .client(tenant)
      .post(
        "/api/auth/login/",
        { identifier: user.username, password },
        { headers: FORGED, remoteAddress: "192.0.2.50" },
      );

    const [row] = await tenant.sql`
      select host(ip_address) as ip from login_sessions where user_id = ${user.id} order by id desc limit 1`;
    expect(row).toEqual({ ip: "192.0.2.50" });
  });

  test("is ignored from somebody who is not the proxy, and taken from the proxy", async () => {
    const evil = { host: "evil.test", ...FORGED };

    expect(await call({ from: "203.0.113.5", headers: evil })).toMatchObject({ code: "bad_host" });
    expect(await call({ app: direct, headers: evil })).toMatchObject({ code: "bad_host" });
    expect((await call({ headers: evil })).status).toBe(200);
  });

  test("the proxy's word counts, not what the client wrote before it", async () => {
    const { user, password } = await local.signUp(tenant);
    await production.client(tenant).post(
      "/api/auth/login/",
      { identifier: user.username, password },
      {
        headers: {
          host: "api.corp.test",
          "x-forwarded-for": "198.51.100.66, 203.0.113.9",
          "x-forwarded-proto": "https",
        },
        remoteAddress: PROXY,
      },
    );

    const [row] = await tenant.sql`
      select host(ip_address) as ip from login_sessions where user_id = ${user.id} order by id desc limit 1`;
    expect(row).toEqual({ ip: "203.0.113.9" });
  });
});

describe("a route without a guard", () => {
  test("stops the boot and is named", async () => {
    const app = Fastify();
    await app.register(guardPlugin, { permissions: [] });
    app.get("/with/", { config: { guard: "public" } }, () => "ok");
    app.get("/without/", () => "ok");

    await expect(async () => app.ready()).rejects.toThrow("GET /without/");
  });

  test("with a guard that does not exist stops it, too", async () => {
    const app = Fastify();
    await app.register(guardPlugin, { permissions: [] });
    // A guard that the types refuse, as plain JavaScript would let it through.
    app.get("/typo/", { config: { guard: "publik" as "public" } }, () => "ok");

    await expect(async () => app.ready()).rejects.toThrow("GET /typo/");
  });
});
