import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { MessageAnswer } from "../auth/schemas.ts";
import { AppError } from "../errors.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { OPERATOR_TOKEN_SECONDS, operatorContextOf } from "./authentication.ts";
import type { Platform } from "./context.ts";
import {
  confirmOperatorPassword,
  finishOperatorLogin,
  logInOperator,
  type OperatorLogin,
} from "./operator-login.ts";
import { recordOperatorAction } from "./operator-log.ts";
import { confirmOperator, enrolOperator } from "./operator-second-factor.ts";
import { endOperatorSession, refreshOperatorSession } from "./operator-sessions.ts";
import {
  ChallengeCodeRequest,
  ConfirmSecondFactorRequest,
  OperatorEnrolmentAnswer,
  OperatorLoginAnswer,
  OperatorLoginRequest,
  OperatorPasswordRequest,
  OperatorTokens,
  RefreshRequest,
} from "./schemas.ts";

/** Operators' login with its second step, refresh, logout, second factor. */
export const operatorLoginRoutes: FastifyPluginAsyncZod<{
  services: Services;
  platform: Platform;
}> = async (app, { services, platform: { pool } }) => {
  const { passwords } = services;
  const tags = ["Platform"];

  const tokensFor = ({ id, operatorId, refresh }: OperatorLogin) => ({
    tokens: {
      access: app.signOperatorToken(operatorId, id),
      refresh,
      expires_in: OPERATOR_TOKEN_SECONDS,
    },
  });

  app.post(
    "/login/",
    {
      config: { guard: "public", limits: ["login"] },
      schema: {
        operationId: "logInOperator",
        tags,
        summary: "Log in as an operator",
        description:
          "With a second factor on, the answer is `requires_2fa` and a `session_id` for the second step. An unknown address, a wrong password, a disabled and a locked account are answered alike; five wrong passwords from one network lock the account for that network for 30 minutes.",
        body: OperatorLoginRequest,
        response: { 200: OperatorLoginAnswer, ...problems("invalid_credentials") },
      },
    },
    async (request) => {
      const context = operatorContextOf(request, services);
      const result = await logInOperator(pool, passwords, context, request.body);
      return "challenge" in result
        ? { requires_2fa: true as const, session_id: result.challenge }
        : tokensFor(result);
    },
  );

  app.post(
    "/login-2fa-verify-code/",
    {
      config: { guard: "public", limits: ["login"] },
      schema: {
        operationId: "verifyOperatorLoginCode",
        tags,
        summary: "Finish an operator's login with a code",
        description:
          "A code of the authenticator app; each is accepted once. Five wrong ones in a row and none is accepted for 30 minutes.",
        body: ChallengeCodeRequest,
        response: { 200: OperatorTokens, ...problems("invalid_token", "invalid_2fa_code") },
      },
    },
    async (request) => {
      const { session_id: challenge, code } = request.body;
      const context = operatorContextOf(request, services);
      return tokensFor(await finishOperatorLogin(pool, context, challenge, code));
    },
  );

  app.post(
    "/token/refresh/",
    {
      config: { guard: "public", limits: ["refresh"] },
      schema: {
        operationId: "refreshOperatorTokens",
        tags,
        summary: "Exchange an operator's refresh token",
        description:
          "The token rotates. The one before is answered with the current one for 30 seconds; anything older ends the login. A login lasts 12 hours at the longest.",
        body: RefreshRequest,
        response: {
          200: OperatorTokens,
          ...problems("token_revoked", "token_expired", "refresh_reused"),
        },
      },
    },
    async (request) => {
      const context = operatorContextOf(request, services);
      const result = await pool.transaction((admin) =>
        refreshOperatorSession(admin.query, context, request.body.refresh),
      );
      if (result instanceof AppError) throw result;
      return tokensFor(result);
    },
  );

  app.post(
    "/logout/",
    {
      config: { guard: "operator-setup" },
      schema: {
        operationId: "logOutOperator",
        tags,
        summary: "Log out as an operator",
        description: "The login ends at once, with every support token of the operator.",
        response: { 205: z.undefined().meta({ description: "Logged out." }) },
      },
    },
    async (request, reply) => {
      const { operator } = request;
      await pool.transaction(async (admin) => {
        await endOperatorSession(admin.query, operator.id, operator.sessionId);
        await recordOperatorAction(admin.query, {
          action: "LOGOUT",
          operator,
          client: operator.client,
          metadata: { session: operator.sessionId },
        });
      });
      return reply.code(205).send();
    },
  );

  app.post(
    "/2fa/enable/",
    {
      config: { guard: "operator-setup" },
      schema: {
        operationId: "enableOperatorSecondFactor",
        tags,
        summary: "Begin to use an authenticator app",
        description: "In force once `2fa/confirm/` has seen a code. Compulsory in production.",
        body: OperatorPasswordRequest,
        response: { 200: OperatorEnrolmentAnswer, ...problems("invalid_credentials", "conflict") },
      },
    },
    async (request) => {
      const { operator } = request;
      const context = operatorContextOf(request, services);
      await confirmOperatorPassword(pool, passwords, context, operator, request.body.password);
      return pool.transaction((admin) => enrolOperator(admin, context, operator.id));
    },
  );

  app.post(
    "/2fa/confirm/",
    {
      config: { guard: "operator-setup", example: { message: "The second factor is on." } },
      schema: {
        operationId: "confirmOperatorSecondFactor",
        tags,
        summary: "Turn an operator's second factor on with its first code",
        description: "From now on every login asks for a code.",
        body: ConfirmSecondFactorRequest,
        response: { 200: MessageAnswer, ...problems("invalid_2fa_code", "conflict") },
      },
    },
    async (request) => {
      const context = operatorContextOf(request, services);
      const refusal = await pool.transaction((admin) =>
        confirmOperator(admin, context, request.operator.id, request.body.code),
      );
      if (refusal) throw refusal;
      return { message: "The second factor is on." };
    },
  );
};
