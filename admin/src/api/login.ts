import { IS_SECOND_FACTOR_COMPULSORY } from "../page-facts.ts";
import { operatorSession, sessionOf, type Tokens } from "./operator-session.ts";
import { callPlatform } from "./requests.ts";

/** What comes after the password. */
export type AfterPassword =
  | { readonly next: "done" }
  /** The code of the authenticator app. */
  | { readonly next: "code"; readonly challenge: string }
  /** This installation lets nobody in without a second factor. */
  | { readonly next: "enrolment" };

/** First step of a login. @throws ApiError */
export async function logIn(email: string, password: string): Promise<AfterPassword> {
  operatorSession.set(undefined);
  const answer = await callPlatform<
    { tokens: Tokens } | { requires_2fa: true; session_id: string }
  >("POST", "login/", { email, password });
  if (!("tokens" in answer)) return { next: "code", challenge: answer.session_id };
  operatorSession.set(sessionOf(answer.tokens, { email, hasSecondFactor: false }));
  return { next: IS_SECOND_FACTOR_COMPULSORY ? "enrolment" : "done" };
}

/** Second step of a login. @throws ApiError */
export async function finishLogIn(email: string, challenge: string, code: string): Promise<void> {
  const { tokens } = await callPlatform<{ tokens: Tokens }>("POST", "login-2fa-verify-code/", {
    session_id: challenge,
    code,
  });
  operatorSession.set(sessionOf(tokens, { email, hasSecondFactor: true }));
}

/** What is entered into an authenticator app. */
export interface Enrolment {
  readonly secret: string;
  /** An `otpauth://` address. */
  readonly qr_code: string;
}

/** @throws ApiError */
export function beginSecondFactor(password: string): Promise<Enrolment> {
  return callPlatform("POST", "2fa/enable/", { password });
}

/** @throws ApiError */
export async function confirmSecondFactor(code: string): Promise<void> {
  await callPlatform("POST", "2fa/confirm/", { code });
  const session = operatorSession.get();
  if (session) operatorSession.set({ ...session, hasSecondFactor: true });
}
