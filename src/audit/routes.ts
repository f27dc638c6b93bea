import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { Services } from "../services.ts";
import { logRoutes } from "./logs.routes.ts";
import { notificationRoutes } from "./notifications.routes.ts";
import { verificationRoutes } from "./verification.routes.ts";

/** What was done, whether the record of it is whole, and what concerns the caller. */
export const auditRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  await app.register(logRoutes);
  await app.register(notificationRoutes, { prefix: "/notifications" });
  await app.register(verificationRoutes, { prefix: "/verify", services });
};
