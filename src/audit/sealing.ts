import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { Services } from "../services.ts";
import { isSafeMethod } from "../methods.ts";

/** Methods that change nothing (RFC 9110 §9.2.1), and so write no entry. */
/** Tells the sealer of every request that may have written to a tenant's logs. */
export const sealingPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    app.addHook("onResponse", async (request) => {
      // Before a tenant is found there is nothing to write to.
      if (isSafeMethod(request.method) || !request.tenantInfo) return;
      services.logSealer.mark(request.tenantInfo.id);
    });
  },
);
