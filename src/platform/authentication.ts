import fastifyJwt from "@fastify/jwt";
import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { ClientDetails } from "../audit/security-log.ts";
import { AppError } from "../errors.ts";
import { keyId } from "../keys.ts";
import {
  ALGORITHM,
  bearerToken,
  clientOf,
  ISSUER,
  keyIdOf,
  TOKEN_TYPE,
  validFrom,
} from "../plugins/authentication.ts";
import type { Services } from "../services.ts";
import { type OperatorContext, type Platform, PLATFORM_ID } from "./context.ts";
import { findSessionOperator } from "./operator-sessions.ts";
import type { Operator } from "./operators.ts";

/** An operator who calls. */
export interface CallingOperator extends Operator {
  readonly sessionId: number;
  readonly client: ClientDetails;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Who is calling. Only below `/api/platform/`, behind a guard other than `public`. */
    operator: CallingOperator;
  }
  interface FastifyInstance {
    /** An access token for an operator's login. Only below `/api/platform/`. */
    signOperatorToken(operatorId: number, sessionId: number): string;
  }
}

const AUDIENCE = "ouvira-platform";

/** How long an operator's access token is good, in seconds; its login is asked for with every request. */
export const OPERATOR_TOKEN_SECONDS = 600;

/**
 * Operators' tokens: of another key and audience than users'. Whether the login behind one is alive is asked of
 * the database every time: operators are few, and one who is locked out is locked out now.
 */
export const operatorAuthenticationPlugin = fastifyPlugin<{
  services: Services;
  platform: Platform;
}>(async (app: FastifyInstance, { services: { config, keys }, platform }) => {
  const key = keys.of("operator-token");
  const kid = keyId(key);
  await app.register(fastifyJwt, {
    secret: key,
    sign: {
      algorithm: ALGORITHM,
      iss: ISSUER,
      aud: AUDIENCE,
      expiresIn: `${OPERATOR_TOKEN_SECONDS}s`,
    },
    verify: {
      algorithms: [ALGORITHM],
      allowedIss: ISSUER,
      allowedAud: AUDIENCE,
      checkTyp: TOKEN_TYPE,
      requiredClaims: ["iss", "aud", "sub", "tid", "sid", "exp", "nbf"],
    },
  });
  app.decorateRequest("operator");

  app.decorate("signOperatorToken", (operatorId: number, sessionId: number) =>
    app.jwt.sign(
      {
        sub: String(operatorId),
        tid: PLATFORM_ID,
        sid: sessionId,
        nbf: validFrom(),
      },
      { header: { alg: ALGORITHM, kid, typ: TOKEN_TYPE } },
    ),
  );

  function verify(request: FastifyRequest): { sid: number } {
    const token = bearerToken(request);
    try {
      if (keyIdOf(token) === kid) return app.jwt.verify<{ sid: number }>(token);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "FAST_JWT_EXPIRED") {
        throw new AppError("token_expired", "The access token has expired.");
      }
    }
    throw new AppError("authentication_required", "The access token is not an operator's.");
  }

  app.addHook("onRequest", async (request, reply) => {
    const { guard, limits } = request.routeOptions.config;
    if (guard === "public") {
      await app.limits.countAnonymous(request, reply);
      if (limits) await app.limits.countByNetwork(request, reply);
      return;
    }
    try {
      const { sid } = verify(request);
      const operator = await platform.pool.use((admin) => findSessionOperator(admin.query, sid));
      if (!operator) throw new AppError("token_revoked", "This login has ended. Log in again.");
      request.operator = { ...operator, sessionId: sid, client: clientOf(request) };
    } catch (error) {
      // Without a token that is accepted a caller is anybody, who may not try for ever.
      const isRefused = error instanceof AppError && error.statusCode < 500;
      if (isRefused) await app.limits.countAnonymous(request, reply);
      throw error;
    }
    const needsFactor = guard === "operator" && config.appEnv === "production";
    if (needsFactor && !request.operator.has_second_factor) {
      throw new AppError(
        "permission_denied",
        "Turn the second factor on first: 2fa/enable/, then 2fa/confirm/.",
      );
    }
  });
});

/** What functions for operators need of a request. */
export function operatorContextOf(
  request: FastifyRequest,
  { keys }: Pick<Services, "keys">,
): OperatorContext {
  return { keys, client: clientOf(request) };
}
