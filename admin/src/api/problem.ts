import { HttpError } from "react-admin";

/** Whose answer it was: the platform's API, or that of the tenant an operator has stepped into. */
export type Api = "platform" | "tenant";

/** A failure as the API describes it (RFC 9457). */
interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly errors?: Readonly<Record<string, readonly string[]>>;
}

/** A request that did not succeed, in words; `errors` are shown at the fields of a form. */
export class ApiError extends HttpError {
  readonly api: Api;
  readonly code: string;

  constructor(api: Api, status: number, code: string, message: string, errors?: FormErrors) {
    super(message, status, errors === undefined ? {} : { errors });
    // HttpError makes whatever it constructs an HttpError and nothing more.
    Object.setPrototypeOf(this, ApiError.prototype);
    this.api = api;
    this.code = code;
  }
}

/** What react-admin shows at the fields of a form: nested as the form's own values are. */
interface FormErrors {
  [field: string]: string | FormErrors;
}

/** Reads a refusal. */
export async function toApiError(api: Api, response: Response): Promise<ApiError> {
  const problem = await readProblem(response);
  if (!problem) {
    const sentence = `The server answered ${response.status}${response.statusText ? ` (${response.statusText})` : ""}.`;
    return new ApiError(api, response.status, "unknown", sentence);
  }
  const words = [problem.detail, whenAgain(response)].filter(Boolean).join(" ");
  return new ApiError(
    api,
    response.status,
    problem.code,
    words,
    problem.errors && toFormErrors(problem.errors),
  );
}

/** No answer at all. */
export function unreachable(api: Api): ApiError {
  return new ApiError(
    api,
    0,
    "unreachable",
    "The server cannot be reached. Check the connection and try again.",
  );
}

/** The words for whatever was thrown. */
export function wordsFor(error: unknown): string {
  return error instanceof Error && error.message !== "" ? error.message : "Something went wrong.";
}

async function readProblem(response: Response): Promise<Problem | undefined> {
  if (!response.headers.get("content-type")?.startsWith("application/problem+json")) {
    return undefined;
  }
  try {
    // The API's word for its own media type.
    return (await response.json()) as Problem;
  } catch {
    return undefined;
  }
}

const MINUTE_SECONDS = 60;
const HOUR_SECONDS = 3_600;

/** When it may be tried again, of 429 and 503. */
function whenAgain(response: Response): string | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  if (!Number.isFinite(seconds)) return undefined;
  return `Try again in ${duration(seconds)}.`;
}

/** A length of time in words: `45 seconds`, `2 minutes`. */
export function duration(seconds: number): string {
  if (seconds < 2 * MINUTE_SECONDS) return amount(Math.max(1, Math.ceil(seconds)), "second");
  if (seconds < 2 * HOUR_SECONDS) return amount(Math.ceil(seconds / MINUTE_SECONDS), "minute");
  return amount(Math.ceil(seconds / HOUR_SECONDS), "hour");
}

function amount(count: number, unit: string): string {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function toFormErrors(errors: Readonly<Record<string, readonly string[]>>): FormErrors {
  const result: FormErrors = {};
  for (const [path, sentences] of Object.entries(errors)) {
    const names = path.split(".");
    const last = names.pop() ?? path;
    let place = result;
    for (const name of names) {
      const inner = place[name];
      const next: FormErrors = typeof inner === "object" ? inner : {};
      place[name] = next;
      place = next;
    }
    place[last] = sentences.join(" ");
  }
  return result;
}
