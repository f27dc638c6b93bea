import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import type { Services } from "../services.ts";
import type { LoggedIn } from "./completed-login.ts";
import type { LoggedInAnswer, Tokens } from "./schemas.ts";
import type { SessionLifetimes, StartedSession } from "./sessions.ts";

/** The tokens of a login, as clients get them. */
export function tokensFor(
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

/** The answer to whatever finishes a login. */
export function loggedInAnswer(
  app: FastifyInstance,
  services: Services,
  tenantId: number,
  { user, session }: LoggedIn,
): z.infer<typeof LoggedInAnswer> {
  return { tokens: tokensFor(app, services, tenantId, user.id, session), user };
}

export function lifetimesOf({ config }: Services): SessionLifetimes {
  return {
    seconds: config.refreshTokenSeconds,
    rememberedSeconds: config.refreshTokenRememberedSeconds,
  };
}
