import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { contextOf } from "../plugins/authentication.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { finishChallenge, resendChallenge } from "./login-challenges.ts";
import { login } from "./login.ts";
import {
  ChallengeBackupRequest,
  ChallengeCodeRequest,
  ChallengeResendRequest,
  LoggedInAnswer,
  LoginAnswer,
  LoginRequest,
  MessageAnswer,
  RefreshRequest,
  Tokens,
} from "./schemas.ts";
import { logout, refreshSession } from "./sessions.ts";
import { lifetimesOf, loggedInAnswer, tokensFor } from "./token-answers.ts";

/** Login with its second step, refresh, logout. */
export const loginRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { passwords } = services;
  const tags = ["Authentication"];

  /** The answer to a second step. A refused code is counted, so it is thrown after the commit. */
  async function finishLogin(
    request: FastifyRequest,
    step: Parameters<typeof finishChallenge>[2],
  ): Promise<z.infer<typeof LoggedInAnswer>> {
    const context = contextOf(request, services);
    const result = await request.tenant.transaction((tx) =>
      finishChallenge(tx, context, step, lifetimesOf(services)),
    );
    if (result instanceof AppError) throw result;
    return loggedInAnswer(app, services, request.tenantInfo.id, result);
  }

  app.post(
    "/login/",
    {
      config: { guard: "public", limits: ["login"] },
      schema: {
        operationId: "logIn",
        tags,
        summary: "Log in",
        description:
          "With a second factor on, the answer is not the tokens but `requires_2fa` and a `session_id` for the second step. An unknown identifier, a wrong password and a locked account are answered alike. Five wrong passwords from one network lock the account for that network for 30 minutes.",
        body: LoginRequest,
        response: {
          200: LoginAnswer,
          ...problems(
            "validation_error",
            "captcha_failed",
            "invalid_credentials",
            "account_disabled",
            "overloaded",
            "not_ready",
          ),
        },
      },
    },
    async (request) => {
      const { identifier, password, remember_me: isRemembered = false } = request.body;
      const context = contextOf(request, services);
      await services.turnstile?.verify(request.body.cf_turnstile_response, context.client.ip);
      const result = await login(
        request.tenant,
        passwords,
        context,
        { identifier, password, isRemembered },
        lifetimesOf(services),
      );
      return "sessionId" in result
        ? { requires_2fa: true as const, session_id: result.sessionId, method: result.method }
        : loggedInAnswer(app, services, request.tenantInfo.id, result);
    },
  );

  app.post(
    "/login-2fa-verify-code/",
    {
      config: { guard: "public", limits: ["otpVerify"] },
      schema: {
        operationId: "verifyLoginCode",
        tags,
        summary: "Finish a login with a code",
        description:
          "A code of the authenticator app or the SMS. Each is accepted once. Five wrong ones in a row, backup codes and other logins included, and none is accepted for 30 minutes.",
        body: ChallengeCodeRequest,
        response: {
          200: LoggedInAnswer,
          ...problems("validation_error", "invalid_token", "invalid_2fa_code", "account_disabled"),
        },
      },
    },
    (request) => {
      const { session_id: sessionId, code } = request.body;
      return finishLogin(request, { sessionId, code, kind: "code" });
    },
  );

  app.post(
    "/login-2fa-resend/",
    {
      config: {
        guard: "public",
        limits: ["otpSend"],
        example: { message: "A new code is on its way." },
      },
      schema: {
        operationId: "resendLoginCode",
        tags,
        summary: "Ask for another code by SMS during a login",
        description: "The older code stops working; wrong codes stay counted.",
        body: ChallengeResendRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_token", "conflict"),
        },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        resendChallenge(tx, contextOf(request, services), request.body.session_id),
      );
      return { message: "A new code is on its way." };
    },
  );

  app.post(
    "/login-2fa-verify-backup/",
    {
      config: { guard: "public", limits: ["otpVerify"] },
      schema: {
        operationId: "verifyLoginBackupCode",
        tags,
        summary: "Finish a login with a backup code",
        description: "Each works once. Wrong ones count with wrong codes of the app and the SMS.",
        body: ChallengeBackupRequest,
        response: {
          200: LoggedInAnswer,
          ...problems("validation_error", "invalid_token", "invalid_2fa_code", "account_disabled"),
        },
      },
    },
    (request) => {
      const { session_id: sessionId, backup_code: code } = request.body;
      return finishLogin(request, { sessionId, code, kind: "backup" });
    },
  );

  app.post(
    "/token/refresh/",
    {
      config: { guard: "public", limits: ["refresh"] },
      schema: {
        operationId: "refreshTokens",
        tags,
        summary: "Exchange a refresh token",
        description:
          "The token rotates. A client that lost the answer may show the one before within 30 seconds and gets the current one; an older one ends the login.",
        body: RefreshRequest,
        response: {
          200: Tokens,
          ...problems("validation_error", "token_revoked", "token_expired", "refresh_reused"),
        },
      },
    },
    async (request, reply) => {
      const refreshed = await request.tenant.transaction((tx) =>
        refreshSession(tx, contextOf(request, services), request.body.refresh),
      );
      if (refreshed instanceof AppError) {
        await app.limits.countAnonymous(request, reply);
        throw refreshed;
      }
      return tokensFor(app, services, request.tenantInfo.id, refreshed.userId, refreshed);
    },
  );

  app.post(
    "/logout/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "logOut",
        tags,
        summary: "Log out",
        description:
          "Ends the login: the access token stops working within a second everywhere. Another user's refresh token is not touched.",
        body: RefreshRequest,
        response: {
          205: z.undefined().meta({ description: "Logged out." }),
          ...problems("validation_error"),
        },
      },
    },
    async (request, reply) => {
      const { userId, sessionId } = request.principal;
      await request.tenant.transaction((tx) =>
        logout(tx, contextOf(request, services), {
          userId,
          sessionId,
          refresh: request.body.refresh,
        }),
      );
      services.principals.revoke(`${request.tenantInfo.id}:${userId}`);
      return reply.code(205).send();
    },
  );
};
