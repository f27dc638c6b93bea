import { describe, expect, test } from "vitest";
import { hasZodFastifySchemaValidationErrors, validatorCompiler } from "fastify-type-provider-zod";
import { z } from "zod";
import { toFieldErrors } from "./field-errors.ts";

const Form = z.strictObject({
  name: z.string().min(1).max(3),
  age: z.int().min(18),
  kind: z.enum(["a", "b"]),
  tags: z.array(z.string()).max(1),
  home: z.strictObject({ email: z.email("Enter an e-mail address.") }),
});

const GOOD = { name: "Ada", age: 18, kind: "a", tags: [], home: { email: "ada@corp.test" } };

/** As requests are validated. */
const validate = validatorCompiler({ schema: Form, method: "POST", url: "/" });

function errorsOf(form: unknown): Record<string, string[]> {
  const result: unknown = validate(form);
  if (typeof result !== "object" || result === null || !("error" in result)) return {};
  const failure = { validation: result.error };
  return hasZodFastifySchemaValidationErrors(failure) ? toFieldErrors(failure.validation) : {};
}

describe("what is wrong with a form", () => {
  test("is nothing when every field is as it should be", () => {
    expect(errorsOf(GOOD)).toEqual({});
  });

  test.each([
    ["a missing field", { ...GOOD, name: undefined }, { name: ["This field is required."] }],
    ["a field of another type", { ...GOOD, name: 1 }, { name: ["This must be a text."] }],
    ["null", { ...GOOD, age: null }, { age: ["This must be a number."] }],
    ["half a year", { ...GOOD, age: 18.5 }, { age: ["This must be a whole number."] }],
    ["an empty text", { ...GOOD, name: "" }, { name: ["This must not be empty."] }],
    [
      "a text that is too long",
      { ...GOOD, name: "Lovelace" },
      { name: ["Characters: at most 3."] },
    ],
    ["a number that is too small", { ...GOOD, age: 17 }, { age: ["This must be at least 18."] }],
    ["too long a list", { ...GOOD, tags: ["x", "y"] }, { tags: ["Entries: at most 1."] }],
    ["an unknown choice", { ...GOOD, kind: "c" }, { kind: ["This must be one of: a, b."] }],
    [
      "a nested field, in its schema's own words",
      { ...GOOD, home: { email: "ada" } },
      { "home.email": ["Enter an e-mail address."] },
    ],
    ["no object at all", null, { body: ["This must be an object."] }],
  ])("%s is said in a sentence at its path", (_, form, errors) => {
    expect(errorsOf(form)).toEqual(errors);
  });

  test("unknown fields are each named, nested ones by their path", () => {
    expect(errorsOf({ ...GOOD, nmae: "Ada", home: { email: "a@b.test", street: "x" } })).toEqual({
      nmae: ["There is no such field."],
      "home.street": ["There is no such field."],
    });
  });

  test("a field called __proto__ is named like any other", () => {
    const form: unknown = JSON.parse(JSON.stringify(GOOD).replace("{", '{"__proto__":1,'));

    expect(JSON.stringify(errorsOf(form))).toContain("There is no such field.");
  });
});
