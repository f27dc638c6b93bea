import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import type { Tenant, TenantDirectory } from "../tenants/directory.ts";

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

/** Methods that change nothing (RFC 9110 §9.2.1). */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Finds out which tenant a request is for, before anything else about it: the header `X-Tenant`, else
 * the subdomain of TENANT_BASE_DOMAIN, else a host name that the tenant has verified.
 */
export const tenantPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    const { config, directory, database } = services;
    app.decorateRequest("tenantInfo");
    app.decorateRequest("tenant");
    app.addHook("onRequest", async (request) => {
      const tenant = await findTenant(request, directory, config.tenantBaseDomain);
      if (!tenant) throw new AppError("tenant_not_found", "There is no such tenant.");
      if (tenant.status === "suspended") {
        throw new AppError("tenant_suspended", "This tenant is suspended.");
      }
      if (tenant.status === "read_only" && !SAFE_METHODS.has(request.method)) {
        throw new AppError(
          "tenant_read_only",
          "This tenant can be read, not changed, at the moment.",
        );
      }
      request.tenantInfo = tenant;
      request.tenant = database.tenant(tenant.id);
    });
  },
);

async function findTenant(
  request: FastifyRequest,
  directory: TenantDirectory,
  baseDomain: string,
): Promise<Tenant | undefined> {
  const header = request.headers["x-tenant"];
  if (header !== undefined) {
    const subdomain = String(header).trim().toLowerCase();
    return isName(subdomain) ? directory.findBySubdomain(subdomain) : undefined;
  }
  const host = request.hostname.toLowerCase();
  if (host.endsWith(`.${baseDomain}`)) {
    const subdomain = host.slice(0, -(baseDomain.length + 1));
    return isName(subdomain) ? directory.findBySubdomain(subdomain) : undefined;
  }
  const tenant = isName(host) ? await directory.findByDomain(host) : undefined;
  if (tenant) return tenant;
  throw new AppError(
    "tenant_required",
    `Name the tenant: the header X-Tenant, or a host such as <subdomain>.${baseDomain}.`,
  );
}

/** Whether a text could be a host name, or a part of one: anything else is not looked up. */
export function isName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && /^[a-z0-9.-]+$/.test(text);
}
