import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { contextOf } from "../plugins/authentication.ts";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import type { TenantSql } from "../db/transactions.ts";
import { confirmPassword } from "./password-check.ts";
import {
  BackupCodesAnswer,
  BackupCodesRequest,
  ConfirmSecondFactorRequest,
  DisableSecondFactorRequest,
  EnableSecondFactorAnswer,
  EnableSecondFactorRequest,
  MessageAnswer,
} from "./schemas.ts";
import {
  confirmSecondFactor,
  disableSecondFactor,
  enrolSecondFactor,
  reissueBackupCodes,
  sendSettingsCode,
} from "./second-factor-settings.ts";
import type { Account } from "./users.ts";

/** Turning the second factor of a login on and off. */
export const secondFactorRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  const tags = ["Authentication"];

  /** Runs `work` in a transaction once the caller's password is confirmed. */
  async function withPassword<T>(
    request: FastifyRequest,
    password: string,
    work: (tx: TenantSql, user: Account) => Promise<T>,
  ): Promise<T> {
    const context = contextOf(request, services);
    const { userId } = request.principal;
    const { tenant } = request;
    const user = await confirmPassword(tenant, services.passwords, context, userId, password);
    return tenant.transaction((tx) => work(tx, user));
  }

  app.post(
    "/settings_enable-2fa/",
    {
      config: { guard: "own-account", limits: ["otpVerify"] },
      schema: {
        operationId: "enableSecondFactor",
        tags,
        summary: "Begin to turn the second factor on",
        description:
          "Needs the password. With `totp`, show `qr_code` and let the user enter a code of the app; with `sms`, a code goes out to their number. It takes effect with `settings_confirm-2fa/`; until then it can be begun again. The backup codes are shown once.",
        body: EnableSecondFactorRequest,
        response: {
          200: EnableSecondFactorAnswer,
          ...problems("validation_error", "invalid_credentials", "conflict", "overloaded"),
        },
      },
    },
    (request) => {
      const { method, password } = request.body;
      const issuer = request.tenantInfo.subdomain;
      return withPassword(request, password, (tx, user) =>
        enrolSecondFactor(tx, contextOf(request, services), user, { method, issuer }),
      );
    },
  );

  app.post(
    "/settings_confirm-2fa/",
    {
      config: {
        guard: "own-account",
        limits: ["otpVerify"],
        example: { message: "Two-factor login is on." },
      },
      schema: {
        operationId: "confirmSecondFactor",
        tags,
        summary: "Turn the second factor on with its first code",
        description: "From now on a login needs a code.",
        body: ConfirmSecondFactorRequest,
        response: {
          200: MessageAnswer,
          ...problems("validation_error", "invalid_2fa_code", "conflict"),
        },
      },
    },
    async (request) => {
      const { userId } = request.principal;
      const refusal = await request.tenant.transaction((tx) =>
        confirmSecondFactor(tx, contextOf(request, services), userId, request.body.code),
      );
      if (refusal) throw refusal;
      return { message: "Two-factor login is on." };
    },
  );

  app.post(
    "/settings_send-2fa-code/",
    {
      config: {
        guard: "own-account",
        limits: ["otpSend"],
        example: { message: "A code is on its way." },
      },
      schema: {
        operationId: "sendSecondFactorCode",
        tags,
        summary: "Ask for a code by SMS, to confirm a change with",
        description:
          "For users whose codes come by SMS: to confirm the number again, or before `settings_disable-2fa/`. The older code stops working.",
        response: { 200: MessageAnswer, ...problems("conflict") },
      },
    },
    async (request) => {
      await request.tenant.transaction((tx) =>
        sendSettingsCode(tx, contextOf(request, services), request.principal.userId),
      );
      return { message: "A code is on its way." };
    },
  );

  app.post(
    "/settings_disable-2fa/",
    {
      config: {
        guard: "own-account",
        limits: ["otpVerify"],
        example: { message: "Two-factor login is off." },
      },
      schema: {
        operationId: "disableSecondFactor",
        tags,
        summary: "Turn the second factor off",
        description:
          "Needs the password and a code: of the app, of an SMS (`settings_send-2fa-code/`), or a backup code.",
        body: DisableSecondFactorRequest,
        response: {
          200: MessageAnswer,
          ...problems(
            "validation_error",
            "invalid_credentials",
            "invalid_2fa_code",
            "conflict",
            "overloaded",
          ),
        },
      },
    },
    async (request) => {
      const { password, code } = request.body;
      const refusal = await withPassword(request, password, (tx, { id }) =>
        disableSecondFactor(tx, contextOf(request, services), id, code),
      );
      if (refusal) throw refusal;
      return { message: "Two-factor login is off." };
    },
  );

  app.post(
    "/settings_backup-codes/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "reissueBackupCodes",
        tags,
        summary: "Make new backup codes",
        description:
          "Needs the password. The older ones stop working; the new ones are shown once.",
        body: BackupCodesRequest,
        response: {
          200: BackupCodesAnswer,
          ...problems("validation_error", "invalid_credentials", "conflict", "overloaded"),
        },
      },
    },
    async (request) => {
      const codes = await withPassword(request, request.body.password, (tx, { id }) =>
        reissueBackupCodes(tx, contextOf(request, services), id),
      );
      return { backup_codes: codes };
    },
  );
};
