import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  newPhone,
  newSubdomain,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { type Call, caller, limitedReplicas, NO_LIMITS, times } from "../../test/limits.ts";
import type { RateLimitScope } from "../config.ts";

/** Without limits: makes tenants and users. */
let base: TestApp;
let acme: TestTenant;
let beta: TestTenant;
let ada: SignedUpUser;
let bob: SignedUpUser;

beforeAll(async () => {
  base = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  acme = await base.createTenant();
  beta = await base.createTenant();
  ada = await base.signUp(acme);
  bob = await base.signUp(acme);
});
afterAll(() => base.close());

const limitedTo = limitedReplicas(() => base);
const send = async (app: TestApp, call: Call) => caller(app, acme).send(call);
const statuses = async (app: TestApp, calls: readonly Call[]) => caller(app, acme).statuses(calls);

const HASH_LIKE = "Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg";

interface Rule {
  readonly name: string;
  readonly scope: RateLimitScope;
  /** The n-th call that shares a counter with the others; `net` makes addresses nobody else uses. */
  readonly call: (index: number, net: number) => Call;
  /** Calls that differ in the one thing that is named, and are not counted with them. */
  readonly others: Readonly<Record<string, (net: number) => Call>>;
}

const RULES: readonly Rule[] = [
  {
    name: "anonymous: public routes, by address",
    scope: "anonymous",
    call: (_, net) => ({ path: "/test/open/", ip: `10.${net}.0.1` }),
    others: {
      "another address": (net) => ({ path: "/test/open/", ip: `10.${net}.0.2` }),
      "another tenant": (net) => ({
        path: "/test/open/",
        ip: `10.${net}.0.1`,
        tenant: beta.subdomain,
      }),
      "a logged-in user": (net) => ({ path: "/test/own/", ip: `10.${net}.0.1`, token: ada.access }),
    },
  },
  {
    name: "anonymous: IPv6 by /64",
    scope: "anonymous",
    call: (index, net) => ({ path: "/test/open/", ip: `2001:db8:${net}:1::${index}` }),
    others: {
      "another /64": (net) => ({ path: "/test/open/", ip: `2001:db8:${net}:2::1` }),
    },
  },
  {
    name: "anonymous: tokens that are missing or refused",
    scope: "anonymous",
    call: (index, net) => ({
      path: "/test/own/",
      ip: `10.${net}.0.1`,
      ...(index % 2 === 0 ? {} : { token: "not.a.token" }),
    }),
    others: {
      "a token that is accepted": (net) => ({
        path: "/test/own/",
        ip: `10.${net}.0.1`,
        token: ada.access,
      }),
    },
  },
  {
    name: "anonymous: tenants that do not exist, whatever their name",
    scope: "anonymous",
    call: (index, net) => ({
      path: "/test/open/",
      ip: `10.${net}.0.1`,
      tenant: index % 2 === 0 ? newSubdomain() : "",
    }),
    others: {
      "a tenant that exists": (net) => ({ path: "/test/open/", ip: `10.${net}.0.1` }),
      "another address": (net) => ({
        path: "/test/open/",
        ip: `10.${net}.0.2`,
        tenant: newSubdomain(),
      }),
    },
  },
  {
    name: "authenticated: by user, wherever they are",
    scope: "authenticated",
    call: (index, net) => ({
      path: "/test/own/",
      ip: `10.${net}.${index}.1`,
      token: bob.access,
    }),
    others: {
      "another user at the same address": (net) => ({
        path: "/test/own/",
        ip: `10.${net}.0.1`,
        token: ada.access,
      }),
    },
  },
  {
    name: "login: by address, whoever is tried",
    scope: "login",
    call: (index, net) => ({
      path: "/test/login/",
      ip: `10.${net}.0.1`,
      body: { identifier: `user ${net} ${index}` },
    }),
    others: {
      "another address": (net) => ({
        path: "/test/login/",
        ip: `10.${net}.0.2`,
        body: { identifier: `user ${net} a` },
      }),
      "another tenant": (net) => ({
        path: "/test/login/",
        ip: `10.${net}.0.1`,
        tenant: beta.subdomain,
        body: { identifier: `user ${net} b` },
      }),
    },
  },
  {
    name: "login: by identifier, however it is written, from anywhere in a /24",
    scope: "login",
    call: (index, net) => ({
      path: "/test/login/",
      ip: `10.${net}.0.${index + 1}`,
      body: { identifier: [`ada${net}@corp.io`, ` ADA${net}@Corp.io `][index % 2] },
    }),
    others: {
      "another /24, where its owner may be": (net) => ({
        path: "/test/login/",
        ip: `10.${net}.1.1`,
        body: { identifier: `ada${net}@corp.io` },
      }),
      "another identifier": (net) => ({
        path: "/test/login/",
        ip: `10.${net}.0.100`,
        body: { identifier: `bob${net}@corp.io` },
      }),
      "another tenant": (net) => ({
        path: "/test/login/",
        ip: `10.${net}.0.101`,
        tenant: beta.subdomain,
        body: { identifier: `ada${net}@corp.io` },
      }),
    },
  },
  {
    name: "login: by phone number, however it is written, from anywhere in a /48",
    scope: "login",
    call: (index, net) => ({
      path: "/test/login/",
      ip: `2001:db8:${net}:${index + 1}::1`,
      body: { identifier: ["+201001234567", "+20 100 123 4567"][index % 2] },
    }),
    others: {
      "another /48": (net) => ({
        path: "/test/login/",
        ip: `2001:db9:${net}:1::1`,
        body: { identifier: "+201001234567" },
      }),
    },
  },
  {
    name: "OTP send: by address, whatever the number",
    scope: "otpSend",
    call: (_, net) => ({
      path: "/test/send/",
      ip: `10.${net}.0.1`,
      body: { primary_mobile: newPhone() },
    }),
    others: {
      "another address": (net) => ({
        path: "/test/send/",
        ip: `10.${net}.0.2`,
        body: { primary_mobile: newPhone() },
      }),
    },
  },
  {
    name: "OTP send: by phone number, from anywhere in a /24",
    scope: "otpSend",
    call: (index, net) => ({
      path: "/test/send/",
      ip: `10.${net}.0.${index + 1}`,
      body: { primary_mobile: `phone ${net}` },
    }),
    others: {
      "another /24": (net) => ({
        path: "/test/send/",
        ip: `10.${net}.1.1`,
        body: { primary_mobile: `phone ${net}` },
      }),
      "another number": (net) => ({
        path: "/test/send/",
        ip: `10.${net}.0.100`,
        body: { primary_mobile: newPhone() },
      }),
    },
  },
  {
    name: "OTP send: by pending login",
    scope: "otpSend",
    call: (index, net) => ({
      path: "/test/resend/",
      ip: `10.${net}.0.${index + 1}`,
      body: { session_id: `${HASH_LIKE}${net}` },
    }),
    others: {
      "another pending login": (net) => ({
        path: "/test/resend/",
        ip: `10.${net}.0.100`,
        body: { session_id: HASH_LIKE },
      }),
    },
  },
  {
    name: "OTP send: by user, where somebody is logged in",
    scope: "otpSend",
    call: (index, net) => ({
      path: "/test/own-send/",
      ip: `10.${net}.0.${index + 1}`,
      token: bob.access,
    }),
    others: {
      "another user": (net) => ({
        path: "/test/own-send/",
        ip: `10.${net}.0.100`,
        token: ada.access,
      }),
    },
  },
  {
    name: "OTP verify: by phone number, from anywhere in a /24",
    scope: "otpVerify",
    call: (index, net) => ({
      path: "/test/verify/",
      ip: `10.${net}.0.${index + 1}`,
      body: { primary_mobile: `phone ${net}` },
    }),
    others: {
      "another /24, where its owner may be": (net) => ({
        path: "/test/verify/",
        ip: `10.${net}.1.1`,
        body: { primary_mobile: `phone ${net}` },
      }),
      "another number at the same address": (net) => ({
        path: "/test/verify/",
        ip: `10.${net}.0.1`,
        body: { primary_mobile: newPhone() },
      }),
    },
  },
  {
    name: "OTP verify: by pending login, wherever the codes come from",
    scope: "otpVerify",
    call: (index, net) => ({
      path: "/test/2fa/",
      ip: `10.${net}.${index}.1`,
      body: { session_id: `${HASH_LIKE}${net}` },
    }),
    others: {
      "another pending login": (net) => ({
        path: "/test/2fa/",
        ip: `10.${net}.0.1`,
        body: { session_id: HASH_LIKE },
      }),
    },
  },
  {
    name: "OTP verify: by user, wherever the codes come from",
    scope: "otpVerify",
    call: (index, net) => ({
      path: "/test/own-2fa/",
      ip: `10.${net}.${index}.1`,
      token: bob.access,
    }),
    others: {
      "another user": (net) => ({
        path: "/test/own-2fa/",
        ip: `10.${net}.0.1`,
        token: ada.access,
      }),
    },
  },
  {
    name: "finalize: by address",
    scope: "finalize",
    call: (_, net) => ({ path: "/test/finalize/", ip: `10.${net}.0.1` }),
    others: {
      "another address": (net) => ({ path: "/test/finalize/", ip: `10.${net}.0.2` }),
      "another tenant": (net) => ({
        path: "/test/finalize/",
        ip: `10.${net}.0.1`,
        tenant: beta.subdomain,
      }),
    },
  },
  {
    name: "refresh: by address",
    scope: "refresh",
    call: (_, net) => ({ path: "/test/refresh/", ip: `10.${net}.0.1` }),
    others: {
      "another address": (net) => ({ path: "/test/refresh/", ip: `10.${net}.0.2` }),
      "another scope": (net) => ({ path: "/test/finalize/", ip: `10.${net}.0.1` }),
    },
  },
];

const NUMBERED = RULES.map((rule, index) => ({ ...rule, net: index + 1 }));

describe("a limit of 3 an hour", () => {
  test.each(NUMBERED)("$name", async ({ scope, call, others, net }) => {
    const app = await limitedTo({ [scope]: 3 });
    const allowed = [];
    for (let index = 0; index < 3; index += 1) allowed.push(await send(app, call(index, net)));
    const refused = await send(app, call(3, net));

    for (const [index, { status, headers }] of allowed.entries()) {
      expect(status).not.toBe(429);
      expect(headers).toMatchObject({
        "ratelimit-limit": "3",
        "ratelimit-remaining": String(2 - index),
      });
      expect(headers).not.toHaveProperty("retry-after");
    }
    expect(refused.status).toBe(429);
    expect(refused.headers).toMatchObject({
      "content-type": "application/problem+json",
      "ratelimit-limit": "3",
      "ratelimit-remaining": "0",
      "ratelimit-reset": refused.headers["retry-after"],
    });
    const retryAfter = Number(refused.headers["retry-after"]);
    expect(retryAfter).toBeGreaterThan(3_500);
    expect(retryAfter).toBeLessThanOrEqual(3_600);
    expect(refused.body).toMatchObject({ status: 429, code: "rate_limited" });

    for (const [difference, make] of Object.entries(others)) {
      const { status } = await send(app, make(net));
      expect({ difference, isRefused: status === 429 }).toEqual({ difference, isRefused: false });
    }
    expect((await send(app, call(4, net))).status).toBe(429);
  });

  test("rejections are counted by scope", async () => {
    const app = await limitedTo({ refresh: 1, finalize: 1 });
    const call = { path: "/test/both/", ip: "10.250.0.1" };

    expect(await statuses(app, [call, call, call])).toEqual([200, 429, 429]);
    const { values } = await app.services.metrics.rateLimitRejections.get();
    expect(values).toEqual([{ labels: { scope: "finalize" }, value: 2 }]);
  });
});

describe("a limit of 3 in two seconds", () => {
  test.concurrent.each(NUMBERED)("$name: again, when they are over", async (rule) => {
    const { scope, call, net } = rule;
    const app = await limitedTo({ [scope]: 3 }, { windowMs: 2_000 });
    // Whoever shares the machine may take the first two seconds.
    await vi.waitFor(async () => {
      expect(
        await statuses(
          app,
          times(4, (index) => call(index, net)),
        ),
      ).toContain(429);
    });

    await vi.waitFor(async () => expect((await send(app, call(0, net))).status).not.toBe(429), {
      timeout: 10_000,
      interval: 100,
    });
  });
});

describe("a limit that is off", () => {
  test.each(NUMBERED)("$name: lets everything through and tells nothing", async (rule) => {
    const app = await limitedTo({});
    for (let index = 0; index < 10; index += 1) {
      const { status, headers } = await send(app, rule.call(index, rule.net));
      expect(status).not.toBe(429);
      expect(Object.keys(headers).filter((name) => name.startsWith("ratelimit"))).toEqual([]);
    }
  });
});
