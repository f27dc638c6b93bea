import cors from "@fastify/cors";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import { isSafeMethod } from "../methods.ts";
import { type ContentSecurityPolicy, securityHeaders } from "./security-headers.ts";
import { isName } from "./tenant.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Of a route that answers a page; any other answers nothing that a browser could run. */
    contentSecurityPolicy?: ContentSecurityPolicy;
  }
}

/** Answers of the API that a page of another origin may read besides the body. */
const EXPOSED_HEADERS = [
  "retry-after",
  "ratelimit-limit",
  "ratelimit-remaining",
  "ratelimit-reset",
  "x-request-id",
  "etag",
];

/** How long a browser remembers a preflight's answer: Chromium's upper bound. */
const PREFLIGHT_AGE_SECONDS = 7_200;

/** Paths that load balancers and monitors ask for under whatever name they know the host. */
const PROBES: ReadonlySet<string> = new Set(["/healthz", "/readyz", "/metrics"]);

/** Whether a request's address is one of these, in whatever way it is written that finds the route. */
export function isProbe(url: string): boolean {
  return PROBES.has(url.split("?")[0]?.replace(/\/+$/, "") ?? "");
}

/**
 * Paths for which no preflight allows another origin anything. Their routes turn CORS off themselves
 * (`config.cors`): a path can be written in more than one way, a route is what was found.
 */
const SAME_ORIGIN_PREFIX = "/dev/";

/**
 * What browsers are told and which requests are refused before anything is looked up: hosts and
 * origins of strangers in production, plain HTTP behind a proxy that could have used TLS.
 */
export const securityPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    const { config, directory } = services;
    const isProduction = config.appEnv === "production";

    const common = securityHeaders(isProduction);
    const own = new Map<ContentSecurityPolicy, Readonly<Record<string, string>>>();
    app.addHook("onRoute", ({ config: route }) => {
      const policy = route?.contentSecurityPolicy;
      if (policy) own.set(policy, securityHeaders(isProduction, policy));
    });
    app.addHook("onRequest", (request, reply, done) => {
      const policy = request.routeOptions.config.contentSecurityPolicy;
      reply.headers((policy && own.get(policy)) ?? common).header("x-request-id", request.id);
      done();
    });
    if (isProduction) app.addHook("onRequest", refuseStrangers);

    async function refuseStrangers(
      request: FastifyRequest,
      reply: FastifyReply,
    ): Promise<FastifyReply | undefined> {
      if (isProbe(request.url)) return undefined;
      const host = request.hostname.toLowerCase();
      if (!(await isHostAllowed(host))) {
        throw new AppError("bad_host", "This host name is not served here.");
      }
      if (isProxied(request) && request.protocol !== "https") {
        return reply.code(308).header("location", `https://${request.host}${request.url}`).send();
      }
      const { origin } = request.headers;
      if (origin !== undefined && !isSafeMethod(request.method) && !isOriginTrusted(origin, host)) {
        throw new AppError("origin_refused", "Requests from this origin are refused.");
      }
      return undefined;
    }

    async function isHostAllowed(host: string): Promise<boolean> {
      if (!isName(host)) return false;
      if (config.allowedHosts?.includes(host)) return true;
      if (host.endsWith(`.${config.tenantBaseDomain}`)) {
        const subdomain = host.slice(0, -(config.tenantBaseDomain.length + 1));
        return (await directory.findBySubdomain(subdomain)) !== undefined;
      }
      return (await directory.findByDomain(host)) !== undefined;
    }

    function isOriginTrusted(origin: string, host: string): boolean {
      return (
        origin === `https://${host}` ||
        (config.corsAllowedOrigins?.includes(origin) ?? true) ||
        config.csrfTrustedOrigins.includes(origin)
      );
    }

    app.addHook("onRequest", (request, reply, done) => {
      if (request.method === "OPTIONS" && request.url.startsWith(SAME_ORIGIN_PREFIX)) {
        reply.callNotFound();
      } else {
        done();
      }
    });
    await app.register(cors, {
      origin: config.corsAllowedOrigins?.slice() ?? true,
      // OPTIONS without an origin asks for nothing, and is answered like one.
      strictPreflight: false,
      methods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
      allowedHeaders: ["authorization", "content-type", "x-tenant"],
      exposedHeaders: EXPOSED_HEADERS,
      maxAge: PREFLIGHT_AGE_SECONDS,
      // Tokens travel in a header; no cookie is set or read.
      credentials: false,
    });
  },
);

/** Whether a trusted proxy handed the request on: it can offer TLS, and says whether it was used. */
function isProxied(request: FastifyRequest): boolean {
  // Of TRUSTED_PROXIES, the socket's own address first; a second one was taken from such a proxy.
  return (request.ips?.length ?? 0) > 1;
}
