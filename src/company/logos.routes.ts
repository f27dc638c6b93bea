import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { Deleted, IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import { deleteLogo, getLogo, LOGO_BYTES_MAX, replaceLogo } from "./company-logos.ts";
import { CompanyLogo } from "./schemas.ts";

const IMAGE_TYPES = ["image/png", "image/jpeg", "image/webp"];

/**
 * What a browser that is led to the image by itself may make of it: nothing but show it. Other origins
 * read it as they read the rest of the API, by CORS.
 */
const IMAGE_HEADERS = {
  "cache-control": "private, no-cache",
  "content-security-policy": "default-src 'none'; sandbox",
  "x-content-type-options": "nosniff",
};

/** A company's logo: raw bytes, up and down. */
export const logoRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Company"];
  const params = IdParams;
  // Here alone: every other route takes JSON.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    [...IMAGE_TYPES, "application/octet-stream"],
    { parseAs: "buffer", bodyLimit: LOGO_BYTES_MAX },
    (_request, body, done) => done(null, body),
  );

  app.get(
    "/",
    {
      config: { guard: "authenticated", binary: { answer: IMAGE_TYPES } },
      schema: {
        operationId: "getCompanyLogo",
        tags,
        summary: "Get a company's logo",
        description:
          "For its members. `If-None-Match` with the `ETag` of an earlier answer gives 304 while the logo is the same.",
        params,
        querystring: z.strictObject({
          v: z
            .string()
            .max(64)
            .optional()
            .meta({
              description: "Has no effect: a new logo has a new address.",
              examples: ["9f86d081884c7d65"],
            }),
        }),
        response: {
          200: z.custom<Buffer>((bytes) => Buffer.isBuffer(bytes)),
          304: z.undefined(),
          ...problems("validation_error", "not_found"),
        },
      },
    },
    async (request, reply) => {
      const {
        bytes,
        content_type: type,
        digest,
      } = await getLogo(request.tenant, request.actor, request.params.id);
      const etag = `"${digest}"`;
      void reply.headers({ ...IMAGE_HEADERS, etag });
      if (matches(request.headers["if-none-match"], etag)) return reply.code(304).send();
      return reply
        .type(type)
        .header("content-disposition", `inline; filename="logo.${type.slice("image/".length)}"`)
        .send(bytes);
    },
  );

  app.put(
    "/",
    {
      config: { guard: "company.update", binary: { body: IMAGE_TYPES } },
      bodyLimit: LOGO_BYTES_MAX,
      schema: {
        operationId: "replaceCompanyLogo",
        tags,
        summary: "Replace a company's logo",
        description:
          "The bytes of a PNG, JPEG or WebP image, at most 524,288. What they are is found out from the bytes, whatever `Content-Type` says.",
        params,
        response: {
          200: CompanyLogo,
          ...problems(
            "validation_error",
            "permission_denied",
            "not_found",
            "payload_too_large",
            "unsupported_media_type",
          ),
        },
      },
    },
    (request) =>
      request.tenant.transaction((tx) =>
        replaceLogo(
          tx,
          request.actor,
          request.params.id,
          Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
        ),
      ),
  );

  app.delete(
    "/",
    {
      config: { guard: "company.update" },
      schema: {
        operationId: "deleteCompanyLogo",
        tags,
        summary: "Delete a company's logo",
        description: "The company has none then.",
        params,
        response: {
          204: Deleted,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    async (request, reply) => {
      await request.tenant.transaction((tx) => deleteLogo(tx, request.actor, request.params.id));
      return reply.code(204).send();
    },
  );
};

/** RFC 9110 §13.1.2: one of a list, or any; weak or not says nothing here. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  if (ifNoneMatch.trim() === "*") return true;
  return ifNoneMatch.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}
