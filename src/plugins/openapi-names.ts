import { isDeepStrictEqual } from "node:util";
import type { Document } from "./openapi-document.ts";
import { componentName, componentRef, type JsonSchemas } from "./openapi-examples.ts";

/**
 * The converter writes each schema twice, `Name` as answered and `NameInput` as sent. Keeps what
 * operations refer to, and calls what is only sent, or the same both ways, `Name`.
 */
export function withOwnNames(document: Document): Document {
  const { schemas } = document.components;
  const isInput = (name: string) => name.endsWith("Input") && name.slice(0, -5) in schemas;
  for (const [name, schema] of Object.entries(schemas)) {
    tidy(schema, isInput(name) ? "request" : "answer");
  }
  for (const path of Object.values(document.paths)) {
    for (const operation of Object.values(path)) {
      tidy(operation?.parameters, "request");
      tidy(operation?.requestBody, "request");
      tidy(operation?.responses, "answer");
    }
  }
  const used = reachable(document.paths, schemas);
  const newNames = new Map<string, string>();
  for (const name of used) {
    const own = isInput(name) ? name.slice(0, -5) : name;
    const isFree = !used.has(own) || isDeepStrictEqual(schemas[own], schemas[name]);
    newNames.set(name, isFree ? own : name);
  }
  const kept = [...used].map((name) => [newNames.get(name) ?? name, schemas[name]] as const);
  const result = {
    ...document,
    components: {
      ...document.components,
      schemas: Object.fromEntries(kept.toSorted(([a], [b]) => (a < b ? -1 : 1))),
    },
  };
  // A copy, with every reference renamed: what is reachable has a new name, so the type stays.
  return JSON.parse(JSON.stringify(result), (key: string, value: unknown) => {
    if (key !== "$ref" || typeof value !== "string") return value;
    const newName = newNames.get(componentName(value));
    return newName === undefined ? value : componentRef(newName);
  }) as Document;
}

/** Names of the components that a part of the document refers to, directly or through others. */
function reachable(part: unknown, schemas: JsonSchemas, names = new Set<string>()): Set<string> {
  visit(part, ({ $ref: ref }) => {
    if (typeof ref !== "string") return;
    const name = componentName(ref);
    const schema = schemas[name];
    if (!schema || names.has(name)) return;
    names.add(name);
    reachable(schema, schemas, names);
  });
  return names;
}

/** Takes out what says nothing: bounds of every JavaScript integer, closed objects of answers. */
function tidy(part: unknown, kind: "request" | "answer"): void {
  visit(part, (object) => {
    if (object["minimum"] === Number.MIN_SAFE_INTEGER) delete object["minimum"];
    if (object["maximum"] === Number.MAX_SAFE_INTEGER) delete object["maximum"];
    // An answer may get fields later without breaking who checks it.
    if (kind === "answer" && object["additionalProperties"] === false) {
      delete object["additionalProperties"];
    }
  });
}

function visit(part: unknown, look: (object: Record<string, unknown>) => void): void {
  if (Array.isArray(part)) {
    for (const item of part) visit(item, look);
  } else if (typeof part === "object" && part !== null) {
    // Any object of a JSON document can be read by key.
    const object = part as Record<string, unknown>;
    look(object);
    for (const value of Object.values(object)) visit(value, look);
  }
}
