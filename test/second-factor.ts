import { Secret, TOTP } from "otpauth";
import { vi } from "vitest";
import { EnableSecondFactorAnswer, LoggedInAnswer, LoginAnswer } from "../src/auth/schemas.ts";
import {
  type CallOptions,
  codeIn,
  type SignedUpUser,
  type TestApp,
  type TestResponse,
  type TestTenant,
} from "./app.ts";

const STEP_MS = 30_000;

/**
 * Stops Date.now() in the middle of a 30-second step of authenticator apps, so that no test meets the
 * end of one; `vi.restoreAllMocks` lets it go on.
 */
export function stopClock(): void {
  const middle = Math.floor(Date.now() / STEP_MS) * STEP_MS + STEP_MS / 2;
  vi.spyOn(Date, "now").mockReturnValue(middle);
}

/** Moves a stopped clock on, to the next code of every authenticator app. */
export function nextStep(): void {
  vi.spyOn(Date, "now").mockReturnValue(Date.now() + STEP_MS);
}

/** What an authenticator app shows, some steps of 30 seconds from now. */
export function totpCode(secret: string, steps = 0): string {
  const totp = new TOTP({ secret: Secret.fromBase32(secret) });
  return totp.generate({ timestamp: Date.now() + steps * STEP_MS });
}

/** A code that an app shows at none of the steps that could be accepted. */
export function wrongTotpCode(secret: string): string {
  const shown = [-2, -1, 0, 1, 2].map((steps) => totpCode(secret, steps));
  const wrong = ["000000", "111111", "222222", "333333", "444444", "555555"];
  return wrong.find((code) => !shown.includes(code)) ?? "666666";
}

/** A user whose second factor is on, and what they wrote down. */
export interface ProtectedUser extends SignedUpUser {
  /** Empty with SMS. */
  readonly secret: string;
  readonly backupCodes: readonly string[];
}

/** The calls of a second factor to one app, as one tenant. */
export interface SecondFactorCalls {
  readonly enable: (
    user: SignedUpUser,
    method: "totp" | "sms",
    password?: string,
  ) => Promise<TestResponse>;
  readonly confirm: (user: SignedUpUser, code: string) => Promise<TestResponse>;
  readonly disable: (
    user: SignedUpUser,
    code: string,
    password?: string,
    options?: CallOptions,
  ) => Promise<TestResponse>;
  readonly reissue: (user: SignedUpUser, password?: string) => Promise<TestResponse>;
  readonly sendCode: (user: SignedUpUser) => Promise<TestResponse>;
  readonly logIn: (
    user: SignedUpUser,
    options?: CallOptions & { remember?: boolean },
  ) => Promise<TestResponse>;
  /** Logs in with the password; gives the id of the second step. */
  readonly challenge: (user: SignedUpUser, from?: string) => Promise<string>;
  readonly verify: (sessionId: string, code: string, from?: string) => Promise<TestResponse>;
  readonly backup: (sessionId: string, code: string, from?: string) => Promise<TestResponse>;
  readonly resend: (sessionId: string) => Promise<TestResponse>;
  /** A new user with an authenticator app, at a step whose code was not used yet. Needs {@link stopClock}. */
  readonly totpUser: () => Promise<ProtectedUser>;
  /** A new user with codes by SMS, whose messages so far were read. */
  readonly smsUser: () => Promise<ProtectedUser>;
}

export function secondFactorCalls(api: TestApp, tenant: TestTenant): SecondFactorCalls {
  const post = (path: string, body?: object, options?: CallOptions) =>
    api.client(tenant).post(`/api/auth/${path}/`, body, options);
  const from = (address?: string) => (address === undefined ? {} : { remoteAddress: address });

  const calls: SecondFactorCalls = {
    enable: ({ access, password: own }, method, password = own) =>
      post("settings_enable-2fa", { method, password }, { token: access }),
    confirm: ({ access }, code) => post("settings_confirm-2fa", { code }, { token: access }),
    disable: ({ access, password: own }, code, password = own, options = {}) =>
      post("settings_disable-2fa", { password, code }, { token: access, ...options }),
    reissue: ({ access, password: own }, password = own) =>
      post("settings_backup-codes", { password }, { token: access }),
    sendCode: ({ access }) => post("settings_send-2fa-code", undefined, { token: access }),
    logIn: ({ user, password }, { remember, ...options } = {}) =>
      post(
        "login",
        {
          identifier: user.username,
          password,
          ...(remember === undefined ? {} : { remember_me: remember }),
        },
        options,
      ),
    challenge: async (user, address) => sessionIdIn(await calls.logIn(user, from(address))),
    verify: (sessionId, code, address) =>
      post("login-2fa-verify-code", { session_id: sessionId, code }, from(address)),
    backup: (sessionId, code, address) =>
      post("login-2fa-verify-backup", { session_id: sessionId, backup_code: code }, from(address)),
    resend: (sessionId) => post("login-2fa-resend", { session_id: sessionId }),
    totpUser: async () => {
      const user = await api.signUp(tenant);
      const { body } = await calls.enable(user, "totp");
      const { secret, backup_codes: backupCodes } = EnableSecondFactorAnswer.parse(body);
      if (secret === null) throw new Error("No secret was given");
      await done(calls.confirm(user, totpCode(secret)));
      await api.nextSms(user.user.primary_mobile);
      nextStep();
      return { ...user, secret, backupCodes };
    },
    smsUser: async () => {
      const user = await api.signUp(tenant);
      const phone = user.user.primary_mobile;
      const { body } = await calls.enable(user, "sms");
      const { backup_codes: backupCodes } = EnableSecondFactorAnswer.parse(body);
      await done(calls.confirm(user, codeIn(await api.nextSms(phone))));
      await api.nextSms(phone);
      return { ...user, secret: "", backupCodes };
    },
  };
  return calls;
}

async function done(call: Promise<TestResponse>): Promise<void> {
  const { status, body } = await call;
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`);
}

/** The id of the second step that an answer to a login names. */
export function sessionIdIn({ body }: TestResponse): string {
  const answer = LoginAnswer.parse(body);
  if (!("session_id" in answer)) throw new Error("No second factor was asked for");
  return answer.session_id;
}

/** The tokens of a login that is done. */
export function tokensIn({ body }: TestResponse): { access: string; refresh: string } {
  return LoggedInAnswer.parse(body).tokens;
}

/** An answer's status and body without what differs from request to request. */
export function refusalIn({ status, body }: TestResponse): object {
  // A problem (RFC 9457), or something that the comparison then shows.
  const { request_id: _, ...rest } = body as { request_id?: string };
  return { status, ...rest };
}
