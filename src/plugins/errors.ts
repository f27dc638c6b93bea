import { randomUUID } from "node:crypto";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import postgres from "postgres";
import { z } from "zod";
import { AppError, type ErrorCode, STATUS_BY_CODE } from "../errors.ts";
import { toFieldErrors } from "./field-errors.ts";

/** Where the codes are explained; the fragment of a problem's `type`. */
const ERROR_DOCS = "https://ouvira.dev/errors/";

/** What every failed request answers: RFC 9457 with a stable code. */
export const Problem = z
  .object({
    type: z.string().meta({ examples: [`${ERROR_DOCS}validation_error`] }),
    title: z.string().meta({ examples: ["Bad Request"] }),
    status: z.int().meta({ examples: [400] }),
    code: z.enum(Object.keys(STATUS_BY_CODE) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string().meta({ examples: ["The request body is invalid."] }),
    errors: z.record(z.string(), z.array(z.string())).optional().meta({
      description: "Only for `validation_error`: dotted path of a field → what is wrong.",
    }),
    request_id: z.string().meta({ examples: ["req-6f1c"] }),
  })
  .meta({ id: "Problem", description: "A failure, as RFC 9457 describes it." });

/** Fastify's own errors that a client causes. https://fastify.dev/docs/latest/Reference/Errors/ */
const CODE_BY_FASTIFY_CODE: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "payload_too_large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "unsupported_media_type",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "bad_request",
  FST_ERR_CTP_EMPTY_JSON_BODY: "validation_error",
  FST_ERR_CTP_INVALID_JSON_BODY: "validation_error",
  FST_ERR_CTP_EMPTY_TYPE: "unsupported_media_type",
  FST_ERR_MAX_PARAM_LENGTH: "uri_too_long",
  FST_ERR_NOT_FOUND: "not_found",
};

/** The server's answers that mean: not now. https://www.postgresql.org/docs/18/errcodes-appendix.html */
const OVERLOADED_SQLSTATES = new Set(["40001", "40P01", "55P03", "57014", "53300", "53400"]);
const VALUE_SQLSTATES = new Set(["22021", "22P05"]);

/** How soon to try again after an answer that means "not now". */
const RETRY_AFTER_SECONDS = 1;

/** Every failure, whoever threw it, becomes one body; what is not for the caller stays in the log. */
export const errorPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  app.setErrorHandler((error: unknown, request, reply) => {
    const failure = toAppError(error);
    // Being busy is no fault to look into, and telling of each such answer would be most of its work: the request's
    // line has its status.
    const isMerelyBusy = failure.code === "overloaded" && failure.cause === undefined;
    if (failure.statusCode >= 500 && !isMerelyBusy) {
      request.log.error({ err: failure.cause ?? error }, failure.message);
    }
    return sendProblem(request, reply, failure);
  });
  const routes = new RouteTable();
  app.addHook("onRoute", ({ url, method }) => {
    routes.add(url, Array.isArray(method) ? method : [method]);
  });
  app.setNotFoundHandler((request, reply) => {
    const methods = routes.methodsOf(request.url);
    if (methods.length === 0) {
      return sendProblem(request, reply, new AppError("not_found", "There is nothing here."));
    }
    // RFC 9110 §15.5.6
    reply.header("allow", methods.join(", "));
    const detail = `This path answers ${methods.join(", ")} only.`;
    return sendProblem(request, reply, new AppError("method_not_allowed", detail));
  });
});

function sendProblem(
  request: FastifyRequest,
  reply: FastifyReply,
  failure: AppError,
): FastifyReply {
  if (failure.retryAfterSeconds !== undefined) {
    reply.header("retry-after", failure.retryAfterSeconds);
  }
  if (failure.statusCode === 401) reply.header("www-authenticate", "Bearer");
  return (
    reply
      .code(failure.statusCode)
      .type("application/problem+json")
      // Written out: the route's schema for this status may not list the code.
      .serializer((body: unknown) => JSON.stringify(body))
      .send(problemBody(failure, request.id))
  );
}

export function problemBody(failure: AppError, requestId: string): z.infer<typeof Problem> {
  return {
    type: `${ERROR_DOCS}${failure.code}`,
    title: STATUS_CODES[failure.statusCode] ?? "Error",
    status: failure.statusCode,
    code: failure.code,
    detail: failure.message,
    ...(failure.errors ? { errors: failure.errors } : {}),
    request_id: requestId,
  };
}

/** Errors of the router, before any hook: a URL that cannot be read. */
export function onFrameworkError(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  void sendProblem(request, reply, toAppError(error));
}

/** What Node's parser refuses, by its code; the rest is a malformed request. */
const CODE_BY_PARSER_CODE: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: "headers_too_large",
  HPE_URL_OVERFLOW: "uri_too_long",
  ERR_HTTP_REQUEST_TIMEOUT: "request_timeout",
};

/** Answers what is not HTTP enough to become a request, in the same form as everything else. */
export function onClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return;
  const code = CODE_BY_PARSER_CODE[error.code ?? ""] ?? "bad_request";
  const body = JSON.stringify(
    problemBody(new AppError(code, "The request could not be read."), `req-${randomUUID()}`),
  );
  const status = STATUS_BY_CODE[code];
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/problem+json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

/** What a failure means to the caller. Nothing of an unknown one but that it happened. */
function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const errors = toFieldErrors(error.validation);
    const where =
      error.validationContext === "querystring" ? "query" : (error.validationContext ?? "body");
    return new AppError("validation_error", `The request ${where} is invalid.`, { errors });
  }
  if (error instanceof postgres.PostgresError) {
    if (OVERLOADED_SQLSTATES.has(error.code)) {
      return new AppError("overloaded", "The service is busy. Try again.", {
        cause: error,
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      });
    }
    if (VALUE_SQLSTATES.has(error.code)) {
      return new AppError("validation_error", "The request has a character that cannot be stored.");
    }
    return internal(error);
  }
  if (isFastifyError(error)) {
    // Its own message repeats the URL, and with it what stands in the query.
    if (error.code === "FST_ERR_BAD_URL")
      return new AppError("not_found", "There is nothing here.");
    const code = CODE_BY_FASTIFY_CODE[error.code];
    if (code) return new AppError(code, error.message);
    // Plugins' and Fastify's other refusals of a request.
    if (error.statusCode === 400) return new AppError("bad_request", error.message);
  }
  return internal(error);
}

function internal(cause: unknown): AppError {
  return new AppError(
    "internal_error",
    "Something went wrong. It was logged under this request's id.",
    {
      cause,
    },
  );
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}

/** Methods by path, of every route: to tell a wrong method from a wrong path. */
class RouteTable {
  readonly #routes: { pattern: RegExp; methods: readonly string[] }[] = [];

  add(url: string, methods: readonly string[]): void {
    const pattern = url
      .replace(/\/$/, "")
      .split("/")
      .map((part) => (part.startsWith(":") ? "[^/]+" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")))
      .join("/");
    this.#routes.push({ pattern: new RegExp(`^${pattern}/?$`), methods });
  }

  /** The methods a path answers, without those that every GET answers with it. */
  methodsOf(url: string): string[] {
    const path = url.split("?")[0] ?? "/";
    const methods = this.#routes
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((route) => route.methods);
    return [...new Set(methods)].filter((method) => method !== "HEAD").sort();
  }
}
