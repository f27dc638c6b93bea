import rateLimit from "@fastify/rate-limit";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { RateLimit, RateLimitScope } from "../config.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import type { Tenant } from "../tenants/directory.ts";
import { loginKey, networkKey, otpSendKey, otpVerifyKey, userKey } from "./rate-limit-keys.ts";
import { rateLimitStore } from "./rate-limit-store.ts";

/**
 * A limit that a route declares, besides those of every route: `config: { guard, limits: ["login"] }`.
 *
 * - `login`: by network; by the body's `identifier` and part of the network
 * - `otpSend`: by network; by whom the code goes to and part of the network: the user of a guarded
 *   route, else the body's `primary_mobile` or `session_id`
 * - `otpVerify`: by whose code is tried: user, `session_id`, or `primary_mobile` and part of the network
 * - `finalize`, `refresh`: by network
 */
export type RouteLimit = Exclude<RateLimitScope, "anonymous" | "authenticated">;

/** What a limit answered to one request. */
interface LimitState {
  readonly max: number;
  readonly remaining: number;
  readonly ttlInSeconds: number;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Counted on this route besides what is counted on every one. */
    limits?: readonly RouteLimit[];
  }
  interface FastifyInstance {
    limits: Limits;
  }
  interface FastifyRequest {
    /** The limit with the fewest requests left, of those met so far. */
    strictestLimit: LimitState | undefined;
  }
}

/** Counts requests where it is known who calls. Each call sets the headers that tell clients. */
export interface Limits {
  /** Whether limits should be counted for several processes and are not, because Redis is away. */
  readonly isDegraded: boolean;
  /** @throws AppError `rate_limited` when the caller's network has had its anonymous requests */
  countAnonymous(request: FastifyRequest, reply: FastifyReply): Promise<void>;
  /** @throws AppError `rate_limited` when the user has had their requests */
  countUser(request: FastifyRequest, reply: FastifyReply): Promise<void>;
  /** What the route declares, as far as the address says it. @throws AppError `rate_limited` */
  countByNetwork(request: FastifyRequest, reply: FastifyReply): Promise<void>;
  /** What the route declares, as far as the valid body says it. @throws AppError `rate_limited` */
  countBySubject(request: FastifyRequest, reply: FastifyReply): Promise<void>;
}

type Limiter = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Makes the limits and connects what they are counted in. They are enforced where tenants are known. */
export const rateLimitPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    const { config, keys, metrics } = services;
    const redis = config.redisUrl === undefined ? undefined : await countersIn(config.redisUrl);
    if (redis) {
      app.addHook("onClose", () => redis.close());
      await redis.open();
    }
    const store = rateLimitStore(redis, () => metrics.rateLimitFallbacks.inc());
    await app.register(rateLimit, { global: false, store });
    app.decorateRequest("strictestLimit");

    async function countersIn(url: string) {
      // Its driver is loaded where there is a Redis.
      const { RedisCounters } = await import("./redis-counters.ts");
      return new RedisCounters(url, app.log);
    }

    /** One limit, the tenant's own where it has one; nothing at all where it is turned off. */
    function limiter(
      scope: RateLimitScope,
      keyGenerator: (request: FastifyRequest) => string,
    ): Limiter {
      const configured = config.rateLimits[scope];
      const common = configured && makeCheck(configured, keyGenerator);
      const own = ownChecks(keyGenerator);
      return async (request, reply) => {
        const check = own(scope, request) ?? common;
        if (!check || check === "off") return;
        const state = await check(request);
        // Only of an allow-list, and there is none.
        if (state.isAllowed) return;
        tellClient(request, reply, state);
        if (!state.isExceeded) return;
        metrics.rateLimitRejections.inc({ scope });
        throw new AppError("rate_limited", "Too many requests. Try again later.", {
          retryAfterSeconds: secondsOf(state),
        });
      };
    }
    function makeCheck(
      { count: max, windowMs: timeWindow }: RateLimit,
      keyGenerator: (request: FastifyRequest) => string,
    ) {
      return app.createRateLimit({ max, timeWindow, keyGenerator });
    }

    /** Checks of limits that tenants have for themselves, each made once. */
    function ownChecks(keyGenerator: (request: FastifyRequest) => string) {
      const checks = new Map<string, ReturnType<typeof makeCheck>>();
      return (scope: RateLimitScope, request: FastifyRequest) => {
        // Undefined outside of tenants, and for a tenant that there is not.
        const tenant: Tenant | undefined = request.tenantInfo;
        const limit = tenant?.rateLimits[scope];
        if (limit === undefined) return undefined;
        if (limit === null) return "off";
        const name = `${limit.count}/${limit.windowMs}`;
        const known = checks.get(name);
        if (known) return known;
        // Counted apart: what was counted in the window of another limit says nothing of this one.
        const check = makeCheck(limit, (asked) => `${keyGenerator(asked)}:own:${limit.windowMs}`);
        checks.set(name, check);
        return check;
      };
    }
    const byNetwork = (scope: RateLimitScope) =>
      limiter(scope, (request) => networkKey(scope, request));

    const anonymous = byNetwork("anonymous");
    const authenticated = limiter("authenticated", (request) => userKey("authenticated", request));
    const networkLimiters: Partial<Record<RouteLimit, Limiter>> = {
      login: byNetwork("login"),
      otpSend: byNetwork("otpSend"),
      finalize: byNetwork("finalize"),
      refresh: byNetwork("refresh"),
    };
    const subjectLimiters: Partial<Record<RouteLimit, Limiter>> = {
      login: limiter("login", (request) => loginKey(keys, request)),
      otpSend: limiter("otpSend", (request) => otpSendKey(keys, request)),
      otpVerify: limiter("otpVerify", (request) => otpVerifyKey(keys, request)),
    };
    /** One after the other: what the first refuses is not counted by the second. */
    const countDeclared =
      (limiters: Partial<Record<RouteLimit, Limiter>>): Limiter =>
      async (request, reply) => {
        for (const scope of request.routeOptions.config.limits ?? []) {
          await limiters[scope]?.(request, reply);
        }
      };
    app.decorate("limits", {
      get isDegraded() {
        return redis !== undefined && !redis.isAnswering;
      },
      countAnonymous: anonymous,
      countUser: authenticated,
      countByNetwork: countDeclared(networkLimiters),
      countBySubject: countDeclared(subjectLimiters),
    });
  },
  { name: "limits" },
);

/**
 * Counts, before anything is asked of the database, what an address alone says; and when the body is
 * valid, what it says. Registered where tenants are known, before the guards.
 */
export const rateLimitEnforcementPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  app.addHook("onRequest", async (request, reply) => {
    // Behind a guard, or where a refresh token is shown, it is not known yet who calls: guards and the
    // refresh count those whose token they refuse. An office whose tokens are refreshed all day does
    // not use up what its newcomers may ask.
    const { guard, limits } = request.routeOptions.config;
    const showsToken = guard !== "public" || limits?.includes("refresh");
    if (!showsToken) await app.limits.countAnonymous(request, reply);
    if (limits) await app.limits.countByNetwork(request, reply);
  });
  app.addHook("preHandler", (request, reply, done) => {
    if (!request.routeOptions.config.limits) done();
    else app.limits.countBySubject(request, reply).then(() => done(), done);
  });
});

/** Headers of draft-ietf-httpapi-ratelimit-headers-07 of the limit that the caller meets first. */
function tellClient(
  request: FastifyRequest,
  reply: FastifyReply,
  state: LimitState & { isExceeded: boolean },
): void {
  const known = request.strictestLimit;
  const isStricter =
    !known ||
    state.isExceeded ||
    state.remaining < known.remaining ||
    (state.remaining === known.remaining && state.ttlInSeconds > known.ttlInSeconds);
  if (!isStricter) return;
  request.strictestLimit = state;
  reply.header("ratelimit-limit", state.max);
  reply.header("ratelimit-remaining", state.remaining);
  reply.header("ratelimit-reset", secondsOf(state));
}

/** Whole seconds until the window has ended: never a moment before. */
function secondsOf({ ttlInSeconds }: LimitState): number {
  return Math.max(1, ttlInSeconds);
}
