import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { AppError } from "../errors.ts";
import { EventLoopLag } from "../event-loop-lag.ts";
import type { Services } from "../services.ts";
import { isProbe } from "./security.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Gives the request's place among its tenant's back, once. */
    leaveTenant: (() => void) | undefined;
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

/**
 * Refuses requests of a tenant that has as many under way as one may: whoever sends more than is answered waits for
 * themselves, not in front of the others. Registered where tenants are known.
 */
export const tenantOverloadPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services: { config, metrics } }) => {
    /** Requests under way, by tenant; only of those that have some. */
    const underWay = new Map<number, number>();
    app.decorateRequest("leaveTenant", undefined);

    app.addHook("onRequest", (request, reply, done) => {
      const { id } = request.tenantInfo;
      const others = underWay.get(id) ?? 0;
      if (others >= config.tenantConcurrentRequests) {
        metrics.shedRequests.inc({ because: "tenant" });
        const detail = "Too many requests of this tenant are under way. Try again in a moment.";
        done(new AppError("overloaded", detail, { retryAfterSeconds: 1 }));
        return;
      }
      underWay.set(id, others + 1);
      request.leaveTenant = () => {
        const left = (underWay.get(id) ?? 1) - 1;
        if (left > 0) underWay.set(id, left);
        else underWay.delete(id);
      };
      // Whoever hangs up before the answer leaves, too.
      reply.raw.once("close", () => leave(request));
      done();
    });
    app.addHook("onSend", (request, _reply, _payload, done) => {
      leave(request);
      done();
    });
  },
);

function leave(request: FastifyRequest): void {
  request.leaveTenant?.();
  request.leaveTenant = undefined;
}
