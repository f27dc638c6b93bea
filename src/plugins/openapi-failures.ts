import type { Document, Operation, Reference, Response } from "./openapi-document.ts";

type OperationWith<Answer> = Omit<Operation, "responses"> & { responses: Record<string, Answer> };
type PathsWith<Answer> = Record<string, Record<string, OperationWith<Answer>>>;

/**
 * A document as it is served: failures that operations share stand in it once. Of almost a thousand some forty differ,
 * and they were two thirds of what a page that shows the document had to read.
 */
export type SharedDocument = Omit<Document, "paths"> & { paths: PathsWith<Response | Reference> };

const REF_PREFIX = "#/components/responses/";

/** Puts each failure into the document once, under its status and its codes. */
export function withSharedFailures(document: Document): SharedDocument {
  const shared: Record<string, Response> = {};
  const share = (status: string, answer: Response): Response | Reference => {
    if (Number(status) < 400) return answer;
    const codes = Object.values(answer.content ?? {}).flatMap(({ examples = {} }) =>
      Object.keys(examples),
    );
    // Below /api/ every answer says where the caller stands with its limits.
    const isLimited = "RateLimit-Limit" in (answer.headers ?? {});
    const name = [status, ...codes, ...(isLimited ? ["limited"] : [])].join(".");
    shared[name] ??= answer;
    return { $ref: `${REF_PREFIX}${name}` };
  };
  // Every path of a document that was made has operations alone.
  const paths = mapAnswers(document.paths as PathsWith<Response>, share);
  const responses = Object.fromEntries(
    Object.entries(shared).toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
  return { ...document, paths, components: { ...document.components, responses } };
}

/** The document with each failure written out where it is answered. */
export function withOwnFailures(document: SharedDocument): Document {
  const { responses, ...components } = document.components;
  // What withSharedFailures has put there.
  const shared = (responses ?? {}) as Record<string, Response>;
  const paths = mapAnswers(document.paths, (status, answer) => {
    const found = "$ref" in answer ? shared[answer.$ref.slice(REF_PREFIX.length)] : answer;
    if (!found) throw new Error(`There is no such answer: ${status} ${JSON.stringify(answer)}`);
    return found;
  });
  return {
    ...document,
    paths,
    components: { ...components, schemas: document.components.schemas },
  };
}

function mapAnswers<From, To>(
  paths: PathsWith<From>,
  change: (status: string, answer: From) => To,
): PathsWith<To> {
  return mapValues(paths, (path) =>
    mapValues(path, (operation) => ({
      ...operation,
      responses: mapValues(operation.responses, (answer, status) => change(status, answer)),
    })),
  );
}

function mapValues<From, To>(
  record: Record<string, From>,
  change: (value: From, key: string) => To,
): Record<string, To> {
  return Object.fromEntries(
    Object.entries(record).map(([key, value]) => [key, change(value, key)]),
  );
}
