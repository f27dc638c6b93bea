import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { ListQuery, rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import {
  changeCompany,
  createCompany,
  deleteCompany,
  getCompany,
  listCompanies,
} from "./companies.ts";
import { logoRoutes } from "./logos.routes.ts";
import {
  CompaniesPage,
  CompaniesQuery,
  Company,
  CompanyChange,
  CompanyReplacement,
  NewCompany,
  SubsidiariesPage,
} from "./schemas.ts";
import { settingsRoutes } from "./settings.routes.ts";
import { listSubsidiaries } from "./subsidiaries.ts";

/** Companies of a tenant: who makes one owns it, its members see it. */
export const companyRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Company"];
  const params = IdParams;
  await app.register(settingsRoutes, { prefix: "/:id/settings" });
  await app.register(logoRoutes, { prefix: "/:id/logo" });

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listCompanies",
        tags,
        summary: "List the companies that the caller belongs to",
        description:
          "An admin of the tenant sees all of them. `search` finds parts of names; `parent` gives the companies directly below one.",
        querystring: CompaniesQuery,
        response: { 200: CompaniesPage, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const { search, parent, ordering, ...page } = request.query;
      const companies = await listCompanies(
        request.tenant,
        request.principal.userId,
        { search, parent, ordering },
        rangeOf(page),
      );
      return sendPage(request, page, companies);
    },
  );

  app.post(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "createCompany",
        tags,
        summary: "Create a company",
        description:
          "The caller becomes its Owner. A company can be put below another that the caller may change; rights do not pass from one to the other.",
        body: NewCompany,
        response: {
          201: Company.describe("The company that was made."),
          ...problems("validation_error", "permission_denied", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const company = await request.tenant.transaction((tx) =>
        createCompany(tx, request.actor, request.body),
      );
      return reply.code(201).send(company);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getCompany",
        tags,
        summary: "Get a company",
        description: "For its members and the tenant's admins; it does not exist for others.",
        params,
        response: { 200: Company, ...problems("validation_error", "not_found") },
      },
    },
    (request) => getCompany(request.tenant, request.actor, request.params.id),
  );

  for (const [method, operationId, summary, body] of [
    ["PUT", "replaceCompany", "Replace what can be changed of a company", CompanyReplacement],
    ["PATCH", "changeCompany", "Change a company", CompanyChange],
  ] as const) {
    app.route({
      method,
      url: "/:id/",
      config: { guard: "company.update" },
      schema: {
        operationId,
        tags,
        summary,
        description:
          "`status` goes from `active` to `deactivated` and back, and from `deactivated` to `deleted`: that needs the Owner. The hierarchy has no cycles and at most 20 levels.",
        params,
        body,
        response: {
          200: Company,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
      handler: (request) =>
        request.tenant.transaction((tx) =>
          changeCompany(tx, request.actor, request.params.id, request.body),
        ),
    });
  }

  app.delete(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "deleteCompany",
        tags,
        summary: "Delete a company",
        description:
          "Its Owner can, from either status, while there are no companies below it. Links to join it end; the name can be taken again.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) => deleteCompany(tx, request.actor, request.params.id));
      return reply.code(204).send();
    },
  );

  app.get(
    "/:id/subsidiaries/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listSubsidiaries",
        tags,
        summary: "List the companies below one, at any depth",
        description: "Nearest first, as far as the caller belongs to them.",
        params,
        querystring: ListQuery,
        response: { 200: SubsidiariesPage, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const companies = await listSubsidiaries(
        request.tenant,
        request.actor,
        request.params.id,
        rangeOf(request.query),
      );
      return sendPage(request, request.query, companies);
    },
  );
};
