import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import { problems } from "./openapi.ts";

const Status = z.object({ status: z.literal("ok") });
const Readiness = z.object({
  status: z.enum(["ok", "degraded"]).meta({
    description:
      "`degraded` while Redis cannot be reached: every process then counts limits by itself.",
  }),
});

/** What load balancers and monitors ask for. Outside any tenant. */
export const healthRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const tags = ["Service"];

  app.get(
    "/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "getRoot",
        tags,
        summary: "The service answers",
        response: { 200: Status },
      },
    },
    () => ({ status: "ok" as const }),
  );

  app.get(
    "/healthz",
    {
      config: { guard: "public" },
      schema: {
        operationId: "getHealth",
        tags,
        summary: "The process is alive",
        response: { 200: Status },
      },
    },
    () => ({ status: "ok" as const }),
  );

  app.get(
    "/readyz",
    {
      config: { guard: "public" },
      schema: {
        operationId: "getReadiness",
        tags,
        summary: "The service can do its work",
        description:
          "503 `not_ready` while the database cannot be reached or its registry is not migrated.",
        response: { 200: Readiness, ...problems("not_ready") },
      },
    },
    async () => {
      try {
        await services.database.registry.query`select 1 from public.tenants limit 1`;
      } catch (error) {
        throw new AppError("not_ready", "The database is not ready.", {
          cause: error,
          retryAfterSeconds: 1,
        });
      }
      return { status: app.limits.isDegraded ? ("degraded" as const) : ("ok" as const) };
    },
  );
};
