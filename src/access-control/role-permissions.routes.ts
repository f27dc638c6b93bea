import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import {
  createRolePermission,
  deleteRolePermission,
  getRolePermission,
  listRolePermissions,
} from "./role-permissions.ts";
import {
  NewRolePermission,
  RolePermission,
  RolePermissionsPage,
  RolePermissionsQuery,
} from "./schemas.ts";

/** What roles allow, and what they deny. */
export const rolePermissionRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listRolePermissions",
        tags,
        summary: "List what roles allow and deny",
        description: "Of the companies that the caller sees, by role and code.",
        querystring: RolePermissionsQuery,
        response: {
          200: RolePermissionsPage,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request) => {
      const { role, ...page } = request.query;
      const found = await listRolePermissions(
        request.tenant,
        request.principal.userId,
        role,
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
        operationId: "createRolePermission",
        tags,
        summary: "Let a role allow or deny something",
        description:
          "Nobody decides on a permission that they do not hold. A denial wins over what other roles of a member grant.",
        body: NewRolePermission,
        response: {
          201: RolePermission,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createRolePermission(tx, request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getRolePermission",
        tags,
        summary: "Get what a role says of a permission",
        description: "For members of the company of the role.",
        params,
        response: {
          200: RolePermission,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    (request) => getRolePermission(request.tenant.query, request.actor, request.params.id),
  );

  app.delete(
    "/:id/",
    {
      config: { guard: "roles.manage" },
      schema: {
        operationId: "deleteRolePermission",
        tags,
        summary: "Delete what a role says of a permission",
        description: "Nobody decides on a permission that they do not hold.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        deleteRolePermission(tx, request.actor, request.params.id),
      );
      return reply.code(204).send();
    },
  );
};
