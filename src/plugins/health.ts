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
        const isBehind = await isFleetBehind(services.database.registry.query, version);
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
