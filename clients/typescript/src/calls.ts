import type { MaybeOptionalInit, ParseAs, ParseAsResponse } from "openapi-fetch";
import type { HttpMethod, PathsWithMethod, RequiredKeysOf } from "openapi-typescript-helpers";
import type { paths } from "./schema.ts";

/**
 * One method of the client: what openapi-fetch takes (`params`, `body`, `headers`, `parseAs`, `signal`, …),
 * checked against the path. Resolves to the body of the answer.
 *
 * @throws OuviraError when the API refuses, UnexpectedAnswerError when something else answered, and what
 *   `fetch` throws when nothing did
 */
export type Call<Method extends HttpMethod> = <
  Path extends PathsWithMethod<paths, Method>,
  Init extends MaybeOptionalInit<paths[Path], Method>,
>(
  path: Path,
  ...init: RequiredKeysOf<Init> extends never ? [init?: Init] : [init: Init]
) => Promise<ParseAsResponse<Answer<paths[Path][Method]>, Init>>;

type SuccessStatus = 200 | 201 | 202 | 204 | 205;

/** The body of an operation's success; undefined where there is none. */
type Answer<Operation> = Operation extends { responses: infer Responses }
  ? { [Status in keyof Responses & SuccessStatus]: Content<Responses[Status]> }[keyof Responses &
      SuccessStatus]
  : never;

type Content<Response> = Response extends { content: infer Types extends object }
  ? Types[keyof Types]
  : undefined;

/** What any call may be made with, once its types have been checked against its path. */
export interface CallInit {
  readonly body?: unknown;
  readonly headers?: RequestInit["headers"];
  readonly parseAs?: ParseAs;
}
