import { readFileSync } from "node:fs";
import path from "node:path";
import swagger, { type SwaggerTransform, type SwaggerTransformObject } from "@fastify/swagger";
import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { ROOT_DIR } from "../paths.ts";
import type { Services } from "../services.ts";
import { apiDocumentRoutes } from "./api-documents.ts";
import { Problem } from "./errors.ts";
import { COMPONENTS } from "./openapi-components.ts";
import {
  type BinaryTypes,
  codesByStatus,
  completeDocument,
  type Document,
  type RouteFacts,
} from "./openapi-document.ts";
import { withSharedFailures } from "./openapi-failures.ts";
import { DESCRIPTION, TAGS } from "./openapi-text.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Media types of a body or an answer that is no JSON. */
    binary?: BinaryTypes;
    /** What the route answers, for the document: where its schema is shared by routes that answer otherwise. */
    example?: Readonly<Record<string, unknown>>;
  }
}

/** The codes behind the schemas that {@link problems} has made. */
const codesBySchema = new Map<object, readonly ErrorCode[]>();
const schemaByCodes = new Map<string, typeof Problem>();

/**
 * The failures of a route's own, as response schemas by status. What routes share (tenant, token,
 * validation, limits, outages) is added to the document by itself.
 */
export function problems(...codes: readonly ErrorCode[]): Record<number, typeof Problem> {
  return Object.fromEntries(
    [...codesByStatus(codes)].map(([status, list]) => [status, problemOf(list)]),
  );
}

/** Made once for each list of codes: hundreds of copies were a fiftieth of a start. */
function problemOf(codes: readonly ErrorCode[]): typeof Problem {
  const key = codes.join();
  let schema = schemaByCodes.get(key);
  if (!schema) {
    schema = Problem.clone();
    schemaByCodes.set(key, schema);
    codesBySchema.set(schema, codes);
  }
  return schema;
}

const { version } = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(path.join(ROOT_DIR, "package.json"), "utf8")));

/** OpenAPI 3.1 from the routes' zod schemas, and the pages that show it. */
export const openapiPlugin = fastifyPlugin<{ services: Services }>(
  async (app: FastifyInstance, { services }) => {
    await app.register(swagger, {
      openapi: {
        openapi: "3.1.1",
        info: {
          title: "Ouvira",
          version,
          description: DESCRIPTION,
          license: { name: "MIT", identifier: "MIT" },
        },
        servers: [{ url: "/" }],
        tags: [...TAGS],
        // Asked for where a route names one; the rest is added when the routes are known.
        components: { securitySchemes: COMPONENTS.securitySchemes },
      },
      transform: transformRoute,
      transformObject,
    });
    const { config } = services;
    if (config.isDocsPublic) await app.register(apiDocumentRoutes, { config });
  },
);

/** Converts a route's schemas but those of failures, which are described from their codes. */
const transformRoute: SwaggerTransform = (input) => {
  const { schema, url, route } = input;
  if (!schema || ("hide" in schema && schema.hide)) return { schema: { hide: true }, url };
  const responses = Object.entries(schema.response ?? {}).map(
    ([status, response]: [string, object]) =>
      ({ status, response, codes: codesBySchema.get(response) }) as const,
  );
  const binary = route.config?.binary ?? {};
  // Raw bytes are described from the route's `binary`: their schema has no equal in JSON.
  const answers = responses.filter(({ codes }) => codes === undefined && !binary.answer);
  const facts: RouteFacts = {
    url,
    guard: route.config?.guard,
    limits: route.config?.limits ?? [],
    binary,
    codes: responses.flatMap(({ codes = [] }) => codes),
    example: route.config?.example,
  };
  const answering = {
    ...schema,
    response: Object.fromEntries(answers.map(({ status, response }) => [status, response])),
    "x-route": facts,
  };
  return jsonSchemaTransform({ ...input, url: withSlash(url), schema: answering });
};

/** A plugin's own "/" is registered without it; both answer, and documents name the one with it. */
function withSlash(url: string): string {
  return url.startsWith("/api/") && !url.endsWith("/") ? `${url}/` : url;
}

const transformObject: SwaggerTransformObject = (input) =>
  // The two describe the same document; ours names what this service puts into one.
  withSharedFailures(completeDocument(jsonSchemaTransformObject(input) as Document));
