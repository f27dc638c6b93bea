import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { MessageAnswer } from "../auth/schemas.ts";
import { contextOf } from "../plugins/authentication.ts";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { ManagedUser, UserChange, UsersPage, UsersQuery } from "./schemas.ts";
import { changeUser, getUser, listUsers, resetSecondFactor } from "./users.ts";

/** What the tenant's admins see and decide of its users. */
export const userRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { principals } = services;
  const tags = ["Account"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "members.view" },
      schema: {
        operationId: "listUsers",
        tags,
        summary: "List the users of the tenant, or of a company",
        description:
          "By name. The tenant's admins see everybody; with `company`, whoever holds `members.view` there sees its members. `search` finds parts of names, e-mail addresses and phone numbers.",
        querystring: UsersQuery,
        response: {
          200: UsersPage,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    async (request) => {
      const { search, company, ...page } = request.query;
      const users = await listUsers(
        request.tenant,
        request.actor,
        { search, company },
        rangeOf(page),
      );
      return sendPage(request, page, users);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "tenant-admin" },
      schema: {
        operationId: "getUser",
        tags,
        summary: "Get a user of the tenant",
        description: "As the list of users shows them.",
        params,
        response: {
          200: ManagedUser,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    (request) => getUser(request.tenant, request.params.id),
  );

  app.patch(
    "/:id/",
    {
      config: { guard: "tenant-admin" },
      schema: {
        operationId: "changeUser",
        tags,
        summary: "Enable, disable or promote a user",
        description:
          "Disabling ends every login of the user. The last active admin stays one. The user is told.",
        params,
        body: UserChange,
        response: {
          200: ManagedUser,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request) => {
      const { id } = request.params;
      const context = contextOf(request, services);
      const user = await request.tenant.transaction((tx) =>
        changeUser(tx, context, request.actor, id, request.body),
      );
      principals.revoke(`${request.tenantInfo.id}:${id}`);
      return user;
    },
  );

  app.post(
    "/:id/reset-2fa/",
    {
      config: {
        guard: "tenant-admin",
        example: { message: "Two-factor login of this user is off." },
      },
      schema: {
        operationId: "resetUserSecondFactor",
        tags,
        summary: "Take the second factor of a user who has lost it",
        description: "Every login of the user ends, and they are told.",
        params,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request) => {
      const { id } = request.params;
      const context = contextOf(request, services);
      await request.tenant.transaction((tx) => resetSecondFactor(tx, context, request.actor, id));
      principals.revoke(`${request.tenantInfo.id}:${id}`);
      return { message: "Two-factor login of this user is off." };
    },
  );
};
