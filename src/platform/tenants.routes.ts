import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { newestVersion } from "../db/tenant-migrations.ts";
import { signSupportToken } from "../plugins/authentication.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { findLedgerEntries, getFleetStatus } from "../tenants/fleet-status.ts";
import { findTenants, type TenantStatus } from "../tenants/tenants.ts";
import type { Platform } from "./context.ts";
import {
  CreatedPlatformTenant,
  DeletionQuery,
  MigrationsPage,
  MigrationsQuery,
  NewPlatformTenant,
  NewSupportToken,
  PlatformTenant,
  PlatformTenantChange,
  PlatformTenantsPage,
  PlatformTenantsQuery,
  PlatformTenantUsage,
  SupportToken,
} from "./schemas.ts";
import { endSupport, startSupport, SUPPORT_TOKEN_SECONDS } from "./support-tokens.ts";
import {
  changeStatus,
  changeTenant,
  createPlatformTenant,
  getTenantById,
  scheduleDeletion,
} from "./tenants.ts";
import { getTenantUsage } from "./usage.ts";

/** What each path makes of a tenant. */
const STATUS_CHANGES: readonly {
  readonly path: string;
  readonly status: TenantStatus;
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
}[] = [
  {
    path: "suspend",
    status: "suspended",
    operationId: "suspendTenant",
    summary: "Suspend a tenant",
    description: "Every request to it is answered 403 `tenant_suspended`; nothing is deleted.",
  },
  {
    path: "activate",
    status: "active",
    operationId: "activateTenant",
    summary: "Let a tenant work again",
    description:
      "Takes it back to `active`, whether it was suspended, read-only or about to be deleted.",
  },
  {
    path: "read-only",
    status: "read_only",
    operationId: "makeTenantReadOnly",
    summary: "Make a tenant read-only",
    description:
      "Every request that changes something is answered 403 `tenant_read_only`, logins included.",
  },
];

/** Tenants, their life cycle, the state of their schemas, and a token to step into one. */
export const platformTenantRoutes: FastifyPluginAsyncZod<{
  services: Services;
  platform: Platform;
}> = async (app, { services, platform }) => {
  const { config: settings, keys, passwords } = services;
  const { pool } = platform;
  const tags = ["Platform"];
  const config = { guard: "operator" as const };
  const params = IdParams;

  app.get(
    "/tenants/",
    {
      config,
      schema: {
        operationId: "listTenants",
        tags,
        summary: "List all tenants",
        description: "Oldest first. `search` finds parts of names, subdomains and domains.",
        querystring: PlatformTenantsQuery,
        response: { 200: PlatformTenantsPage, ...problems("not_found") },
      },
    },
    async (request) => {
      const { search, status, ...page } = request.query;
      const tenants = await pool.use((admin) =>
        findTenants(admin.query, { search, status }, rangeOf(page)),
      );
      return sendPage(request, page, tenants);
    },
  );

  app.post(
    "/tenants/",
    {
      config,
      schema: {
        operationId: "createTenant",
        tags,
        summary: "Create a tenant",
        description:
          "With its schema, role, tables and owner: all of it or nothing. Without a password for the owner the answer has a link to set one, this once.",
        body: NewPlatformTenant,
        response: { 201: CreatedPlatformTenant, ...problems("conflict") },
      },
    },
    async (request, reply) => {
      const { operator, body } = request;
      const tenant = await createPlatformTenant(
        platform,
        passwords,
        settings.frontendUrl,
        operator,
        body,
      );
      return reply.code(201).send(tenant);
    },
  );

  app.get(
    "/tenants/:id/",
    {
      config,
      schema: {
        operationId: "getTenant",
        tags,
        summary: "Get a tenant",
        description: "With how far its schema is.",
        params,
        response: { 200: PlatformTenant },
      },
    },
    (request) => pool.use((admin) => getTenantById(admin, request.params.id)),
  );

  app.get(
    "/tenants/:id/usage/",
    {
      config,
      schema: {
        operationId: "getTenantUsage",
        tags,
        summary: "How much there is of a tenant",
        description:
          "Counted when it is asked for, at most 5 seconds a statement. Log entries are estimated.",
        params,
        response: { 200: PlatformTenantUsage, ...problems("not_ready") },
      },
    },
    (request) => pool.transaction((admin) => getTenantUsage(admin, request.params.id)),
  );

  app.patch(
    "/tenants/:id/",
    {
      config,
      schema: {
        operationId: "changeTenant",
        tags,
        summary: "Change a tenant's name, subdomain, messages or plan",
        description:
          "A new subdomain holds at once; links that were sent name the old one, which another tenant can take.",
        params,
        body: PlatformTenantChange,
        response: { 200: PlatformTenant, ...problems("conflict") },
      },
    },
    (request) => changeTenant(platform, request.operator, request.params.id, request.body),
  );

  app.delete(
    "/tenants/:id/",
    {
      config,
      schema: {
        operationId: "deleteTenant",
        tags,
        summary: "Suspend a tenant until it is erased",
        description:
          "Nothing is deleted yet, and activating takes it back. When the grace is over whoever is at the machine erases it (`npm run tenant -- delete`).",
        params,
        querystring: DeletionQuery,
        response: { 202: PlatformTenant },
      },
    },
    async (request, reply) => {
      const { operator, params: path, query } = request;
      const tenant = await scheduleDeletion(platform, operator, path.id, query.grace_days);
      return reply.code(202).send(tenant);
    },
  );

  for (const { path, status, ...texts } of STATUS_CHANGES) {
    app.post(
      `/tenants/:id/${path}/`,
      { config, schema: { ...texts, tags, params, response: { 200: PlatformTenant } } },
      (request) => changeStatus(platform, request.operator, request.params.id, status),
    );
  }

  app.get(
    "/migrations/",
    {
      config,
      schema: {
        operationId: "listMigrations",
        tags,
        summary: "List how far the tenants' schemas are",
        description: "The ledger, failures first.",
        querystring: MigrationsQuery,
        response: { 200: MigrationsPage, ...problems("not_found") },
      },
    },
    async (request) => {
      const { state, ...page } = request.query;
      const release = newestVersion(await platform.migrations());
      const { entries, behind } = await pool.use(async (admin) => ({
        entries: await findLedgerEntries(admin.query, state, rangeOf(page)),
        behind: (await getFleetStatus(admin.query, release)).behind,
      }));
      return { ...sendPage(request, page, entries), release, behind };
    },
  );

  app.post(
    "/tenants/:id/support-token/",
    {
      config,
      schema: {
        operationId: "createSupportToken",
        tags,
        summary: "Make a token to act in a tenant",
        description:
          "For 15 minutes, in this tenant alone, as an admin of it; it reads only unless `write` is asked for. The tenant's security log says so, with the reason, and names the operator wherever something is changed. It ends with the operator's logout.",
        params,
        body: NewSupportToken,
        response: { 201: SupportToken },
      },
    },
    async (request, reply) => {
      const { operator, body } = request;
      const { id, session } = await pool.transaction(async (admin) => {
        const tenant = await getTenantById(admin, request.params.id);
        const support = { reason: body.reason, canWrite: body.write };
        return { id: tenant.id, session: await startSupport(admin, operator, tenant.id, support) };
      });
      // Something was written to its log, by a request that is not the tenant's.
      services.logSealer.mark(id);
      const access = signSupportToken(app, keys, id, session, SUPPORT_TOKEN_SECONDS);
      return reply.code(201).send({ access, expires_in: SUPPORT_TOKEN_SECONDS });
    },
  );

  app.delete(
    "/tenants/:id/support-token/",
    {
      config,
      schema: {
        operationId: "endSupport",
        tags,
        summary: "Leave a tenant",
        description:
          "Ends every support token that the caller has made for this tenant, at once. Its security log says so. Where there is none left, nothing happens.",
        params,
        response: { 204: Deleted },
      },
    },
    async (request, reply) => {
      const { operator } = request;
      const { id, isEnded } = await pool.transaction(async (admin) => {
        const tenant = await getTenantById(admin, request.params.id);
        return { id: tenant.id, isEnded: await endSupport(admin, operator, tenant.id) };
      });
      if (isEnded) services.logSealer.mark(id);
      return reply.code(204).send();
    },
  );
};
