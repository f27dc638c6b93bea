import type { FastifyInstance, RouteOptions } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { AppError } from "../errors.ts";

/** Who may call a route. */
export type Guard =
  /** Anybody. */
  | "public"
  /** Whoever is logged in. */
  | "authenticated"
  /** The tenant's own admins. */
  | "tenant-admin";

declare module "fastify" {
  interface FastifyContextConfig {
    guard?: Guard;
  }
}

const GUARDS: readonly unknown[] = ["public", "authenticated", "tenant-admin"] satisfies Guard[];

/**
 * Every route says who may call it, in `config.guard`; one that does not stops the boot. Guards are
 * enforced here, so that a route cannot declare one and forget to ask for it.
 */
export const guardPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  const routes: RouteOptions[] = [];
  app.addHook("onRoute", (route) => {
    // The answer to preflights, which @fastify/cors registers: it looks nothing up.
    if (route.method === "OPTIONS" && route.url === "*") return;
    routes.push(route);
  });
  app.addHook("onReady", async () => {
    const unguarded = routes.filter(({ config }) => !GUARDS.includes(config?.guard));
    if (unguarded.length > 0) {
      const names = unguarded.map(({ method, url }) => `${String(method)} ${url}`).join(", ");
      throw new Error(`Routes without a guard (config.guard): ${names}`);
    }
  });
});

/** Enforces the declared guards; registered where tenants are known. */
export const guardEnforcementPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  app.addHook("onRequest", async (request, reply) => {
    const guard = request.routeOptions.config.guard;
    if (guard === "public") return;
    try {
      await app.authenticate(request);
    } catch (error) {
      // Without a token that is accepted a caller is anybody, who may not try for ever.
      const isRefused = error instanceof AppError && error.statusCode < 500;
      if (isRefused) await app.limits.countAnonymous(request, reply);
      throw error;
    }
    await app.limits.countUser(request, reply);
    if (guard === "tenant-admin" && !request.principal.isTenantAdmin) {
      throw new AppError("permission_denied", "Only an admin of this tenant may do this.");
    }
  });
});
