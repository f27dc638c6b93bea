import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { isEqual, sha256 } from "../keys.ts";
import type { Services } from "../services.ts";
import { METRICS_SCHEME } from "./openapi-components.ts";
import { problems } from "./openapi.ts";

const Figures = z.string().meta({
  examples: ["# TYPE ouvira_shed_requests_total counter\nouvira_shed_requests_total 0\n"],
});

/** A scheme's name may be written in any case (RFC 9110 §11.1). */
const BEARER = /^Bearer (.+)$/i;

/**
 * What monitors read. Outside any tenant. In production it does not exist without METRICS_TOKEN:
 * how much is logged in and refused is nobody's business but the operator's.
 */
export const metricsRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services: { config, metrics } },
) => {
  if (config.appEnv === "production" && config.metricsToken === undefined) return;
  // Hashed, so that what is compared has one length whatever was sent.
  const expected = config.metricsToken === undefined ? undefined : sha256(config.metricsToken);

  app.get(
    "/metrics",
    {
      config: { guard: "public" },
      schema: {
        operationId: "getMetrics",
        tags: ["Service"],
        summary: "Get figures for monitors",
        description:
          "In Prometheus' text format. Where METRICS_TOKEN is set it is sent as `Authorization: Bearer <token>`; in production the path does not exist without it.",
        produces: ["text/plain"],
        // Where there is no such token, none is asked for.
        ...(expected ? { security: [{ [METRICS_SCHEME]: [] }] } : {}),
        response: { 200: Figures, ...problems("authentication_required") },
      },
    },
    async (request, reply) => {
      const token = BEARER.exec(request.headers.authorization ?? "")?.[1] ?? "";
      if (expected && !isEqual(sha256(token), expected)) {
        throw new AppError("authentication_required", "Send the token of METRICS_TOKEN.");
      }
      return reply
        .type(metrics.registry.contentType)
        .header("cache-control", "no-store")
        .send(await metrics.registry.metrics());
    },
  );
};
