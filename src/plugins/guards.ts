import type { FastifyInstance, FastifyRequest, RouteOptions } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { PermissionCode } from "../access-control/catalogue.ts";
import { type Actor, makeActor } from "../audit/actor.ts";
import type { Principal } from "../auth/principals.ts";
import { AppError } from "../errors.ts";
import { clientOf } from "./authentication.ts";
import { isSafeMethod } from "../methods.ts";

/** Who may call a route. */
export type Guard =
  /** Anybody. */
  | "public"
  /** Whoever is logged in. */
  | "authenticated"
  /** Whoever is logged in, about their own account: an operator has none here. */
  | "own-account"
  /** The tenant's own admins. */
  | "tenant-admin"
  /** Operators of the platform. Below `/api/platform/` only. */
  | "operator"
  /** Operators, whether or not they have turned their second factor on. */
  | "operator-setup"
  /** Whoever has this permission in the company of the row that is touched. */
  | PermissionCode;

declare module "fastify" {
  interface FastifyContextConfig {
    guard?: Guard;
  }
  interface FastifyRequest {
    /** Who is calling, as functions that change something ask for it. Not behind `public`. */
    actor: Actor;
  }
}

const PLAIN_GUARDS: readonly unknown[] = [
  "public",
  "authenticated",
  "own-account",
  "tenant-admin",
  "operator",
  "operator-setup",
] satisfies Guard[];

/**
 * Every route says who may call it, in `config.guard`; one that does not, or that names a permission
 * that is not declared, stops the boot. So does a permission that no route asks for.
 */
export const guardPlugin = fastifyPlugin<{ permissions: readonly string[] }>(
  async (app: FastifyInstance, { permissions }) => {
    const routes: RouteOptions[] = [];
    app.addHook("onRoute", (route) => {
      // The answer to preflights, which @fastify/cors registers: it looks nothing up.
      if (route.method === "OPTIONS" && route.url === "*") return;
      routes.push(route);
    });
    app.addHook("onReady", async () => {
      const isGuard = (guard: unknown) =>
        PLAIN_GUARDS.includes(guard) || (typeof guard === "string" && permissions.includes(guard));
      const unguarded = routes.filter(({ config }) => !isGuard(config?.guard));
      if (unguarded.length > 0) {
        const names = unguarded.map(
          ({ method, url, config }) => `${String(method)} ${url} (${String(config?.guard)})`,
        );
        throw new Error(`Routes without a known guard (config.guard): ${names.join(", ")}`);
      }
      const guards = new Set<unknown>(routes.map(({ config }) => config?.guard));
      const unused = permissions.filter((permission) => !guards.has(permission));
      if (unused.length > 0) {
        throw new Error(`Permissions that no route asks for: ${unused.join(", ")}`);
      }
    });
  },
);

/** @throws AppError `permission_denied` for what an operator may not do in a tenant */
function requireSupportFor(
  { method, routeOptions }: FastifyRequest,
  { canWrite }: NonNullable<Principal["support"]>,
): void {
  if (routeOptions.config.guard === "own-account") {
    throw new AppError("permission_denied", "An operator has no account in this tenant.");
  }
  if (!canWrite && !isSafeMethod(method)) {
    throw new AppError("permission_denied", "This support token reads only.");
  }
}

/**
 * Enforces the declared guards; registered where tenants are known. Which company a request touches
 * is known to the function that reads the row: it asks for the permission, in the transaction of the
 * change. An answer of a route whose functions did not ask never leaves.
 */
export const guardEnforcementPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  app.decorateRequest("actor");
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
    const { userId, support } = request.principal;
    if (support) requireSupportFor(request, support);
    request.actor = makeActor(userId, clientOf(request), support?.display);
    if (guard === "tenant-admin" && !request.principal.isTenantAdmin) {
      throw new AppError("permission_denied", "Only an admin of this tenant may do this.");
    }
  });
  app.addHook("onSend", (request, reply, _payload, done) => {
    const guard = request.routeOptions.config.guard;
    const isFine =
      guard === undefined ||
      PLAIN_GUARDS.includes(guard) ||
      reply.statusCode >= 400 ||
      request.actor.asked.has(guard);
    if (isFine) done();
    else done(new Error(`${request.routeOptions.url} never asked for ${guard}, which guards it`));
  });
});
