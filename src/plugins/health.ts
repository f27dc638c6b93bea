import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { loadTenantMigrations, newestVersion } from "../db/tenant-migrations.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import { isFleetBehind } from "../tenants/fleet-status.ts";
import { problems } from "./openapi.ts";

const Status = z.object({ status: z.literal("ok") });
const Readiness = z.object({
  fleet: z.enum(["current", "behind"]).meta({
    description:
      "`behind` while some tenant's schema is not of this release: it is answered as before, or with 503 `not_ready` where the code needs the newer one.",
  }),
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
  const version = newestVersion(await loadTenantMigrations());

  app.get(
    "/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "getRoot",
        tags,
        summary: "See whether the service answers",
        description: "For whoever opens the address: says that there is a service, and no more.",
        response: { 200: Status, ...problems("bad_host", "headers_too_large") },
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
        summary: "See whether the process is alive",
        description:
          "For whoever restarts processes: it asks nobody, so that an outage of the database restarts nothing.",
        response: { 200: Status, ...problems("headers_too_large") },
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
        summary: "See whether the service can do its work",
        description:
          "For load balancers. 503 `not_ready` while the database cannot be reached or its registry is not migrated.",
        response: { 200: Readiness, ...problems("not_ready", "headers_too_large") },
      },
    },
    async (_request, reply) => {
      try {
        const isBehind = await isFleetBehind(services.database.registry.query, version);
        // The first answer of a start: what writes it as its schema says would have to be compiled for it.
        reply.type("application/json; charset=utf-8").serializer(JSON.stringify);
        return {
          status: app.limits.isDegraded ? ("degraded" as const) : ("ok" as const),
          fleet: isBehind ? ("behind" as const) : ("current" as const),
        };
      } catch (error) {
        throw new AppError("not_ready", "The database is not ready.", {
          cause: error,
          retryAfterSeconds: 1,
        });
      }
    },
  );
};
