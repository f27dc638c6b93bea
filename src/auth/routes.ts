import type { FastifyInstance } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { contextOf } from "../plugins/authentication.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { AppError } from "../errors.ts";
import { login } from "./login.ts";
import { invalidResetToken, isResetToken, resetPassword } from "./password-reset.ts";
import {
  FinalizeAnswer,
  FinalizeRequest,
  LoginAnswer,
  LoginRequest,
  MessageAnswer,
  PasswordResetRequest,
  RefreshRequest,
  ResendOtpRequest,
  SignupAnswer,
  SignupRequest,
  Tokens,
  VerifyOtpAnswer,
  VerifyOtpRequest,
} from "./schemas.ts";
import { logout, refreshSession, startSession, type StartedSession } from "./sessions.ts";
import {
  finishSignup,
  invalidVerification,
  isVerified,
  resendOtp,
  startSignup,
  verifyOtp,
} from "./signup.ts";

/** Sign-up by a code sent to a phone, login, tokens, logout. */
export const authRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { config, passwords } = services;
  const tags = ["Authentication"];

  app.post(
    "/signup/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "signUp",
        tags,
        summary: "Begin a sign-up",
        description:
          "Sends a code of six digits by SMS, good for 10 minutes. The answer is the same whether or not the number has an account; one that has gets a message that says so, and no code.",
        body: SignupRequest,
        response: { 201: SignupAnswer, ...problems("validation_error") },
      },
    },
    async (request, reply) => {
      const { full_name: fullName, primary_mobile: phone } = request.body;
      await request.tenant.transaction((tx) =>
        startSignup(tx, contextOf(request, services), { fullName, phone }),
      );
      return reply
        .code(201)
        .send({ message: "We have sent a code by SMS.", primary_mobile: phone });
    },
  );

  app.post(
    "/verify-otp/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "verifyOtp",
        tags,
        summary: "Enter the code",
        description:
          "Answers with the proof that finishes the sign-up. After three wrong codes the code is dead and the number blocked for 15 minutes.",
        body: VerifyOtpRequest,
        response: {
          200: VerifyOtpAnswer,
          ...problems("validation_error", "invalid_otp", "otp_expired"),
        },
      },
    },
    async (request) => {
      const { primary_mobile: phone, otp } = request.body;
      const token = await request.tenant.transaction((tx) =>
        verifyOtp(tx, contextOf(request, services), { phone, otp }),
      );
      if (token instanceof AppError) throw token;
      return {
        message: "The number is verified. Finish the sign-up within 15 minutes.",
        primary_mobile: phone,
        verification_token: token,
      };
    },
  );

  app.post(
    "/resent-otp/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "resendOtp",
        tags,
        summary: "Ask for another code",
        description:
          "The older code stops working. The same answer for numbers that never signed up.",
        body: ResendOtpRequest,
        response: { 200: MessageAnswer, ...problems("validation_error") },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        resendOtp(tx, contextOf(request, services), request.body.primary_mobile),
      );
      return { message: "If a sign-up was begun with this number, a new code is on its way." };
    },
  );

  app.post(
    "/finalize-signin/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "finalizeSignup",
        tags,
        summary: "Finish a sign-up",
        description:
          "Needs the proof that the number was verified, and logs the new user in. An address somebody claimed but did not verify within 24 hours can be taken.",
        body: FinalizeRequest,
        response: {
          201: FinalizeAnswer,
          ...problems("validation_error", "invalid_token", "conflict", "overloaded"),
        },
      },
    },
    async (request, reply) => {
      const { primary_mobile: phone, verification_token: token, email, password } = request.body;
      const context = contextOf(request, services);
      if (!(await request.tenant.transaction((tx) => isVerified(tx, { phone, token })))) {
        throw invalidVerification();
      }
      const passwordHash = await passwords.hash(password);
      const { user, session } = await request.tenant.transaction(async (tx) => {
        const created = await finishSignup(tx, context, { phone, token, email, passwordHash });
        const started = await startSession(tx, context, created.id, config.refreshTokenSeconds);
        return { user: created, session: started };
      });
      return reply.code(201).send({
        message: "Your account is ready.",
        tokens: tokensFor(app, services, request.tenantInfo.id, user.id, session),
        user,
      });
    },
  );

  app.post(
    "/login/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "logIn",
        tags,
        summary: "Log in",
        description:
          "An unknown identifier, a wrong password and a locked account are answered alike. Five wrong passwords from one network lock the account for that network for 30 minutes.",
        body: LoginRequest,
        response: {
          200: LoginAnswer,
          ...problems("validation_error", "invalid_credentials", "account_disabled", "overloaded"),
        },
      },
    },
    async (request) => {
      const { identifier, password, remember_me: isRemembered = false } = request.body;
      const { user, session } = await login(
        request.tenant,
        passwords,
        contextOf(request, services),
        { identifier, password, isRemembered },
        isRemembered ? config.refreshTokenRememberedSeconds : config.refreshTokenSeconds,
      );
      return { tokens: tokensFor(app, services, request.tenantInfo.id, user.id, session), user };
    },
  );

  app.post(
    "/token/refresh/",
    {
      config: { guard: "public" },
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
    async (request) => {
      const refreshed = await request.tenant.transaction((tx) =>
        refreshSession(tx, contextOf(request, services), request.body.refresh),
      );
      if (refreshed instanceof AppError) throw refreshed;
      return tokensFor(app, services, request.tenantInfo.id, refreshed.userId, refreshed);
    },
  );

  app.post(
    "/logout/",
    {
      config: { guard: "authenticated" },
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

  app.post(
    "/password/reset/",
    {
      config: { guard: "public" },
      schema: {
        operationId: "resetPassword",
        tags,
        summary: "Set a password with the token of a link",
        description: "The token works once. Every login of the user ends.",
        body: PasswordResetRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_token", "overloaded"),
        },
      },
    },
    async (request) => {
      const { token, password } = request.body;
      if (!(await request.tenant.transaction((tx) => isResetToken(tx, token))))
        throw invalidResetToken();
      const passwordHash = await passwords.hash(password);
      await request.tenant.transaction((tx) =>
        resetPassword(tx, contextOf(request, services), { token, passwordHash }),
      );
      return { message: "The password is set. Log in with it." };
    },
  );
};

function tokensFor(
  app: FastifyInstance,
  { config }: Services,
  tenantId: number,
  userId: number,
  session: StartedSession,
): z.infer<typeof Tokens> {
  return {
    access: app.signAccessToken(tenantId, userId, session.id),
    refresh: session.refresh,
    expires_in: config.accessTokenSeconds,
  };
}
