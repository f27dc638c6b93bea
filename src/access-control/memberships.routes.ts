import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import {
  createMembership,
  deleteMembership,
  getMembership,
  listMemberships,
  replaceMembership,
} from "./memberships.ts";
import {
  Membership,
  MembershipReplacement,
  MembershipsPage,
  MembershipsQuery,
  NewMembership,
} from "./schemas.ts";

/** Who belongs to which company. */
export const membershipRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listMemberships",
        tags,
        summary: "List memberships",
        description: "The caller's own, and those of the companies where they hold `members.view`.",
        querystring: MembershipsQuery,
        response: {
          200: MembershipsPage,
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request) => {
      const { user, company, ...page } = request.query;
      const found = await listMemberships(
        request.tenant,
        request.actor,
        { user, company },
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
        operationId: "createMembership",
        tags,
        summary: "Make a user a member of a company",
        description:
          "A user whom the caller sees: others are invited. The user is notified; the membership has no role yet.",
        body: NewMembership,
        response: {
          201: Membership,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createMembership(tx, request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getMembership",
        tags,
        summary: "Get a membership",
        description: "One's own, or with `members.view` in its company.",
        params,
        response: {
          200: Membership,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    (request) => getMembership(request.tenant.query, request.actor, request.params.id),
  );

  app.put(
    "/:id/",
    {
      config: { guard: "members.manage" },
      schema: {
        operationId: "replaceMembership",
        tags,
        summary: "Replace what can be changed of a membership",
        description:
          "Users choose their own primary company without the permission. Nobody changes a member who holds more; a company keeps an owner.",
        params,
        body: MembershipReplacement,
        response: {
          200: Membership,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    (request) =>
      request.tenant.transaction((tx) =>
        replaceMembership(tx, request.actor, request.params.id, request.body),
      ),
  );

  app.delete(
    "/:id/",
    {
      config: { guard: "members.manage" },
      schema: {
        operationId: "deleteMembership",
        tags,
        summary: "End a membership",
        description:
          "Users leave by themselves without the permission. Its roles end, and pending invitations of the same address to the company. A company keeps an owner.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        deleteMembership(tx, request.actor, request.params.id),
      );
      return reply.code(204).send();
    },
  );
};
