import * as fc from "fast-check";
import {
  componentName,
  type JsonSchema,
  type JsonSchemas,
} from "../src/plugins/openapi-examples.ts";

/** What of JSON Schema limits texts and lists, besides what examples are made from. */
interface Schema extends JsonSchema {
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly propertyNames?: Schema;
}

/** Longest text made where a schema allows a longer one: sizes are for {@link hostileJson}. */
const TEXT_LENGTH_MAX = 300;

const INTEGER_BOUND = Number.MAX_SAFE_INTEGER;

/**
 * Values that a schema of the document allows: its examples, its bounds, anything between. What the
 * document cannot say (a phone number's digits, a password's strength) may still be wrong with them.
 */
export function valuesOf(root: JsonSchema, components: JsonSchemas): fc.Arbitrary<unknown> {
  return ofSchema(root);

  function ofSchema(schema: Schema): fc.Arbitrary<unknown> {
    const { examples = [], enum: choices, $ref: ref } = schema;
    if (ref !== undefined) return ofSchema(components[componentName(ref)] ?? {});
    if ("const" in schema) return fc.constant(schema.const);
    if (choices) return fc.constantFrom(...choices);
    const alternatives = schema.anyOf ?? schema.oneOf;
    if (alternatives) return fc.oneof(...alternatives.map(ofSchema));
    const values = ofType(schema);
    return examples.length === 0
      ? values
      : fc.oneof({ weight: 3, arbitrary: values }, fc.constantFrom(...examples));
  }

  function ofType(schema: Schema): fc.Arbitrary<unknown> {
    const types = [schema.type ?? []].flat();
    const arbitraries = types.map((type) => ofOneType(type, schema));
    return arbitraries.length === 0 ? fc.jsonValue() : fc.oneof(...arbitraries);
  }

  function ofOneType(type: string, schema: Schema): fc.Arbitrary<unknown> {
    switch (type) {
      case "object":
        return ofObject(schema);
      case "array":
        return fc.array(ofSchema(schema.items ?? {}), { maxLength: 5 });
      case "string":
        return ofText(schema);
      case "integer":
      case "number":
        return ofNumber(schema);
      case "boolean":
        return fc.boolean();
      default:
        return fc.constant(null);
    }
  }

  function ofObject(schema: Schema): fc.Arbitrary<unknown> {
    const { properties, required = [], additionalProperties, propertyNames } = schema;
    if (!properties) {
      const inner = typeof additionalProperties === "object" ? additionalProperties : {};
      return fc.dictionary(ofText(propertyNames ?? {}), ofSchema(inner), { maxKeys: 5 });
    }
    const fields = Object.entries(properties).map(([name, one]) => [name, ofSchema(one)] as const);
    return fc.record(Object.fromEntries(fields), { requiredKeys: required });
  }
}

function ofNumber({ minimum = -INTEGER_BOUND, maximum = INTEGER_BOUND }: Schema) {
  const max = Math.max(minimum, maximum);
  return fc.oneof(fc.constantFrom(minimum, max), fc.integer({ min: minimum, max }));
}

function ofText({ format, pattern, minLength = 0, maxLength = 100 }: Schema): fc.Arbitrary<string> {
  const known = TEXTS_BY_FORMAT[format ?? ""];
  if (known) return known;
  const max = Math.max(minLength, Math.min(maxLength, TEXT_LENGTH_MAX));
  if (pattern !== undefined) {
    // A pattern is written for the validator, with what no generator reads, such as a look-ahead.
    try {
      return fc.stringMatching(new RegExp(pattern, "u"), { maxLength: max });
    } catch {
      return fc.string({ minLength, maxLength: max });
    }
  }
  return fc.oneof(
    fc.string({ minLength, maxLength: max }),
    fc.string({ minLength, maxLength: max, unit: "grapheme" }),
    fc.constantFrom("a".repeat(minLength), "ä".repeat(max)),
  );
}

const dates = fc.date({
  min: new Date("0001-01-01"),
  max: new Date("9999-12-31"),
  noInvalidDate: true,
});
const TEXTS_BY_FORMAT: Readonly<Record<string, fc.Arbitrary<string>>> = {
  email: fc.emailAddress(),
  uuid: fc.uuid(),
  "date-time": dates.map((date) => date.toISOString()),
  date: dates.map((date) => date.toISOString().slice(0, 10)),
  uri: fc.webUrl(),
};

/** The dotted paths of the fields of a body, at any depth that the schema names. */
export function fieldsOf(schema: JsonSchema, components: JsonSchemas): string[][] {
  const resolved = schema.$ref === undefined ? schema : components[componentName(schema.$ref)];
  return Object.entries(resolved?.properties ?? {}).flatMap(([name, property]) => [
    [name],
    ...fieldsOf(property, components).map((path) => [name, ...path]),
  ]);
}
