import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import type { Tenant, TenantDirectory } from "../tenants/directory.ts";
import { isSafeMethod } from "../methods.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The tenant the request names. Only below `/api/`. */
    tenantInfo: Tenant;
    /** The way to that tenant's tables. Only below `/api/`. */
    tenant: TenantConnection;
  }
}

/** Longest name looked up: a host name (RFC 1035 §2.3.4). */
const NAME_LENGTH_MAX = 253;

/**
 * Finds out which tenant a request is for, before anything else about it: the header `X-Tenant`, else
 * the subdomain of TENANT_BASE_DOMAIN, else a host name that the tenant has verified.
 */
export const tenantPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    const { config, directory, database } = services;
    app.decorateRequest("tenantInfo");
    app.decorateRequest("tenant");
    app.addHook("onRequest", async (request, reply) => {
      const tenant = await findTenant(request, directory, config.tenantBaseDomain);
      if (!(tenant instanceof AppError)) {
        request.tenantInfo = tenant;
        request.tenant = database.tenant(tenant.id);
      }
      const refusal = tenant instanceof AppError ? tenant : findRefusal(tenant, request.method);
      if (!refusal) return;
      // Counted for the tenant, or for none: who invents names has one counter for all of them.
      await app.limits.countAnonymous(request, reply);
      throw refusal;
    });
  },
);

/**
 * The oldest schema that this code can work with: the tenant migration whose tables it reads last. Raised
 * with the code that needs a newer one; a migration that only adds what is not yet used leaves it.
 */
export const OLDEST_VERSION = "1790000220000";

/** How soon a tenant whose migration is under way is worth another try. */
const MIGRATION_RETRY_SECONDS = 5;

function findRefusal({ status, version }: Tenant, method: string): AppError | undefined {
  if (status === "suspended") return new AppError("tenant_suspended", "This tenant is suspended.");
  if (version < OLDEST_VERSION) {
    return new AppError("not_ready", "This tenant is being brought up to date.", {
      retryAfterSeconds: MIGRATION_RETRY_SECONDS,
    });
  }
  if (status === "read_only" && !isSafeMethod(method)) {
    return new AppError("tenant_read_only", "This tenant can be read, not changed, at the moment.");
  }
  return undefined;
}

/** The tenant that a request names, or why there is none. */
async function findTenant(
  request: FastifyRequest,
  directory: TenantDirectory,
  baseDomain: string,
): Promise<Tenant | AppError> {
  const header = request.headers["x-tenant"];
  const host = request.hostname.toLowerCase();
  if (header === undefined && !host.endsWith(`.${baseDomain}`)) {
    const tenant = isName(host) ? await directory.findByDomain(host) : undefined;
    return (
      tenant ??
      new AppError(
        "tenant_required",
        `Name the tenant: the header X-Tenant, or a host such as <subdomain>.${baseDomain}.`,
      )
    );
  }
  const subdomain =
    header === undefined
      ? host.slice(0, -(baseDomain.length + 1))
      : String(header).trim().toLowerCase();
  const tenant = isName(subdomain) ? await directory.findBySubdomain(subdomain) : undefined;
  return tenant ?? new AppError("tenant_not_found", "There is no such tenant.");
}

/** Whether a text could be a host name, or a part of one: anything else is not looked up. */
export function isName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && /^[a-z0-9.-]+$/.test(text);
}
