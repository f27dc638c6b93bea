import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { contextOf } from "../plugins/authentication.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { changePassword } from "./password-change.ts";
import { forgotPassword, resetPassword } from "./password-reset.ts";
import {
  MessageAnswer,
  PasswordChangeRequest,
  PasswordForgotRequest,
  PasswordResetRequest,
} from "./schemas.ts";

/** Passwords forgotten, set by a link, changed. */
export const passwordRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { passwords, principals } = services;
  const tags = ["Authentication"];

  app.post(
    "/password/forgot/",
    {
      config: {
        guard: "public",
        limits: ["finalize"],
        example: { message: "If the account exists, a link is on its way." },
      },
      schema: {
        operationId: "requestPasswordReset",
        tags,
        summary: "Ask for a link to set a new password",
        description:
          "The answer is the same for unknown accounts. The link goes to the verified e-mail address; without one by SMS, unless codes by SMS are the second factor. It works once, for 30 minutes, and leads to FRONTEND_URL.",
        body: PasswordForgotRequest,
        response: { 202: MessageAnswer, ...problems("validation_error") },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) =>
        forgotPassword(tx, contextOf(request, services), request.body.identifier),
      );
      return reply.code(202).send({ message: "If the account exists, a link is on its way." });
    },
  );

  app.post(
    "/password/reset/",
    {
      config: {
        guard: "public",
        limits: ["finalize"],
        example: { message: "The password is set. Log in with it." },
      },
      schema: {
        operationId: "resetPassword",
        tags,
        summary: "Set a password with the token of a link",
        description:
          "The token works once. Every login of the user ends, and a second factor is still asked for at the next one. Common passwords, the user's own data and the last five passwords are refused.",
        body: PasswordResetRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_token", "overloaded"),
        },
      },
    },
    async (request) => {
      const context = contextOf(request, services);
      await resetPassword(request.tenant, passwords, context, request.body);
      return { message: "The password is set. Log in with it." };
    },
  );

  app.post(
    "/password/change/",
    {
      config: { guard: "own-account", example: { message: "The password is changed." } },
      schema: {
        operationId: "changePassword",
        tags,
        summary: "Change the caller's password",
        description:
          "The caller's other logins end. Wrong current passwords count with those of the login. Common passwords, the user's own data and the last five passwords are refused.",
        body: PasswordChangeRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_credentials", "conflict", "overloaded"),
        },
      },
    },
    async (request) => {
      const { current_password: currentPassword, new_password: newPassword } = request.body;
      const context = contextOf(request, services);
      await changePassword(request.tenant, passwords, context, request.principal, {
        currentPassword,
        newPassword,
      });
      principals.revoke(`${request.tenantInfo.id}:${request.principal.userId}`);
      return { message: "The password is changed." };
    },
  );
};
