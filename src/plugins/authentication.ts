import fastifyJwt from "@fastify/jwt";
import type { FastifyInstance, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { z } from "zod";
import { OPERATOR_USER_ID } from "../audit/actor.ts";
import type { ClientDetails } from "../audit/security-log.ts";
import type { Principal } from "../auth/principals.ts";
import type { Context } from "../auth/context.ts";
import { AppError } from "../errors.ts";
import { keyId } from "../keys.ts";
import { addressOf } from "../networks.ts";
import { findSupportSession } from "../platform/support-tokens.ts";
import type { Services } from "../services.ts";
import { VerifiedTokens } from "./verified-tokens.ts";

/** What an access token says (RFC 9068, RFC 7519): short names, it travels with every request. */
interface AccessClaims {
  /** The user's id. */
  sub: string;
  /** The tenant's id. */
  tid: number;
  /** The login it belongs to. */
  sid: number;
  aud: string;
  exp: number;
  nbf: number;
}

declare module "@fastify/jwt" {
  interface FastifyJWT {
    payload: Omit<AccessClaims, "aud" | "exp">;
    user: AccessClaims;
  }
}

declare module "fastify" {
  interface FastifyRequest {
    /** Who is calling. Only behind a guard other than `public`. */
    principal: Principal;
    /** When the caller's access token expires. Only behind a guard other than `public`. */
    tokenExpiresAt: Date;
  }
  interface FastifyInstance {
    /** An access token for a login. */
    signAccessToken(tenantId: number, userId: number, sessionId: number): string;
    /** Checks the request's token and the login behind it; fills `principal`. */
    authenticate(request: FastifyRequest): Promise<void>;
  }
}

export const ALGORITHM = "HS256";
export const ISSUER = "ouvira";
const AUDIENCE = "ouvira-api";
/** Of tokens with which operators of the platform act in a tenant. */
const SUPPORT_AUDIENCE = "ouvira-support";
/** RFC 9068 §2.1: no other kind of token is ever taken for an access token. */
export const TOKEN_TYPE = "at+jwt";
/** Verified tokens remembered, each some 400 bytes. */
const VERIFIED_TOKENS_MAX = 5_000;

/**
 * How far the clocks of two processes may be apart: a token of the one that is ahead is taken by the
 * other at once (RFC 7519 §4.1.5 allows for a few minutes).
 */
const CLOCKS_APART_SECONDS = 30;

/** The `nbf` of a token that is made now. */
export function validFrom(): number {
  return Math.floor(Date.now() / 1_000) - CLOCKS_APART_SECONDS;
}

/** Access tokens: signed here, checked here, bound to one tenant and to a login that is alive. */
export const authenticationPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    const { config, database, keys, principals } = services;
    const key = keys.of("access-token");
    const kid = keyId(key);
    const supportKey = keys.of("support-token");
    const supportKid = keyId(supportKey);
    const previousKey = keys.previousOf("access-token");
    const previousKid = previousKey && keyId(previousKey);
    await app.register(fastifyJwt, {
      secret: key,
      sign: {
        algorithm: ALGORITHM,
        iss: ISSUER,
        aud: AUDIENCE,
        expiresIn: `${config.accessTokenSeconds}s`,
      },
      verify: {
        algorithms: [ALGORITHM],
        allowedIss: ISSUER,
        allowedAud: AUDIENCE,
        checkTyp: TOKEN_TYPE,
        // Those that are checked only when they are there, too.
        requiredClaims: ["iss", "aud", "sub", "tid", "sid", "exp", "nbf"],
        // What is remembered, is here: refusals are not, those of a clock that ran ahead would be until it was that late.
        cache: false,
      },
    });
    const verified = new VerifiedTokens<AccessClaims>(VERIFIED_TOKENS_MAX);
    app.decorateRequest("principal");
    app.decorateRequest("tokenExpiresAt");

    app.decorate("signAccessToken", (tenantId: number, userId: number, sessionId: number) =>
      app.jwt.sign(
        { sub: String(userId), tid: tenantId, sid: sessionId, nbf: validFrom() },
        { header: { alg: ALGORITHM, kid, typ: TOKEN_TYPE } },
      ),
    );

    app.decorate("authenticate", async (request: FastifyRequest) => {
      const claims = verify(request);
      if (claims.tid !== request.tenantInfo.id) {
        throw new AppError("token_tenant_mismatch", "This token belongs to another tenant.");
      }
      request.tokenExpiresAt = new Date(claims.exp * 1_000);
      if (claims.aud === SUPPORT_AUDIENCE) {
        request.principal = await supportPrincipal(claims);
        return;
      }
      const principal = await principals.find(claims.tid, Number(claims.sub), claims.sid);
      if (principal === "disabled")
        throw new AppError("account_disabled", "This account is disabled.");
      if (!principal) throw new AppError("token_revoked", "This login has ended. Log in again.");
      request.principal = principal;
    });

    /** Asked of the registry every time: operators are few, and what is ended is ended now. */
    async function supportPrincipal({ tid, sid }: AccessClaims): Promise<Principal> {
      const support = await findSupportSession(database.registry.query, tid, sid);
      if (!support) throw new AppError("token_revoked", "This support token has ended.");
      const { operator_display: display, can_write: canWrite } = support;
      return {
        userId: OPERATOR_USER_ID,
        sessionId: sid,
        isTenantAdmin: true,
        support: { display, canWrite },
      };
    }

    function verify(request: FastifyRequest): AccessClaims {
      const token = bearerToken(request);
      return verified.get(token) ?? verified.keep(token, verifyAnew(token));
    }

    function verifyAnew(token: string): AccessClaims {
      const tokenKid = keyIdOf(token);
      try {
        if (tokenKid === kid) return app.jwt.verify<AccessClaims>(token);
        if (tokenKid === supportKid) {
          return app.jwt.verify<AccessClaims>(token, {
            key: supportKey,
            allowedAud: SUPPORT_AUDIENCE,
          });
        }
        if (previousKey && tokenKid === previousKid) {
          return app.jwt.verify<AccessClaims>(token, { key: previousKey });
        }
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        if (code === "FAST_JWT_EXPIRED")
          throw new AppError("token_expired", "The access token has expired.");
      }
      throw new AppError("authentication_required", "The access token is not valid.");
    }
  },
);

/**
 * A token with which an operator of the platform acts in a tenant.
 *
 * @param app where tokens are signed, of whatever kind
 */
export function signSupportToken(
  app: FastifyInstance,
  keys: Services["keys"],
  tenantId: number,
  supportSessionId: number,
  lifetimeSeconds: number,
): string {
  const key = keys.of("support-token");
  return app.jwt.sign(
    {
      sub: String(OPERATOR_USER_ID),
      tid: tenantId,
      sid: supportSessionId,
      nbf: validFrom(),
    },
    {
      key,
      algorithm: ALGORITHM,
      iss: ISSUER,
      aud: SUPPORT_AUDIENCE,
      expiresIn: `${lifetimeSeconds}s`,
      header: { alg: ALGORITHM, kid: keyId(key), typ: TOKEN_TYPE },
    },
  );
}

/** RFC 6750 §2.1 */
const BEARER = /^Bearer ([A-Za-z0-9_.~+/=-]+)$/i;

export function bearerToken(request: FastifyRequest): string {
  const header = request.headers.authorization;
  const token = header === undefined ? undefined : BEARER.exec(header)?.[1];
  if (token !== undefined) return token;
  throw new AppError(
    "authentication_required",
    "Send an access token: Authorization: Bearer <access>.",
  );
}

const JoseHeader = z.object({ kid: z.string() });

/** Headers read before: those of one key are the same in all of its tokens. */
const kidByHeader = new Map<string, string>();
const HEADERS_MAX = 100;

/** Which key a token says it was signed with; nothing else of its header is believed. */
export function keyIdOf(token: string): string | undefined {
  const header = token.slice(0, Math.max(0, token.indexOf(".")));
  const known = kidByHeader.get(header);
  if (known !== undefined) return known;
  try {
    const { kid } = JoseHeader.parse(JSON.parse(Buffer.from(header, "base64url").toString()));
    if (kidByHeader.size >= HEADERS_MAX) kidByHeader.clear();
    kidByHeader.set(header, kid);
    return kid;
  } catch {
    return undefined;
  }
}

/** What functions need to know of a request. */
export function contextOf(request: FastifyRequest, services: Services): Context {
  return {
    tenantId: request.tenantInfo.id,
    subdomain: request.tenantInfo.subdomain,
    keys: services.keys,
    messages: services.messageQueue,
    frontendUrl: services.config.frontendUrl,
    client: clientOf(request),
  };
}

/** Where a request came from. */
export function clientOf(request: FastifyRequest): ClientDetails {
  return {
    ip: addressOf(request.ip, request.socket.remoteAddress),
    userAgent: request.headers["user-agent"],
  };
}
