import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { pino } from "pino";
import type { Principal } from "../auth/principals.ts";
import { addressOf } from "../networks.ts";
import type { Services } from "../services.ts";
import type { Tenant } from "../tenants/directory.ts";

/**
 * One line of the log for each request when it is answered, and its part in the figures for monitors. Route and
 * tenant are what was found, not what was sent: the log has no text of a caller's but the address.
 */
export const observabilityPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services: { metrics } }) => {
    // Beside the service's logger, which searches what it is given for secrets, in a tenth of a request's
    // time: nothing goes into this line but what stands below.
    const log = pino(
      { level: app.log.level, base: { pid: process.pid } },
      Reflect.get(app.log, pino.symbols.streamSym),
    );
    app.addHook("onResponse", (request, reply, done) => {
      const { method } = request;
      // Undefined where no route was found: what was sent instead is anybody's text.
      const route = request.routeOptions.url ?? "none";
      const duration = reply.elapsedTime;
      const status = reply.statusCode;
      const tenant = (request.tenantInfo as Tenant | undefined)?.subdomain;
      metrics.countRequest({ method, route, status, tenant }, duration);
      log.info(
        {
          request_id: request.id,
          method,
          route,
          status,
          duration_ms: Math.round(duration * 100) / 100,
          tenant,
          user: (request.principal as Principal | undefined)?.userId,
          ip: addressOf(request.ip, request.socket.remoteAddress),
        },
        "request completed",
      );
      done();
    });
  },
);
