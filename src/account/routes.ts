import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { MessageAnswer } from "../auth/schemas.ts";
import { contextOf } from "../plugins/authentication.ts";
import { IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { resendVerification, verifyEmail } from "./email-verification.ts";
import { changeProfile, getProfile } from "./profile.ts";
import {
  Profile,
  ProfileChange,
  ProfileReplacement,
  Session,
  SessionTest,
  VerifyEmailRequest,
} from "./schemas.ts";
import { endOwnSession, listSessions } from "./sessions.ts";
import { userRoutes } from "./users.routes.ts";

/** What a user sees and changes of their own account. */
export const accountRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { passwords, principals } = services;
  const tags = ["Account"];
  await app.register(userRoutes, { prefix: "/users", services });

  app.get(
    "/profile/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "getProfile",
        tags,
        summary: "Get the caller's own account",
        description: "Says what is verified and whether a second factor is on.",
        response: { 200: Profile, ...problems("not_found") },
      },
    },
    (request) => getProfile(request.tenant, request.principal.userId),
  );

  app.get(
    "/session-tests/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "testSession",
        tags,
        summary: "Test whether the access token works, and until when",
        description:
          "For clients that want to know before they need it. Answers whose token it is.",
        response: { 200: SessionTest, ...problems("not_found") },
      },
    },
    async (request) => ({
      user: await getProfile(request.tenant, request.principal.userId),
      token_expires_at: request.tokenExpiresAt,
    }),
  );

  for (const [method, operationId, summary, body] of [
    [
      "PUT",
      "replaceProfile",
      "Replace what can be changed of the caller's account",
      ProfileReplacement,
    ],
    ["PATCH", "changeProfile", "Change the caller's account", ProfileChange],
  ] as const) {
    app.route({
      method,
      url: "/profile/",
      config: { guard: "own-account" },
      schema: {
        operationId,
        tags,
        summary,
        description:
          "Another e-mail address needs `current_password`; the present one stays until the link sent to the new one is followed. The answer does not tell whether the new one belongs to somebody else.",
        body,
        response: {
          200: Profile,
          ...problems("validation_error", "invalid_credentials", "rate_limited", "overloaded"),
        },
      },
      handler: (request) => {
        const { full_name: fullName, email, current_password: currentPassword } = request.body;
        const { userId } = request.principal;
        const context = contextOf(request, services);
        const change = { fullName, email, currentPassword };
        return changeProfile(request.tenant, passwords, context, userId, change);
      },
    });
  }

  app.post(
    "/email/verify/",
    {
      config: { guard: "public", example: { message: "The e-mail address is verified." } },
      schema: {
        operationId: "verifyEmail",
        tags,
        summary: "Verify an e-mail address with the token of a link",
        description:
          "Works once, within 24 hours, on whatever device. A new address takes the place of the old one; an unverified claim of somebody else to it ends.",
        body: VerifyEmailRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_token", "conflict"),
        },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        verifyEmail(tx, contextOf(request, services), request.body.token),
      );
      return { message: "The e-mail address is verified." };
    },
  );

  app.post(
    "/email/resend/",
    {
      config: { guard: "own-account", example: { message: "A link is on its way." } },
      schema: {
        operationId: "resendEmailVerification",
        tags,
        summary: "Ask for another link to verify the e-mail address",
        description: "Goes to the new address where a change was begun. Five an hour at most.",
        response: { 200: MessageAnswer, ...problems("conflict", "rate_limited") },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        resendVerification(tx, contextOf(request, services), request.principal.userId),
      );
      return { message: "A link is on its way." };
    },
  );

  app.get(
    "/sessions/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "listSessions",
        tags,
        summary: "List the caller's live logins",
        description: "The last used first, 100 at most. `current` marks the one that asks.",
        response: { 200: z.array(Session) },
      },
    },
    (request) => listSessions(request.tenant, request.principal),
  );

  app.delete(
    "/sessions/:id/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "endSession",
        tags,
        summary: "End one of the caller's logins",
        description: "Its access token stops working within a second everywhere.",
        params: IdParams,
        response: {
          204: z.undefined().meta({ description: "Ended." }),
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request, reply) => {
      const { userId } = request.principal;
      await request.tenant.transaction((tx) =>
        endOwnSession(tx, contextOf(request, services), userId, request.params.id),
      );
      principals.revoke(`${request.tenantInfo.id}:${userId}`);
      return reply.code(204).send();
    },
  );
};
