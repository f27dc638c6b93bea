import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { AppError } from "../errors.ts";
import { EventLoopLag } from "../event-loop-lag.ts";
import type { Services } from "../services.ts";
import { isProbe } from "./security.ts";
import { TenantPlaces, type Visit } from "./tenant-places.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Its place among its tenant's, until it is answered. */
    visit: Visit | undefined;
  }
}

/**
 * Refuses requests with 503 while this process is so far behind that answers would come too late to be of use,
 * before anything is done for them. Probes are answered: a slow process is not a dead one.
 */
export const processOverloadPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services: { config, metrics } }) => {
    if (config.eventLoopLagMs === 0) return;
    const lag = new EventLoopLag();
    app.addHook("onReady", (done) => {
      lag.start();
      done();
    });
    app.addHook("onClose", () => lag.stop());
    app.addHook("onRequest", (request, _reply, done) => {
      if (lag.milliseconds <= config.eventLoopLagMs || isProbe(request.url)) {
        done();
        return;
      }
      metrics.shedRequests.inc({ because: "process" });
      const detail = "The service is busy. Try again in a moment.";
      done(new AppError("overloaded", detail, { retryAfterSeconds: 1 }));
    });
  },
);

/** One for all: it says the same to everybody, and a stack of its own is the dearest part of it. */
const TENANT_IS_BUSY = new AppError(
  "overloaded",
  "Too many requests of this tenant are under way. Try again in a moment.",
  { retryAfterSeconds: 1 },
);

/**
 * Lets a tenant have so many requests under way: whoever sends more than is answered waits for themselves, not in
 * front of the others. Registered where tenants are known.
 *
 * Requests to public routes are counted apart: a flood of logins, which anybody can send, takes no place of those who
 * are logged in.
 */
export const tenantOverloadPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services: { config, metrics } }) => {
    const places = new TenantPlaces(config.tenantConcurrentRequests);
    app.decorateRequest("visit", undefined);

    app.addHook("onRequest", (request, reply, done) => {
      const { id } = request.tenantInfo;
      const isPublic = request.routeOptions.config.guard === "public";
      const refuse = () => {
        metrics.shedRequests.inc({ because: "tenant" });
        done(TENANT_IS_BUSY);
      };
      const visit = places.enter(isPublic ? -id : id, (isAdmitted) => {
        if (isAdmitted) done();
        else refuse();
      });
      request.visit = visit;
      // Whoever hangs up before the answer leaves, too.
      reply.raw.once("close", () => leave(request));
      if (visit.answer === "admitted") done();
      else if (visit.answer === "refused") refuse();
    });
    app.addHook("onSend", (request, _reply, _payload, done) => {
      leave(request);
      done();
    });
  },
);

function leave(request: FastifyRequest): void {
  const { visit } = request;
  request.visit = undefined;
  visit?.leave();
}
