import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { problems } from "../plugins/openapi.ts";
import { getProfile } from "./profile.ts";
import { Profile, SessionTest } from "./schemas.ts";

/** What a user sees of their own account. */
export const accountRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Account"];

  app.get(
    "/profile/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getProfile",
        tags,
        summary: "The caller's own account",
        description: "Says what is verified and whether a second factor is on.",
        response: { 200: Profile, ...problems("not_found") },
      },
    },
    (request) => getProfile(request.tenant, request.principal.userId),
  );

  app.get(
    "/session-tests/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "testSession",
        tags,
        summary: "Whether the access token works, and until when",
        description:
          "For clients that want to know before they need it. Answers whose token it is.",
        response: { 200: SessionTest, ...problems("not_found") },
      },
    },
    async (request) => ({
      user: await getProfile(request.tenant, request.principal.userId),
      token_expires_at: request.tokenExpiresAt,
    }),
  );
};
