import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { logRoutes } from "./logs.routes.ts";
import { notificationRoutes } from "./notifications.routes.ts";

/** What was done, and what concerns the caller. */
export const auditRoutes: FastifyPluginAsyncZod = async (app) => {
  await app.register(logRoutes);
  await app.register(notificationRoutes, { prefix: "/notifications" });
};
