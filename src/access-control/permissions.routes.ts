import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import {
  changePermission,
  createPermission,
  deletePermission,
  getPermission,
  listPermissions,
} from "./permissions.ts";
import {
  NewPermission,
  Permission,
  PermissionChange,
  PermissionReplacement,
  PermissionsPage,
  PermissionsQuery,
} from "./schemas.ts";

/** The catalogue of what can be allowed: the service's own codes, and those a tenant adds. */
export const permissionRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listPermissions",
        tags,
        summary: "List the catalogue of permissions",
        description: "By code. `search` finds parts of codes and descriptions.",
        querystring: PermissionsQuery,
        response: {
          200: PermissionsPage,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request) => {
      const { search, module, ...page } = request.query;
      const found = await listPermissions(request.tenant, { search, module }, rangeOf(page));
      return sendPage(request, page, found);
    },
  );

  app.post(
    "/",
    {
      config: { guard: "tenant-admin" },
      schema: {
        operationId: "createPermission",
        tags,
        summary: "Add a permission",
        description:
          "For applications that ask for it by code; this service asks for the built-in ones only.",
        body: NewPermission,
        response: {
          201: Permission,
          ...problems("validation_error", "permission_denied", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createPermission(tx, request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getPermission",
        tags,
        summary: "Get a permission",
        description: "One of the catalogue, built-in or added.",
        params,
        response: {
          200: Permission,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    (request) => getPermission(request.tenant.query, request.params.id),
  );

  for (const [method, operationId, summary, body] of [
    [
      "PUT",
      "replacePermission",
      "Replace what can be changed of a permission",
      PermissionReplacement,
    ],
    ["PATCH", "changePermission", "Change a permission", PermissionChange],
  ] as const) {
    app.route({
      method,
      url: "/:id/",
      config: { guard: "tenant-admin" },
      schema: {
        operationId,
        tags,
        summary,
        description: "Built-in permissions stay as they are: 409.",
        params,
        body,
        response: {
          200: Permission,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
      handler: (request) =>
        request.tenant.transaction((tx) =>
          changePermission(tx, request.actor, request.params.id, request.body),
        ),
    });
  }

  app.delete(
    "/:id/",
    {
      config: { guard: "tenant-admin" },
      schema: {
        operationId: "deletePermission",
        tags,
        summary: "Delete a permission",
        description: "Roles neither allow nor deny it any more. Built-in permissions stay: 409.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        deletePermission(tx, request.actor, request.params.id),
      );
      return reply.code(204).send();
    },
  );
};
