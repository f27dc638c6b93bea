import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  newSubdomain,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { type Call, caller, limitedReplicas, NO_LIMITS, times } from "../../test/limits.ts";
import { Tokens } from "../auth/schemas.ts";
import type { Document } from "./openapi-document.ts";

/** Without limits: makes tenants and users. */
let base: TestApp;
let acme: TestTenant;
let beta: TestTenant;
let ada: SignedUpUser;

beforeAll(async () => {
  base = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  acme = await base.createTenant();
  beta = await base.createTenant();
  ada = await base.signUp(acme);
});
afterAll(() => base.close());

const limitedTo = limitedReplicas(() => base);
const send = async (app: TestApp, call: Call) => caller(app, acme).send(call);
const statuses = async (app: TestApp, calls: readonly Call[]) => caller(app, acme).statuses(calls);

describe("several limits on one request", () => {
  test("are told by the one with the fewest requests left", async () => {
    const call = { path: "/test/login/", ip: "10.200.0.1", body: { identifier: "ada@corp.io" } };
    const told = async (app: TestApp) => (await send(app, call)).headers["ratelimit-limit"];

    expect(await told(await limitedTo({ anonymous: 10, login: 5 }))).toBe("5");
    expect(await told(await limitedTo({ anonymous: 5, login: 10 }))).toBe("5");
  });

  test("what one refuses is not counted by the next", async () => {
    const app = await limitedTo({ anonymous: 3, finalize: 5 });
    const call = { path: "/test/finalize/", ip: "10.201.0.1" };

    expect(
      await statuses(
        app,
        times(10, () => call),
      ),
    ).toEqual([...times(3, () => 200), ...times(7, () => 429)]);
    const { values } = await app.services.metrics.rateLimitRejections.get();
    expect(values).toEqual([{ labels: { scope: "anonymous" }, value: 7 }]);
  });
});

describe("a refresh token", () => {
  const refresh = (app: TestApp, token: string, remoteAddress: string) =>
    app.client(acme).post("/api/auth/token/refresh/", { refresh: token }, { remoteAddress });

  test("that is accepted is not counted as anonymous, one that is refused is", async () => {
    const app = await limitedTo({ anonymous: 2 });
    let { refresh: token } = await base.signUp(acme);
    for (let index = 0; index < 4; index += 1) {
      const { status, body } = await refresh(app, token, "10.204.0.1");
      expect(status).toBe(200);
      token = Tokens.parse(body).refresh;
    }

    const refused: number[] = [];
    for (let index = 0; index < 4; index += 1) {
      refused.push((await refresh(app, "1.0.none", "10.204.0.1")).status);
    }

    expect(refused).toEqual([401, 401, 429, 429]);
  });
});

describe("the order of checks", () => {
  test("the address is counted before the body is looked at, and is told on a 400", async () => {
    const app = await limitedTo({ login: 2 });
    const call = { path: "/test/login/", ip: "10.202.0.1", body: { unknown: true } };

    const malformed = await send(app, call);
    expect(malformed.status).toBe(400);
    expect(malformed.headers["ratelimit-remaining"]).toBe("1");
    expect(await statuses(app, [call, call])).toEqual([400, 429]);
  });

  test("a body that is not valid is not counted for the one it names", async () => {
    const app = await limitedTo({ otpVerify: 2 });
    const make = (body: object) => ({ path: "/test/verify/", ip: "10.203.0.1", body });
    const malformed = make({ primary_mobile: "+2010", otp: 1 });

    expect(
      await statuses(
        app,
        times(5, () => malformed),
      ),
    ).toEqual(times(5, () => 400));
    expect((await send(app, make({ primary_mobile: "+2010" }))).status).toBe(200);
  });

  test("a failure of the service is told with the limit, too", async () => {
    const app = await limitedTo({ anonymous: 5 });

    const { status, headers } = await send(app, { path: "/test/broken/", ip: "10.204.0.1" });

    expect(status).toBe(500);
    expect(headers["ratelimit-remaining"]).toBe("4");
  });

  test("a user over their limit is refused after the token is checked", async () => {
    const app = await limitedTo({ authenticated: 1 });
    const call = { path: "/test/own/", ip: "10.205.0.1" };

    expect(
      await statuses(
        app,
        times(2, () => ({ ...call, token: ada.access })),
      ),
    ).toEqual([200, 429]);
    expect((await send(app, { ...call, token: "not.a.token" })).status).toBe(401);
    expect((await send(app, { ...call, token: ada.access, tenant: beta.subdomain })).status).toBe(
      401,
    );
  });

  test("a route that declares a limit for nobody fails, instead of going without", async () => {
    const app = await limitedTo({ otpVerify: 5 });

    expect((await send(app, { path: "/test/nobody/", ip: "10.206.0.1" })).status).toBe(500);
  });
});

describe("what is outside the API", () => {
  test.each(["/", "/healthz", "/readyz", "/swagger.json", "/swagger/"])(
    "%s is not limited",
    async (path) => {
      const app = await limitedTo({ anonymous: 1 });
      for (let index = 0; index < 5; index += 1) {
        const { statusCode, headers } = await app.app.inject(path);
        expect(statusCode).toBe(200);
        expect(headers).not.toHaveProperty("ratelimit-limit");
      }
    },
  );

  test("a preflight is not limited", async () => {
    const app = await limitedTo({ anonymous: 1 });
    for (let index = 0; index < 5; index += 1) {
      const { statusCode } = await app.app.inject({
        method: "OPTIONS",
        url: "/test/open/",
        headers: { origin: "https://app.example", "access-control-request-method": "POST" },
      });
      expect(statusCode).toBe(204);
    }
  });
});

describe("the caller's address", () => {
  const open = (ip: string, forwarded: string): Call => ({
    path: "/test/open/",
    ip,
    headers: { "x-forwarded-for": forwarded },
  });

  test("is the socket's, whatever X-Forwarded-For says, where no proxy is trusted", async () => {
    const app = await limitedTo({ anonymous: 3 });

    expect(
      await statuses(
        app,
        times(5, (index) => open("10.210.0.1", `203.0.113.${index}`)),
      ),
    ).toEqual([200, 200, 200, 429, 429]);
  });

  test("is what a trusted proxy has seen, not what it was told", async () => {
    const app = await limitedTo({ anonymous: 3 }, { trustedProxies: ["10.211.0.0/16"] });

    // The proxy adds whom it was called by; what stands in front of it, the caller has made up.
    const told = (index: number) => open("10.211.0.1", `198.51.100.${index}, 203.0.113.1`);
    expect(await statuses(app, times(5, told))).toEqual([200, 200, 200, 429, 429]);
    expect((await send(app, open("10.211.0.1", "203.0.113.1, 203.0.113.2"))).status).toBe(200);
  });

  test("is the proxy's where it wrote no address, with a port is the address", async () => {
    const app = await limitedTo({ anonymous: 2 }, { trustedProxies: ["10.212.0.0/16"] });

    const written = ["unknown", "_hidden", "unknown"].map((text) => open("10.212.0.1", text));
    expect(await statuses(app, written)).toEqual([200, 200, 429]);
    const ported = ["203.0.113.7:4711", "203.0.113.7:4712", "203.0.113.7"].map((text) =>
      open("10.212.0.1", text),
    );
    expect(await statuses(app, ported)).toEqual([200, 200, 429]);
  });
});

describe("a burst", () => {
  test("of 50 parallel calls passes exactly the limit", async () => {
    const app = await limitedTo({ refresh: 10 });
    const call = { path: "/test/refresh/", ip: "10.220.0.1" };

    const answers = await Promise.all(times(50, () => send(app, call)));

    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    const remaining = answers.map(({ headers }) => Number(headers["ratelimit-remaining"]));
    expect(remaining.toSorted((a, b) => b - a).slice(0, 10)).toEqual([
      9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    ]);
  });

  test("of invented tenants costs the one who invents them, and nobody else", async () => {
    const app = await limitedTo({ anonymous: 10 });
    const flood = times(50, () => ({
      path: "/test/open/",
      ip: "10.221.0.1",
      tenant: newSubdomain(),
    }));

    const answers = await Promise.all(flood.map((call) => send(app, call)));

    expect(answers.filter(({ status }) => status === 404)).toHaveLength(10);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(40);
    expect((await send(app, { path: "/test/open/", ip: "10.221.0.2" })).status).toBe(200);
  });
});

describe("one process without Redis", () => {
  test("is ready, and counts no fallback: this is how it is meant to count", async () => {
    const app = await limitedTo({ refresh: 10 });
    await send(app, { path: "/test/refresh/", ip: "10.230.0.1" });

    expect((await app.app.inject("/readyz")).json()).toMatchObject({ status: "ok" });
    const { values } = await app.services.metrics.rateLimitFallbacks.get();
    expect(values[0]?.value).toBe(0);
  });
});

describe("the API's routes", () => {
  const DECLARED = {
    "*login*": ["login"],
    "*OTP send*": ["signup", "resent-otp", "login-2fa-resend", "settings_send-2fa-code"],
    "*OTP verify*": [
      "verify-otp",
      "login-2fa-verify-code",
      "login-2fa-verify-backup",
      "settings_enable-2fa",
      "settings_confirm-2fa",
      "settings_disable-2fa",
    ],
    "*finalize*": ["finalize-signin", "password/forgot", "password/reset"],
    "*token refresh*": ["token/refresh"],
  };

  test("of authentication declare the limits of the contract", async () => {
    const { paths } = (await base.app.inject("/swagger.json")).json<Document>();
    for (const [limit, names] of Object.entries(DECLARED)) {
      const declaring = Object.entries(paths)
        .filter(([, { post }]) => post?.description?.endsWith(`Counted by the limit ${limit}.`))
        .map(([path]) => path);
      expect(declaring).toEqual(expect.arrayContaining(names.map((name) => `/api/auth/${name}/`)));
    }
  });

  test("count logins of an account from a whole /24, and not its owner's from elsewhere", async () => {
    const app = await limitedTo({ login: 3 });
    const logIn = (ip: string): Call => ({
      path: "/api/auth/login/",
      ip,
      body: { identifier: acme.owner.email, password: "a stranger's guess" },
    });
    const stranger = times(4, (index) => logIn(`10.240.0.${index + 1}`));

    expect(await statuses(app, stranger)).toEqual([401, 401, 401, 429]);
    const owner = logIn("10.241.0.1");
    expect(
      (await send(app, { ...owner, body: { ...owner.body, password: PASSWORD } })).status,
    ).toBe(200);
  });
});
