import { AppError, type ErrorCode, STATUS_BY_CODE } from "../errors.ts";
import { problemBody } from "./errors.ts";
import { MEANING_BY_CODE } from "./openapi-text.ts";

/** Names of security schemes. */
export const SECURITY_SCHEME = "bearerAuth";
export const OPERATOR_SCHEME = "operatorAuth";
export const METRICS_SCHEME = "metricsToken";

const wholeNumber = (description: string, example: number) => ({
  description,
  schema: { type: "integer", minimum: 0, examples: [example] },
});

/** What operations refer to, besides schemas. */
export const COMPONENTS = {
  securitySchemes: {
    [SECURITY_SCHEME]: {
      type: "http" as const,
      scheme: "bearer",
      bearerFormat: "JWT",
      description: "The `access` token of a login.",
    },
    [OPERATOR_SCHEME]: {
      type: "http" as const,
      scheme: "bearer",
      bearerFormat: "JWT",
      description: "The `access` token of an operator's login.",
    },
    [METRICS_SCHEME]: {
      type: "http" as const,
      scheme: "bearer",
      description: "The token of METRICS_TOKEN.",
    },
  },
  parameters: {
    Tenant: {
      name: "X-Tenant",
      in: "header",
      required: false,
      description:
        "The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.",
      schema: { type: "string", maxLength: 253 },
      example: "demo",
    },
  },
  headers: {
    "Retry-After": wholeNumber("Seconds after which to try again.", 1),
    "RateLimit-Limit": wholeNumber("Requests that the limit allows in its window.", 5),
    "RateLimit-Remaining": wholeNumber("Requests left in the window.", 0),
    "RateLimit-Reset": wholeNumber("Seconds until the window ends.", 42),
    ETag: {
      description: "Names what was answered (RFC 9110 §8.8.3).",
      schema: { type: "string", examples: ['"9f86d081884c7d65"'] },
    },
    "WWW-Authenticate": {
      description: "How to authenticate (RFC 6750).",
      schema: { type: "string", examples: ["Bearer"] },
    },
  },
  examples: Object.fromEntries(
    (Object.keys(STATUS_BY_CODE) as ErrorCode[]).map((code) => [
      code,
      { summary: code, value: problemExample(code) },
    ]),
  ),
};

function problemExample(code: ErrorCode): unknown {
  const detail = MEANING_BY_CODE[code];
  const failure =
    code === "validation_error"
      ? new AppError(code, "The request body is invalid.", {
          errors: { primary_mobile: ["Enter a phone number in international format."] },
        })
      : new AppError(code, detail);
  return problemBody(failure, "req-6f1c9a52-8f0e-4d35-b7a1-2f4b8c0d9e61");
}
