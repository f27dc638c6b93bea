import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { Services } from "../services.ts";
import { operatorAuthenticationPlugin } from "./authentication.ts";
import type { Platform } from "./context.ts";
import { platformDomainRoutes } from "./domains.routes.ts";
import { operatorLoginRoutes } from "./login.routes.ts";
import { platformTenantRoutes } from "./tenants.routes.ts";

/** What operators do over REST: outside any tenant, with users, keys and tokens of their own. */
export const platformRoutes: FastifyPluginAsyncZod<{
  services: Services;
  platform: Platform;
}> = async (app, { services, platform }) => {
  // Without the prefix, which is not to be put in front twice.
  const options = { services, platform };
  await app.register(operatorAuthenticationPlugin, options);
  await app.register(operatorLoginRoutes, options);
  await app.register(platformTenantRoutes, options);
  await app.register(platformDomainRoutes, options);
};
