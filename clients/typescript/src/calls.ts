import type { FetchOptions } from "openapi-fetch";
import type {
  FilterKeys,
  HttpMethod,
  PathsWithMethod,
  RequiredKeysOf,
} from "openapi-typescript-helpers";
import type { paths } from "./schema.ts";

/**
 * One method of the client: what openapi-fetch takes (`params`, `body`, `headers`, `signal`, …), checked
 * against the path, unknown fields included. Resolves to the body of the answer: what its JSON says, a Blob
 * where it is something else, undefined where there is none.
 *
 * @throws OuviraError when the API refuses, UnexpectedAnswerError when something else answered, and what
 *   `fetch` throws when nothing did
 */
export type Call<Method extends HttpMethod> = <Path extends PathsWithMethod<paths, Method>>(
  path: Path,
  ...init: Init<paths[Path], Method>
) => Promise<Answer<FilterKeys<paths[Path], Method>>>;

type Init<PathItem, Method extends HttpMethod> =
  RequiredKeysOf<Options<PathItem, Method>> extends never
    ? [init?: Options<PathItem, Method>]
    : [init: Options<PathItem, Method>];

/** How an answer is read is decided by what it is. */
type Options<PathItem, Method extends HttpMethod> = Omit<
  FetchOptions<FilterKeys<PathItem, Method>>,
  "parseAs"
>;

type SuccessStatus = 200 | 201 | 202 | 204 | 205;

type Answer<Operation> = Operation extends { responses: infer Responses }
  ? { [Status in keyof Responses & SuccessStatus]: Body<Responses[Status]> }[keyof Responses &
      SuccessStatus]
  : never;

type Body<Response> = Response extends { content: infer Types extends object }
  ? "application/json" extends keyof Types
    ? Types["application/json"]
    : Blob
  : undefined;

/** What any call may be made with, once its types have been checked against its path. */
export interface CallInit {
  readonly body?: unknown;
  readonly headers?: unknown;
  readonly signal?: AbortSignal;
}
