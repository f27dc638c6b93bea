import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import {
  createMembershipRole,
  deleteMembershipRole,
  getMembershipRole,
  listMembershipRoles,
} from "./membership-roles.ts";
import {
  MembershipRole,
  MembershipRolesPage,
  MembershipRolesQuery,
  NewMembershipRole,
} from "./schemas.ts";

/** Which roles members have. */
export const membershipRoleRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listMembershipRoles",
        tags,
        summary: "List the roles of members",
        description: "The caller's own, and those of the companies where they hold `members.view`.",
        querystring: MembershipRolesQuery,
        response: {
          200: MembershipRolesPage,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request) => {
      const { user, company, user_company: membership, role, ...page } = request.query;
      const found = await listMembershipRoles(
        request.tenant,
        request.actor,
        { user, company, membership, role },
        rangeOf(page),
      );
      return sendPage(request, page, found);
    },
  );

  app.post(
    "/",
    {
      config: { guard: "members.manage" },
      schema: {
        operationId: "createMembershipRole",
        tags,
        summary: "Give a member a role",
        description:
          "Nobody gives more than they hold, nor changes who holds more. The member is notified.",
        body: NewMembershipRole,
        response: {
          201: MembershipRole,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createMembershipRole(tx, request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getMembershipRole",
        tags,
        summary: "Get a role of a member",
        description: "One's own, or with `members.view` in its company.",
        params,
        response: {
          200: MembershipRole,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    (request) => getMembershipRole(request.tenant.query, request.actor, request.params.id),
  );

  app.delete(
    "/:id/",
    {
      config: { guard: "members.manage" },
      schema: {
        operationId: "deleteMembershipRole",
        tags,
        summary: "Take a role from a member",
        description: "The member is notified. The last Owner of a company stays one: 409.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        deleteMembershipRole(tx, request.actor, request.params.id),
      );
      return reply.code(204).send();
    },
  );
};
