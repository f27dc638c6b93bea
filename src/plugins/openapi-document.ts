import { type ErrorCode, STATUS_BY_CODE } from "../errors.ts";
import type { Guard } from "./guards.ts";
import { COMPONENTS, OPERATOR_SCHEME, SECURITY_SCHEME } from "./openapi-components.ts";
import {
  componentName,
  componentRef,
  exampleOf,
  type JsonSchema,
  type JsonSchemas,
} from "./openapi-examples.ts";
import { withOwnNames } from "./openapi-names.ts";
import { LIMIT_NAMES } from "./openapi-text.ts";
import type { RouteLimit } from "./rate-limits.ts";
import { isSafeMethod } from "../methods.ts";

/** An OpenAPI 3.1 document, as far as it is worked on here. https://spec.openapis.org/oas/v3.1.1 */
export interface Document {
  openapi: string;
  info: { title: string; version: string; description?: string };
  tags?: { name: string; description?: string }[];
  servers?: { url: string }[];
  paths: Record<string, Partial<Record<string, Operation>>>;
  components: {
    schemas: Record<string, JsonSchema>;
    [kind: string]: Record<string, unknown>;
  };
}

export interface Operation {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: (Reference | Parameter)[];
  requestBody?: { required?: boolean; content: Record<string, MediaType> };
  responses: Record<string, Response>;
  security?: Record<string, string[]>[];
  /** Left by the transform of routes for {@link completeDocument}, which takes it away. */
  "x-route"?: RouteFacts;
}

export interface Reference {
  $ref: string;
}

export interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  example?: unknown;
  schema?: JsonSchema;
}

export interface MediaType {
  schema?: JsonSchema;
  example?: unknown;
  examples?: Record<string, Reference | { summary?: string; value: unknown }>;
}

export interface Response {
  description: string;
  headers?: Record<string, Reference>;
  content?: Record<string, MediaType>;
}

/** Media types of what is sent and answered as raw bytes. */
export interface BinaryTypes {
  body?: readonly string[];
  answer?: readonly string[];
}

/** What a route says that its schemas do not. */
export interface RouteFacts {
  binary: BinaryTypes;
  url: string;
  guard: Guard | undefined;
  limits: readonly RouteLimit[];
  /** Codes it declares with `problems`. */
  codes: readonly ErrorCode[];
  /** An answer of this route, where its schema is shared by routes that answer others. */
  example: unknown;
}

const TENANT_PREFIX = "/api/";
const PLATFORM_PREFIX = "/api/platform/";
const PROBLEM_TYPE = "application/problem+json";

/** What every operation below /api/ can answer. */
const API_CODES: readonly ErrorCode[] = [
  "rate_limited",
  "internal_error",
  "overloaded",
  "not_ready",
];
/** What a body can answer, even one that nothing reads: it is parsed first. */
const BODY_CODES: readonly ErrorCode[] = [
  "validation_error",
  "payload_too_large",
  "unsupported_media_type",
];
/** What naming a tenant can answer. */
const TENANT_CODES: readonly ErrorCode[] = [
  "tenant_required",
  "tenant_not_found",
  "tenant_suspended",
];
/** What an access token can answer. */
const TOKEN_CODES: readonly ErrorCode[] = [
  "authentication_required",
  "token_expired",
  "token_revoked",
];

const DESCRIPTION_BY_STATUS: Readonly<Record<string, string>> = {
  200: "Done.",
  201: "Created.",
  202: "Accepted; the work is done later.",
  204: "Done; there is no body.",
  205: "Done; there is no body.",
};

/** Headers of failures, by status. */
const HEADERS_BY_STATUS: Readonly<Record<number, readonly string[]>> = {
  401: ["WWW-Authenticate"],
  429: ["Retry-After"],
  503: ["Retry-After"],
};

/** Headers of every answer below /api/, whatever its status. */
const LIMIT_HEADERS = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] as const;

/**
 * Adds to the document made from the routes what they have in common: security, tenant, failures,
 * examples. Components get the names their schemas were given.
 */
export function completeDocument(document: Document): Document {
  for (const path of Object.values(document.paths)) {
    for (const [method, operation] of Object.entries(path)) {
      if (operation) completeOperation(method, operation);
    }
  }
  const components = { ...COMPONENTS, schemas: document.components.schemas };
  const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
  const usedTags = new Set(operations.flatMap((operation) => operation?.tags ?? []));
  const tags = (document.tags ?? []).filter(({ name }) => usedTags.has(name));
  const named = withOwnNames({ ...document, tags, components });
  for (const path of Object.values(named.paths)) {
    for (const operation of Object.values(path)) {
      if (operation) addExamples(operation, named.components.schemas);
    }
  }
  return { ...named, components: usedComponents(named) };
}

/** What something refers to; schemes of security are named without a reference. */
function usedComponents({ paths, components }: Document): Document["components"] {
  const text = JSON.stringify([paths, components]);
  const used = Object.entries(components).map(([kind, members]) => {
    const isUsed = ([name]: [string, unknown]) =>
      kind === "securitySchemes"
        ? text.includes(`{"${name}":[]}`)
        : text.includes(`"#/components/${kind}/${name}"`);
    return [kind, Object.fromEntries(Object.entries(members).filter(isUsed))];
  });
  return Object.fromEntries(used);
}

function completeOperation(method: string, operation: Operation): void {
  const facts = operation["x-route"];
  delete operation["x-route"];
  if (!facts) throw new Error(`No transform has seen ${operation.operationId}`);
  const isGuarded = facts.guard !== "public";
  const hasTenant = isTenantPath(facts.url);
  const scheme = facts.url.startsWith(PLATFORM_PREFIX) ? OPERATOR_SCHEME : SECURITY_SCHEME;
  // A route that asks for a token of its own says so itself.
  operation.security ??= isGuarded ? [{ [scheme]: [] }] : [];
  if (hasTenant) {
    operation.parameters = [
      { $ref: "#/components/parameters/Tenant" },
      ...(operation.parameters ?? []),
    ];
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    completeAnswer(status, response, facts.example);
  }
  addBinary(operation, facts.binary);
  const need = needOf(facts.guard);
  if (need !== undefined) {
    operation.description = [operation.description, need].filter(Boolean).join(" ");
  }
  const codes = codesOf(method, operation, facts);
  Object.assign(operation.responses, problemResponses(codes));
  if (facts.url.startsWith(TENANT_PREFIX)) addLimits(operation, facts);
}

/** Bodies and answers of raw bytes, which no schema describes. */
function addBinary(operation: Operation, { body, answer }: BinaryTypes): void {
  const contentOf = (types: readonly string[]): Record<string, MediaType> =>
    Object.fromEntries(
      types.map((type) => [type, { schema: { type: "string", format: "binary" } }]),
    );
  if (body) operation.requestBody = { required: true, content: contentOf(body) };
  if (answer) {
    operation.responses["200"] = {
      description: DESCRIPTION_BY_STATUS[200] ?? "Done.",
      headers: headerRefs(["ETag"]),
      content: contentOf(answer),
    };
    operation.responses["304"] = {
      description: "It is what `If-None-Match` names.",
      headers: headerRefs(["ETag"]),
    };
  }
}

/** Guards that say no more than that there is a login. */
const UNTOLD_GUARDS: ReadonlySet<Guard> = new Set([
  "public",
  "authenticated",
  "own-account",
  "operator",
  "operator-setup",
]);

/** What a caller needs besides a login, as a sentence. */
function needOf(guard: Guard | undefined): string | undefined {
  if (guard === undefined || UNTOLD_GUARDS.has(guard)) return undefined;
  if (guard === "tenant-admin") return "For the tenant's admins.";
  return `Needs \`${guard}\` in the company.`;
}

/** Says which limits an operation meets, and with which headers every answer tells of them. */
function addLimits(operation: Operation, { limits }: RouteFacts): void {
  for (const response of Object.values(operation.responses)) {
    response.headers = { ...response.headers, ...headerRefs(LIMIT_HEADERS) };
  }
  if (limits.length === 0) return;
  const sentence = `Counted by the limit ${limits.map((limit) => LIMIT_NAMES[limit]).join(", ")}.`;
  operation.description = [operation.description, sentence].filter(Boolean).join(" ");
}

function isTenantPath(url: string): boolean {
  return url.startsWith(TENANT_PREFIX) && !url.startsWith(PLATFORM_PREFIX);
}

/** Every code an operation answers, its own first. */
function codesOf(
  method: string,
  { parameters = [] }: Operation,
  { url, guard, codes }: RouteFacts,
): Set<ErrorCode> {
  const all = new Set(codes);
  const add = (...more: readonly ErrorCode[]) => more.forEach((code) => all.add(code));
  const places = new Set(parameters.flatMap((one) => ("in" in one ? [one.in] : [])));
  if (places.has("query") || places.has("path")) add("validation_error");
  if (places.has("path")) add("not_found", "uri_too_long");
  if (!isSafeMethod(method)) add(...BODY_CODES);
  if (guard !== "public") add(...TOKEN_CODES);
  // A support token reads only, and has no account; operators have a second factor.
  if (guard !== "public" && guard !== "operator-setup") add("permission_denied");
  if (isTenantPath(url)) {
    add(...TENANT_CODES);
    if (!isSafeMethod(method)) add("tenant_read_only");
    if (guard !== "public") add("token_tenant_mismatch", "account_disabled");
  }
  if (url.startsWith(TENANT_PREFIX)) add(...API_CODES);
  return all;
}

function problemResponses(codes: ReadonlySet<ErrorCode>): Record<number, Response> {
  return Object.fromEntries(
    [...codesByStatus(codes)].map(([status, list]) => [status, problemResponse(status, list)]),
  );
}

export function codesByStatus(codes: Iterable<ErrorCode>): Map<number, ErrorCode[]> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(codes)) {
    const status = STATUS_BY_CODE[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

function problemResponse(status: number, codes: readonly ErrorCode[]): Response {
  const headers = HEADERS_BY_STATUS[status] ?? [];
  return {
    description: `\`${codes.join("`, `")}\``,
    ...(headers.length > 0 ? { headers: headerRefs(headers) } : {}),
    content: {
      [PROBLEM_TYPE]: {
        schema: { $ref: componentRef("Problem") },
        examples: Object.fromEntries(
          codes.map((code) => [code, { $ref: `#/components/examples/${code}` }]),
        ),
      },
    },
  };
}

function headerRefs(names: readonly string[]): Record<string, Reference> {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

/** A success. Its description is its schema's, or what the status says. */
function completeAnswer(status: string, response: Response, example: unknown): void {
  const answer = response.content?.["application/json"];
  const schema = answer?.schema;
  if (answer && example !== undefined) answer.example = example;
  if (response.description === "Default Response") {
    response.description = schema?.description ?? DESCRIPTION_BY_STATUS[status] ?? "Done.";
  }
  // What z.undefined() becomes: an answer without a body (RFC 9110 §15.3.6).
  if (schema?.type === "null") delete response.content;
}

/** Examples of parameters, bodies and answers; bytes have none, and failures theirs by their codes. */
function addExamples(operation: Operation, schemas: JsonSchemas): void {
  for (const parameter of operation.parameters ?? []) {
    if ("in" in parameter)
      parameter.example ??= exampleOf(parameter.schema ?? {}, schemas, "answer");
  }
  const body = operation.requestBody?.content["application/json"];
  if (body?.schema) body.example = exampleOf(body.schema, schemas, "request");
  for (const { content } of Object.values(operation.responses)) {
    for (const type of ["application/json", "text/plain"]) {
      const answer = content?.[type];
      if (answer) addAnswerExample(answer, schemas);
    }
  }
}

/** One example, or one of each kind of answer where there are several. */
function addAnswerExample(answer: MediaType, schemas: JsonSchemas): void {
  const { schema } = answer;
  if (!schema || answer.example !== undefined) return;
  const kinds = schemas[componentName(schema.$ref ?? "")]?.anyOf ?? [];
  if (kinds.length < 2) {
    answer.example = exampleOf(schema, schemas, "answer");
    return;
  }
  answer.examples = Object.fromEntries(
    kinds.map((kind, index) => {
      const name = kind.$ref === undefined ? `kind${index + 1}` : componentName(kind.$ref);
      const summary = schemas[name]?.description;
      const value = exampleOf(kind, schemas, "answer");
      return [name, { ...(summary === undefined ? {} : { summary }), value }];
    }),
  );
}
