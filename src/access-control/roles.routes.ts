import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import { changeRole, createRole, deleteRole, getRole, listRoles } from "./roles.ts";
import { NewRole, Role, RoleChange, RoleReplacement, RolesPage, RolesQuery } from "./schemas.ts";

/** System roles, and those that companies make. */
export const roleRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listRoles",
        tags,
        summary: "List roles",
        description:
          "System roles first, then by company and name. `company` leaves its own and the system's.",
        querystring: RolesQuery,
        response: {
          200: RolesPage,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request) => {
      const { search, company, ...page } = request.query;
      const found = await listRoles(
        request.tenant,
        request.principal.userId,
        { search, company },
        rangeOf(page),
      );
      return sendPage(request, page, found);
    },
  );

  app.post(
    "/",
    {
      config: { guard: "roles.manage" },
      schema: {
        operationId: "createRole",
        tags,
        summary: "Make a role of a company",
        description: "It allows nothing yet: see role-permissions.",
        body: NewRole,
        response: {
          201: Role,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createRole(tx, request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getRole",
        tags,
        summary: "Get a role",
        description: "A system role, or one of a company that the caller sees.",
        params,
        response: {
          200: Role,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    (request) => getRole(request.tenant.query, request.actor, request.params.id),
  );

  for (const [method, operationId, summary, body] of [
    ["PUT", "replaceRole", "Replace what can be changed of a role", RoleReplacement],
    ["PATCH", "changeRole", "Change a role", RoleChange],
  ] as const) {
    app.route({
      method,
      url: "/:id/",
      config: { guard: "roles.manage" },
      schema: {
        operationId,
        tags,
        summary,
        description:
          "A system role stays as it is, and a role stays in its company: 409 otherwise.",
        params,
        body,
        response: {
          200: Role,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
      handler: (request) =>
        request.tenant.transaction((tx) =>
          changeRole(tx, request.actor, request.params.id, request.body),
        ),
    });
  }

  app.delete(
    "/:id/",
    {
      config: { guard: "roles.manage" },
      schema: {
        operationId: "deleteRole",
        tags,
        summary: "Delete a role",
        description: "Works for a role that no member has and nobody is invited to; 409 otherwise.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) => deleteRole(tx, request.actor, request.params.id));
      return reply.code(204).send();
    },
  );
};
