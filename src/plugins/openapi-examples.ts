/** A JSON Schema (2020-12), as far as an example is made from it. */
export interface JsonSchema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  description?: string;
  const?: unknown;
  default?: unknown;
  enum?: unknown[];
  examples?: unknown[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  minimum?: number;
  maximum?: number;
  additionalProperties?: boolean | JsonSchema;
}

export type JsonSchemas = Readonly<Record<string, JsonSchema>>;

const REF_PREFIX = "#/components/schemas/";

const EXAMPLE_BY_FORMAT: Readonly<Record<string, string>> = {
  uuid: "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
  email: "ada@corp.io",
  "date-time": "2026-01-31T09:30:00.000Z",
  date: "2026-01-31",
  uri: "https://example.com/",
};

/** The component a reference names. */
export function componentName(ref: string): string {
  return ref.slice(REF_PREFIX.length);
}

export function componentRef(name: string): string {
  return `${REF_PREFIX}${name}`;
}

/**
 * One value of the schema, made from the examples written in it. Of a request, optional properties
 * without an example of their own are left out; an answer shows all. A component that contains itself
 * ends as `null`.
 */
export function exampleOf(
  root: JsonSchema,
  components: JsonSchemas,
  kind: "request" | "answer",
): unknown {
  const open = new Set<string>();
  return valueOf(root);

  function valueOf(schema: JsonSchema): unknown {
    const { examples, enum: values, $ref: ref } = schema;
    if (examples && examples.length > 0) return examples[0];
    if ("const" in schema) return schema.const;
    if ("default" in schema) return schema.default;
    if (values && values.length > 0) return values[0];
    if (ref !== undefined) return valueOfComponent(componentName(ref));
    const alternative = schema.anyOf?.[0] ?? schema.oneOf?.[0];
    if (alternative) return valueOf(alternative);
    if (schema.allOf) return Object.assign({}, ...schema.allOf.map(valueOf));
    return valueOfType(schema);
  }

  function valueOfComponent(name: string): unknown {
    if (open.has(name)) return null;
    open.add(name);
    const value = valueOf(components[name] ?? {});
    open.delete(name);
    return value;
  }

  function valueOfType(schema: JsonSchema): unknown {
    const types = [schema.type ?? []].flat();
    switch (types.find((name) => name !== "null")) {
      case "object":
        return valueOfObject(schema);
      case "array":
        return schema.items ? [valueOf(schema.items)] : [];
      case "string":
        return EXAMPLE_BY_FORMAT[schema.format ?? ""] ?? "text";
      case "integer":
      case "number":
        return Math.min(Math.max(1, schema.minimum ?? 1), schema.maximum ?? Infinity);
      case "boolean":
        return true;
      default:
        return null;
    }
  }

  function valueOfObject({ properties = {}, required = [] }: JsonSchema): Record<string, unknown> {
    return Object.fromEntries(
      Object.entries(properties)
        .filter(([name, { examples }]) => kind === "answer" || required.includes(name) || examples)
        .map(([name, property]) => [name, valueOf(property)]),
    );
  }
}
