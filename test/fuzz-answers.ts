import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { LightMyRequestResponse as InjectResponse } from "fastify";
import type { Document, MediaType } from "../src/plugins/openapi-document.ts";
import type { Target } from "./fuzz-requests.ts";

const DOCUMENT = "openapi";

/** What the document promises of answers and of what is accepted. */
export class Contract {
  readonly #ajv = new Ajv2020({ strict: false, validateSchema: false, allErrors: true });
  readonly #validators = new Map<string, ValidateFunction>();

  constructor(document: Document) {
    // Both a function and, as CommonJS, a module with it.
    addFormats.default(this.#ajv);
    this.#ajv.addSchema(document, DOCUMENT);
  }

  /** In what an answer differs from what is declared; undefined when in nothing. */
  faultOf(target: Target, answer: InjectResponse): string | undefined {
    const { statusCode: status, body } = answer;
    const declared = target.operation.responses[status];
    if (!declared) return `the status ${status} is not declared`;
    if (!declared.content) return body === "" ? undefined : "there is a body, none is declared";
    const type = String(answer.headers["content-type"]).split(";")[0] ?? "";
    const media = declared.content[type];
    if (!media) return `the content type ${type} is not declared`;
    if (!type.endsWith("json")) return undefined;
    const value: unknown = JSON.parse(body);
    const path = ["paths", target.url, target.method.toLowerCase(), "responses", String(status)];
    return (
      this.invalidityAt([...path, "content", type, "schema"], value) ??
      codeFault(media, status, value)
    );
  }

  /** Why a body is not what the operation says that it takes; undefined when it is. */
  bodyFaultOf(target: Target, body: unknown): string | undefined {
    if (!target.operation.requestBody?.content["application/json"]) return undefined;
    const path = ["paths", target.url, target.method.toLowerCase(), "requestBody"];
    return this.invalidityAt([...path, "content", "application/json", "schema"], body);
  }

  /** In what a value differs from the schema at a place of the document; undefined when in nothing. */
  invalidityAt(path: readonly string[], value: unknown): string | undefined {
    const pointer = path.map((part) => part.replaceAll("~", "~0").replaceAll("/", "~1")).join("/");
    const ref = `${DOCUMENT}#/${encodeURI(pointer)}`;
    const validate = this.#validators.get(ref) ?? this.#ajv.compile({ $ref: ref });
    this.#validators.set(ref, validate);
    return validate(value) ? undefined : this.#ajv.errorsText(validate.errors);
  }
}

/** A problem says one of the codes that are declared for its status, and that status. */
function codeFault({ examples }: MediaType, status: number, body: unknown): string | undefined {
  if (status < 400) return undefined;
  // Valid against the schema of problems.
  const problem = body as { code: string; status: number };
  if (problem.status !== status) return `the body says ${problem.status}`;
  return problem.code in (examples ?? {}) ? undefined : `the code ${problem.code} is not declared`;
}
