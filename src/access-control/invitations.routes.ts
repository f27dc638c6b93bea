import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { contextOf } from "../plugins/authentication.ts";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { acceptInvitation } from "./invitation-acceptance.ts";
import {
  createInvitation,
  deleteInvitation,
  getInvitation,
  listInvitations,
  replaceInvitation,
  resendInvitation,
  revokeInvitation,
} from "./invitations.ts";
import {
  AcceptedInvitation,
  AcceptInvitation,
  CreatedInvitation,
  DetailAnswer,
  Invitation,
  InvitationReplacement,
  InvitationsPage,
  InvitationsQuery,
  NewInvitation,
} from "./schemas.ts";

/** Companies invite people by e-mail; the invited accept. */
export const invitationRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const tags = ["Access control"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "invitations.manage" },
      schema: {
        operationId: "listInvitations",
        tags,
        summary: "List invitations",
        description: "Those of the companies where the caller may invite, newest first.",
        querystring: InvitationsQuery,
        response: {
          200: InvitationsPage,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    async (request) => {
      const { company, status, ...page } = request.query;
      const found = await listInvitations(
        request.tenant,
        request.actor,
        { company, status },
        rangeOf(page),
      );
      return sendPage(request, page, found);
    },
  );

  app.post(
    "/",
    {
      config: { guard: "invitations.manage" },
      schema: {
        operationId: "createInvitation",
        tags,
        summary: "Invite somebody by e-mail",
        description:
          "The link in the e-mail leads to the front end, with the token in its fragment; the token is in this answer, and nowhere later. Nobody invites to a role that allows more than they hold.",
        body: NewInvitation,
        response: {
          201: CreatedInvitation,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request, reply) => {
      const made = await request.tenant.transaction((tx) =>
        createInvitation(tx, contextOf(request, services), request.actor, request.body),
      );
      return reply.code(201).send(made);
    },
  );

  app.post(
    "/accept/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "acceptInvitation",
        tags,
        summary: "Accept an invitation",
        description:
          "The caller needs the invited e-mail address, verified. Who has no account signs up with it, follows the link that verifies it, and then accepts.",
        body: AcceptInvitation,
        response: {
          200: AcceptedInvitation,
          ...problems("validation_error", "invalid_token", "permission_denied", "conflict"),
        },
      },
    },
    async (request) => {
      const { company, companyName } = await request.tenant.transaction((tx) =>
        acceptInvitation(tx, request.actor, request.body.token),
      );
      return { detail: `You belong to ${companyName} now.`, company };
    },
  );

  app.get(
    "/:id/",
    {
      config: { guard: "invitations.manage" },
      schema: {
        operationId: "getInvitation",
        tags,
        summary: "Get an invitation",
        description:
          "The token is not in it: it was in the answer that made the invitation, and is in the e-mail.",
        params,
        response: {
          200: Invitation,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    (request) => getInvitation(request.tenant.query, request.actor, request.params.id),
  );

  app.put(
    "/:id/",
    {
      config: { guard: "invitations.manage" },
      schema: {
        operationId: "replaceInvitation",
        tags,
        summary: "Change a pending invitation",
        description:
          "Gives it another role, and another end: seven days from now unless `expires_at` says otherwise. The link that was sent stays good.",
        params,
        body: InvitationReplacement,
        response: {
          200: Invitation,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    (request) =>
      request.tenant.transaction((tx) =>
        replaceInvitation(tx, request.actor, request.params.id, request.body),
      ),
  );

  app.delete(
    "/:id/",
    {
      config: { guard: "invitations.manage" },
      schema: {
        operationId: "deleteInvitation",
        tags,
        summary: "Delete an invitation",
        description:
          "Its link stops working, and it answers 404 from then on. To keep it in the list, revoke it instead.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        deleteInvitation(tx, request.actor, request.params.id),
      );
      return reply.code(204).send();
    },
  );

  app.post(
    "/:id/revoke/",
    {
      config: { guard: "invitations.manage", example: { detail: "The invitation is revoked." } },
      schema: {
        operationId: "revokeInvitation",
        tags,
        summary: "Revoke a pending invitation",
        description: "Its link stops working; the invitation stays in the list, as `revoked`.",
        params,
        response: {
          200: DetailAnswer,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        revokeInvitation(tx, request.actor, request.params.id),
      );
      return { detail: "The invitation is revoked." };
    },
  );

  app.post(
    "/:id/resend/",
    {
      config: {
        guard: "invitations.manage",
        example: { detail: "The invitation was sent again." },
      },
      schema: {
        operationId: "resendInvitation",
        tags,
        summary: "Send a pending invitation again",
        description: "The e-mail has a new link, good for seven days; the older one stops working.",
        params,
        response: {
          200: DetailAnswer,
          ...problems("validation_error", "permission_denied", "not_found", "conflict"),
        },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        resendInvitation(tx, contextOf(request, services), request.actor, request.params.id),
      );
      return { detail: "The invitation was sent again." };
    },
  );
};
