import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { Services } from "../services.ts";

/** Methods that change nothing (RFC 9110 §9.2.1), and so write no entry. */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/** Tells the sealer of every request that may have written to a tenant's logs. */
export const sealingPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    app.addHook("onResponse", async (request) => {
      // Before a tenant is found there is nothing to write to.
      if (SAFE_METHODS.has(request.method) || !request.tenantInfo) return;
      services.logSealer.mark(request.tenantInfo.id);
    });
  },
);
