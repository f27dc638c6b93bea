import type { FastifyInstance } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Config, RateLimitScope } from "../src/config.ts";
import { authenticationPlugin } from "../src/plugins/authentication.ts";
import { guardEnforcementPlugin } from "../src/plugins/guards.ts";
import { rateLimitEnforcementPlugin } from "../src/plugins/rate-limits.ts";
import { tenantPlugin } from "../src/plugins/tenant.ts";
import type { Services } from "../src/services.ts";
import type { TestApp, TestTenant } from "./app.ts";

/** Every limit turned off: tests turn on those they are about. */
export const NO_LIMITS: Config["rateLimits"] = {
  anonymous: undefined,
  authenticated: undefined,
  login: undefined,
  otpSend: undefined,
  otpVerify: undefined,
  finalize: undefined,
  refresh: undefined,
};

const HOUR_MS = 3_600_000;

export interface LimitOptions {
  readonly windowMs?: number;
  readonly trustedProxies?: readonly string[];
}

/** Starts processes on the database of `base`, each with the limits of its counts and no others. */
export function limitedReplicas(base: () => TestApp) {
  const started = new Map<string, Promise<TestApp>>();
  return (
    counts: Partial<Record<RateLimitScope, number>>,
    { windowMs = HOUR_MS, trustedProxies = [] }: LimitOptions = {},
  ): Promise<TestApp> => {
    const name = JSON.stringify([counts, windowMs, trustedProxies]);
    const known = started.get(name);
    if (known) return known;
    const limits = Object.entries(counts).map(([scope, count]) => [scope, { count, windowMs }]);
    const replica = base().startReplica({
      config: { rateLimits: { ...NO_LIMITS, ...Object.fromEntries(limits) }, trustedProxies },
      prepare: (app) => addLimitedRoutes(app, base().services),
    });
    started.set(name, replica);
    return replica;
  };
}

/** Routes as a domain declares them, without what a domain does. */
const limitedRoutes: FastifyPluginAsyncZod = async (app) => {
  const open = { guard: "public" } as const;
  const phone = { schema: { body: z.strictObject({ primary_mobile: z.string().min(5) }) } };
  const session = { schema: { body: z.strictObject({ session_id: z.string() }) } };
  const identifier = { schema: { body: z.strictObject({ identifier: z.string().min(3) }) } };
  const answer = () => ({});

  app.post("/open/", { config: open }, answer);
  app.post("/broken/", { config: open }, () => {
    throw new Error("A bug");
  });
  app.get("/own/", { config: { guard: "authenticated" } }, answer);
  app.post("/login/", { config: { ...open, limits: ["login"] }, ...identifier }, answer);
  app.post("/send/", { config: { ...open, limits: ["otpSend"] }, ...phone }, answer);
  app.post("/resend/", { config: { ...open, limits: ["otpSend"] }, ...session }, answer);
  app.post("/verify/", { config: { ...open, limits: ["otpVerify"] }, ...phone }, answer);
  app.post("/2fa/", { config: { ...open, limits: ["otpVerify"] }, ...session }, answer);
  app.post("/own-2fa/", { config: { guard: "authenticated", limits: ["otpVerify"] } }, answer);
  app.post("/own-send/", { config: { guard: "authenticated", limits: ["otpSend"] } }, answer);
  app.post("/finalize/", { config: { ...open, limits: ["finalize"] } }, answer);
  app.post("/refresh/", { config: { ...open, limits: ["refresh"] } }, answer);
  app.post("/both/", { config: { ...open, limits: ["finalize", "refresh"] } }, answer);
  app.post("/nobody/", { config: { ...open, limits: ["otpVerify"] } }, answer);
};

/** Adds routes with limits below `/test/`, behind the same hooks as the API's. */
export async function addLimitedRoutes(app: FastifyInstance, services: Services): Promise<void> {
  await app.register(
    async (api) => {
      await api.register(tenantPlugin, { services });
      await api.register(rateLimitEnforcementPlugin);
      await api.register(authenticationPlugin, { services });
      await api.register(guardEnforcementPlugin);
      await api.register(limitedRoutes);
    },
    { prefix: "/test" },
  );
}

/** One request to such a route. */
export interface Call {
  readonly path: string;
  readonly body?: object;
  readonly ip: string;
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The tenant that is named, if it is not that of the others. */
  readonly tenant?: string;
}

/** Makes calls to one process as one tenant. */
export function caller({ app }: TestApp, tenant: TestTenant) {
  const send = async ({ path, body, ip, token, headers, tenant: named }: Call) => {
    const response = await app.inject({
      method: path === "/test/own/" ? "GET" : "POST",
      url: path,
      headers: {
        "x-tenant": named ?? tenant.subdomain,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      remoteAddress: ip,
      ...(body === undefined ? {} : { body }),
    });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: response.json<unknown>(),
    };
  };
  return {
    send,
    /** The statuses of calls made one after the other. */
    statuses: async (calls: readonly Call[]): Promise<number[]> => {
      const answers: number[] = [];
      for (const call of calls) answers.push((await send(call)).status);
      return answers;
    },
    /** The statuses of calls made at once. */
    burst: async (calls: readonly Call[]): Promise<number[]> => {
      const answers = await Promise.all(calls.map(send));
      return answers.map(({ status }) => status);
    },
  };
}

export function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}
