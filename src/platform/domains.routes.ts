import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import { addDomain, getDomain, listDomains, removeDomain } from "../tenants/domains.ts";
import type { Platform } from "./context.ts";
import { DomainParams, NewPlatformDomain, PlatformDomain, PlatformDomains } from "./schemas.ts";
import { changeDomain, getTenantById, verifyPlatformDomain } from "./tenants.ts";

/** Host names of tenants' own. */
export const platformDomainRoutes: FastifyPluginAsyncZod<{ platform: Platform }> = async (
  app,
  { platform },
) => {
  const tags = ["Platform"];
  const config = { guard: "operator" as const };

  app.get(
    "/tenants/:id/domains/",
    {
      config,
      schema: {
        operationId: "listTenantDomains",
        tags,
        summary: "List a tenant's domains",
        description: "The primary first; those that wait have the TXT record that they wait for.",
        params: IdParams,
        response: { 200: PlatformDomains },
      },
    },
    (request) =>
      platform.pool.use(async (admin) => {
        const { subdomain } = await getTenantById(admin, request.params.id);
        return listDomains(admin, subdomain);
      }),
  );

  app.post(
    "/tenants/:id/domains/",
    {
      config,
      schema: {
        operationId: "addTenantDomain",
        tags,
        summary: "Add a domain to a tenant",
        description:
          "It names the tenant once it is verified: make the TXT record of the answer, then verify.",
        params: IdParams,
        body: NewPlatformDomain,
        response: { 201: PlatformDomain, ...problems("conflict") },
      },
    },
    async (request, reply) => {
      const { operator, params, body } = request;
      const domain = await changeDomain(
        platform,
        operator,
        params.id,
        "DOMAIN_ADDED",
        async (admin, subdomain) => {
          const result = await addDomain(admin, subdomain, body.domain);
          return { domain: result.domain, result };
        },
      );
      return reply.code(201).send(domain);
    },
  );

  app.post(
    "/tenants/:id/domains/:domain_id/verify/",
    {
      config,
      schema: {
        operationId: "verifyTenantDomain",
        tags,
        summary: "Verify a domain by its TXT record",
        description:
          "The first verified one becomes the primary. 409 while the record is not there.",
        params: DomainParams,
        response: { 200: PlatformDomain, ...problems("conflict") },
      },
    },
    (request) => {
      const { operator, params } = request;
      return verifyPlatformDomain(
        platform,
        operator,
        params.id,
        params.domain_id,
        platform.resolveTxt,
      );
    },
  );

  app.delete(
    "/tenants/:id/domains/:domain_id/",
    {
      config,
      schema: {
        operationId: "removeTenantDomain",
        tags,
        summary: "Remove a domain from a tenant",
        description: "It names nobody from now on; the next one becomes the primary.",
        params: DomainParams,
        response: { 204: Deleted },
      },
    },
    async (request, reply) => {
      const { operator, params } = request;
      await changeDomain(
        platform,
        operator,
        params.id,
        "DOMAIN_REMOVED",
        async (admin, subdomain) => {
          const { domain } = await getDomain(admin, params.id, params.domain_id);
          await removeDomain(admin, subdomain, domain);
          return { domain, result: undefined };
        },
      );
      return reply.code(204).send();
    },
  );
};
