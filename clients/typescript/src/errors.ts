import type { components } from "./schema.ts";

/** What every refusal of the API says: RFC 9457, with a stable code. */
export type Problem = components["schemas"]["Problem"];

/** Why a call was refused. More may come with later versions of the API: have a `default`. */
export type ErrorCode = Problem["code"];

/** The API refused a call, and says why. */
export class OuviraError extends Error {
  override readonly name = "OuviraError";
  readonly code: ErrorCode;
  readonly status: number;
  /** A sentence for the person who called. The message of the error is the same. */
  readonly detail: string;
  /** With `validation_error`: dotted path of a field → sentences; otherwise empty. */
  readonly errors: Readonly<Record<string, readonly string[]>>;
  /** Under which the server's log tells more. */
  readonly requestId: string;
  /** With `rate_limited`, `overloaded` and `not_ready`: how soon to try again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(problem: Problem, retryAfterSeconds?: number) {
    super(problem.detail);
    this.code = problem.code;
    this.status = problem.status;
    this.detail = problem.detail;
    this.errors = problem.errors ?? {};
    this.requestId = problem.request_id;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Something between here and the API answered in its place: a proxy, say, or the wrong address. */
export class UnexpectedAnswerError extends Error {
  override readonly name = "UnexpectedAnswerError";
  readonly status: number;

  constructor(status: number, options?: ErrorOptions) {
    super(`An answer with status ${status} that is not the API's.`, options);
    this.status = status;
  }
}

/** What a refused call throws. */
export function errorOf(
  body: unknown,
  response: Pick<Response, "status" | "headers">,
): OuviraError | UnexpectedAnswerError {
  if (!isProblem(body)) return new UnexpectedAnswerError(response.status);
  const retryAfter = response.headers.get("retry-after") ?? "";
  return new OuviraError(body, /^\d+$/.test(retryAfter) ? Number(retryAfter) : undefined);
}

/** Looks at what tells it from any other JSON; the rest is what the document promises. */
function isProblem(body: unknown): body is Problem {
  return (
    typeof body === "object" &&
    body !== null &&
    "code" in body &&
    typeof body.code === "string" &&
    "detail" in body &&
    typeof body.detail === "string" &&
    "request_id" in body
  );
}
