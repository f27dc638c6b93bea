import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { AppError } from "../errors.ts";
import { contextOf } from "../plugins/authentication.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { refuseGuessable } from "./password-rules.ts";
import {
  FinalizeAnswer,
  FinalizeRequest,
  MessageAnswer,
  ResendOtpRequest,
  SignupAnswer,
  SignupRequest,
  VerifyOtpAnswer,
  VerifyOtpRequest,
} from "./schemas.ts";
import { startSession } from "./sessions.ts";
import {
  findVerifiedSignup,
  finishSignup,
  invalidVerification,
  resendOtp,
  startSignup,
  verifyOtp,
} from "./signup.ts";
import { tokensFor } from "./token-answers.ts";

/** Sign-up by a code sent to a phone. */
export const signupRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const { config, passwords } = services;
  const tags = ["Authentication"];

  app.post(
    "/signup/",
    {
      config: { guard: "public", limits: ["otpSend"] },
      schema: {
        operationId: "signUp",
        tags,
        summary: "Sign up: begin",
        description:
          "Sends a code of six digits by SMS, good for 10 minutes. The answer is the same whether or not the number has an account; one that has gets a message that says so, and no code.",
        body: SignupRequest,
        response: {
          201: SignupAnswer,
          ...problems("validation_error", "captcha_failed", "not_ready"),
        },
      },
    },
    async (request, reply) => {
      const context = contextOf(request, services);
      await services.turnstile?.verify(request.body.cf_turnstile_response, context.client.ip);
      const { full_name: fullName, primary_mobile: phone } = request.body;
      await request.tenant.transaction((tx) => startSignup(tx, context, { fullName, phone }));
      return reply
        .code(201)
        .send({ message: "We have sent a code by SMS.", primary_mobile: phone });
    },
  );

  app.post(
    "/verify-otp/",
    {
      config: { guard: "public", limits: ["otpVerify"] },
      schema: {
        operationId: "verifyOtp",
        tags,
        summary: "Sign up: enter the code",
        description:
          "The code proves that the number is the caller's; `verification_token` carries that proof to `finalize-signin/`. After three wrong codes from one network, that network can neither enter nor get a code for this number for 15 minutes.",
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
      config: {
        guard: "public",
        limits: ["otpSend"],
        example: { message: "If a sign-up was begun with this number, a new code is on its way." },
      },
      schema: {
        operationId: "resendOtp",
        tags,
        summary: "Sign up: ask for another code",
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
      config: { guard: "public", limits: ["finalize"] },
      schema: {
        operationId: "finalizeSignUp",
        tags,
        summary: "Sign up: finish",
        description:
          "Needs the proof that the number was verified, and logs the new user in. A link to verify the e-mail address goes out. An address somebody claimed but did not verify within 24 hours can be taken.",
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
      const signup = await request.tenant.transaction((tx) =>
        findVerifiedSignup(tx, { phone, token }),
      );
      if (!signup) throw invalidVerification();
      const person = { full_name: signup.full_name, email, primary_mobile: phone };
      await refuseGuessable("password", password, person);
      const passwordHash = await passwords.hash(password, context.tenantId);
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
};
