import { Stored } from "./stored.ts";

/** Who is logged in, and by what. */
export interface OperatorSession {
  readonly email: string;
  readonly access: string;
  readonly refresh: string;
  /** When the access token ends, in ms since 1970, by this machine's clock. */
  readonly expiresAt: number;
  /** Whether a code was asked for at login. */
  readonly hasSecondFactor: boolean;
}

/** What the API answers a login and a refresh. */
export interface Tokens {
  readonly access: string;
  readonly refresh: string;
  readonly expires_in: number;
}

export const operatorSession = new Stored<OperatorSession>("ouvira-operator");

/** A session of what was answered. */
export function sessionOf(
  { access, refresh, expires_in: seconds }: Tokens,
  { email, hasSecondFactor }: Pick<OperatorSession, "email" | "hasSecondFactor">,
): OperatorSession {
  return { email, hasSecondFactor, access, refresh, expiresAt: Date.now() + seconds * 1_000 };
}
