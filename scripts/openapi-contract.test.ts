import { describe, expect, test } from "vitest";
import type { Document, Operation } from "../src/plugins/openapi-document.ts";
import {
  breakingChanges,
  breakingVersion,
  contractOf,
  isOlder,
  mayBreak,
} from "./openapi-contract.ts";

/** An operation with something of everything. */
function newOperation(name: string): Operation {
  return {
    operationId: name,
    summary: "Do something",
    parameters: [
      { name: "kind", in: "query", schema: { type: "string", enum: ["a", "b"] } },
      { name: "page", in: "query", schema: { type: "integer", minimum: 1, maximum: 9 } },
    ],
    requestBody: {
      required: true,
      content: {
        "application/json": {
          schema: {
            type: "object",
            properties: { name: { type: "string" }, note: { type: "string" } },
            required: ["name"],
            additionalProperties: false,
          },
        },
      },
    },
    responses: {
      "201": {
        description: "Done.",
        content: {
          "application/json": {
            schema: {
              type: "object",
              properties: {
                id: { type: "integer" },
                state: { type: "string", enum: ["on", "off"] },
              },
              required: ["id", "state"],
            },
          },
        },
      },
    },
    security: [],
  };
}

interface Parts {
  readonly path: Partial<Record<string, Operation>>;
  readonly operation: Operation;
  readonly body: Schema;
  readonly answer: Schema;
}

interface Schema {
  properties: Record<string, { type?: unknown; enum?: string[]; anyOf?: unknown[] }>;
  required: string[];
}

type Change = (parts: Parts) => void;

function parameter({ operation }: Parts, name: string) {
  const found = operation.parameters?.find((one) => "in" in one && one.name === name);
  if (!found || !("in" in found) || !found.schema) throw new Error(`No parameter ${name}`);
  return { ...found, schema: found.schema };
}

function addParameter({ operation }: Parts, required: boolean): void {
  operation.parameters?.push({ name: "new", in: "query", required, schema: { type: "string" } });
}

function takeBody({ operation }: Parts): void {
  delete operation.requestBody;
}

/** What breaks a client, and beside it what is next to it and does not. */
const CHANGES: readonly (readonly [breaking: string, Change, compatible: string, Change])[] = [
  [
    "an operation is removed",
    ({ path }) => void delete path["post"],
    "another is added",
    ({ path }) => void (path["put"] = newOperation("another")),
  ],
  [
    "an operationId is renamed",
    ({ operation }) => void (operation.operationId = "renamed"),
    "a summary is",
    ({ operation }) => void (operation.summary = "Do something else"),
  ],
  [
    "a parameter is removed",
    ({ operation }) => void operation.parameters?.pop(),
    "an optional one is added",
    (parts) => addParameter(parts, false),
  ],
  [
    "a required parameter is added",
    (parts) => addParameter(parts, true),
    "parameters get a description and an example",
    ({ operation }) => {
      for (const one of operation.parameters ?? [])
        Object.assign(one, { description: "Of.", example: 1 });
    },
  ],
  [
    "a parameter takes fewer values",
    (parts) => void parameter(parts, "kind").schema.enum?.pop(),
    "it takes more",
    (parts) => void parameter(parts, "kind").schema.enum?.push("c"),
  ],
  [
    "a parameter's bounds narrow",
    (parts) => void (parameter(parts, "page").schema.maximum = 8),
    "they widen",
    (parts) => void (parameter(parts, "page").schema.maximum = 10),
  ],
  [
    "a field becomes required in a body",
    ({ body }) => void body.required.push("note"),
    "it is required no more",
    ({ body }) => void body.required.pop(),
  ],
  [
    "a field is taken from a body that is closed",
    ({ body }) => void delete body.properties["note"],
    "an optional one is added",
    ({ body }) => void (body.properties["more"] = { type: "string" }),
  ],
  [
    "a field of a body changes its type",
    ({ body }) => void (body.properties["note"] = { type: "integer" }),
    "it may be null, too",
    ({ body }) => {
      body.properties["note"] = { type: ["string", "null"] };
    },
  ],
  [
    "a field is taken from an answer",
    ({ answer }) => {
      delete answer.properties["id"];
      answer.required.shift();
    },
    "one is added",
    ({ answer }) => void (answer.properties["more"] = { type: "string" }),
  ],
  [
    "a field of an answer may be missing",
    ({ answer }) => void answer.required.pop(),
    "an added one is always there",
    ({ answer }) => {
      answer.properties["more"] = { type: "string" };
      answer.required.push("more");
    },
  ],
  [
    "a field of an answer changes its type",
    ({ answer }) => void (answer.properties["id"] = { type: "string" }),
    "none does",
    () => undefined,
  ],
  [
    "an answer has a value more",
    ({ answer }) => void answer.properties["state"]?.enum?.push("odd"),
    "it has one less",
    ({ answer }) => void answer.properties["state"]?.enum?.pop(),
  ],
  [
    "a success status becomes another",
    ({ operation }) => {
      const { 201: answer, ...others } = operation.responses;
      if (answer) operation.responses = { ...others, 200: answer };
    },
    "an answer says something else of itself",
    ({ operation }) => {
      const answer = operation.responses["201"];
      if (answer) answer.description = "Made.";
    },
  ],
  [
    "a token is asked for",
    ({ operation }) => void (operation.security = [{ bearerAuth: [] }]),
    "a token may be sent",
    ({ operation }) => void (operation.security = [{}, { bearerAuth: [] }]),
  ],
];

/** A document with one operation for each case, changed or not. */
function documentOf(cases: readonly (readonly [name: string, change: Change])[], isAfter: boolean) {
  const paths: Document["paths"] = {};
  cases.forEach(([, change], index) => {
    const operation = newOperation(`operation${index}`);
    const path: Parts["path"] = { post: operation };
    paths[`/${index}/`] = path;
    if (!isAfter) return;
    const schemaOf = (content: Record<string, { schema?: unknown }> | undefined) =>
      // As newOperation made them.
      content?.["application/json"]?.schema as Schema;
    const body = schemaOf(operation.requestBody?.content);
    change({ path, operation, body, answer: schemaOf(operation.responses["201"]?.content) });
  });
  const document: Document = {
    openapi: "3.1.1",
    info: { title: "Test", version: "1.0.0" },
    paths,
    components: {
      schemas: {},
      securitySchemes: { bearerAuth: { type: "http", scheme: "bearer" } },
    },
  };
  return document;
}

describe("breakingChanges", () => {
  test("finds each change that breaks a client, and not the one beside it", async () => {
    const cases = CHANGES.flatMap(([breaking, change, compatible, other]) => [
      [breaking, change] as const,
      [compatible, other] as const,
    ]);

    const found = await breakingChanges(documentOf(cases, false), documentOf(cases, true));

    const broken = cases
      .filter((_, index) => found.some((sentence) => sentence.startsWith(`POST /${index}/`)))
      .map(([name]) => name);
    expect(broken).toEqual(CHANGES.map(([breaking]) => breaking));
    expect(found.every((sentence) => /^POST \/\d+\/.*: ./.test(sentence))).toBe(true);
  }, 60_000);

  test("finds a body that is required where there was none, and not one that may be sent", async () => {
    const before = documentOf([["", () => undefined]], false);
    const after = structuredClone(before);
    const optional = structuredClone(before);
    const operation = before.paths["/0/"]?.["post"];
    const body = optional.paths["/0/"]?.["post"]?.requestBody;
    if (!operation || !body) throw new Error("There is no operation");
    takeBody({ operation } as Parts);
    body.required = false;

    expect(await breakingChanges(before, after)).toEqual(["POST /0/: A body is required now."]);
    expect(await breakingChanges(before, optional)).toEqual([]);
  }, 60_000);
});

describe("contractOf", () => {
  test("keeps what clients rely on: a document breaks nothing of its own contract", async () => {
    const document = documentOf([["", () => undefined]], false);
    const contract = contractOf(document);

    expect(await breakingChanges(contract, document)).toEqual([]);
    expect(JSON.stringify(contract)).not.toContain("summary");
  }, 60_000);

  test("leaves out failures and what is only told, but no field that is called so", () => {
    const document = documentOf([["", () => undefined]], false);
    const operation = document.paths["/0/"]?.["post"];
    const schema = operation?.requestBody?.content["application/json"]?.schema;
    if (!operation || !schema?.properties) throw new Error("There is no body");
    schema.properties["description"] = { type: "string", description: "Told." };
    operation.responses["400"] = { description: "No." };

    const kept = contractOf(document).paths["/0/"]?.["post"];

    expect(kept?.requestBody?.content["application/json"]?.schema?.properties).toMatchObject({
      description: { type: "string" },
    });
    expect(JSON.stringify(kept)).not.toContain("Told.");
    expect(Object.keys(kept?.responses ?? {})).toEqual(["201"]);
  });
});

describe("versions", () => {
  test("may break what an older one promises: a new major one, or below 1.0 a new minor one", () => {
    expect(mayBreak("1.2.3", "2.0.0")).toBe(true);
    expect(mayBreak("1.2.3", "1.3.0")).toBe(false);
    expect(mayBreak("0.2.3", "0.3.0")).toBe(true);
    expect(mayBreak("0.2.3", "0.2.4")).toBe(false);
    expect(mayBreak("0.2.3", "0.1.9")).toBe(false);
    expect(mayBreak("2.0.0", "1.9.0")).toBe(false);
    expect(mayBreak("0.2.3", breakingVersion("0.2.3"))).toBe(true);
    expect(mayBreak("1.2.3", breakingVersion("1.2.3"))).toBe(true);
  });

  test("come one before the other by their numbers", () => {
    expect(isOlder("0.9.0", "0.10.0")).toBe(true);
    expect(isOlder("0.10.0", "0.9.9")).toBe(false);
    expect(isOlder("1.0.0", "1.0.0")).toBe(false);
    expect(() => isOlder("1.0", "1.0.0")).toThrow("1.0 is not a version");
  });
});
