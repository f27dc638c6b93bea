import type { FieldErrors } from "../errors.ts";

/** What a validator complains about, as fastify-type-provider-zod hands it on. */
export interface Complaint {
  readonly instancePath: string;
  readonly keyword: string;
  readonly message?: string | undefined;
  readonly params: Readonly<Record<string, unknown>>;
}

/** How zod begins the messages that no schema has worded: what they say is for programmers. */
const UNWORDED =
  /^(Invalid input|Too small|Too big|Invalid option|Invalid string|Unrecognized key)/;

const NAMES: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "a list",
};

/** Complaints by field, as sentences for the person who filled it in: dotted path → what is wrong. */
export function toFieldErrors(complaints: readonly Complaint[]): FieldErrors {
  const errors = new Map<string, string[]>();
  const add = (path: readonly string[], sentence: string) => {
    const field = path.join(".") || "body";
    errors.set(field, [...(errors.get(field) ?? []), sentence]);
  };
  for (const complaint of complaints) {
    const path = complaint.instancePath.split("/").filter(Boolean);
    const { keys } = complaint.params;
    if (complaint.keyword === "unrecognized_keys" && Array.isArray(keys)) {
      for (const key of keys) add([...path, String(key)], "There is no such field.");
    } else {
      add(path, sentenceFor(complaint));
    }
  }
  return Object.fromEntries(errors);
}

function sentenceFor({ keyword, message, params }: Complaint): string {
  if (message !== undefined && !UNWORDED.test(message)) return message;
  if (keyword === "invalid_type") {
    if (message?.endsWith("received undefined")) return "This field is required.";
    const name = NAMES[String(params["expected"])];
    return name === undefined ? "This value is not valid." : `This must be ${name}.`;
  }
  if (keyword === "invalid_value" && Array.isArray(params["values"])) {
    return `This must be one of: ${params["values"].map(String).join(", ")}.`;
  }
  if (keyword === "too_small") {
    if (params["origin"] === "string" && params["minimum"] === 1) return "This must not be empty.";
    return `${amountOf(params)} at least ${String(params["minimum"])}.`;
  }
  if (keyword === "too_big") return `${amountOf(params)} at most ${String(params["maximum"])}.`;
  return "This value is not valid.";
}

/** What a limit counts. */
function amountOf({ origin }: Complaint["params"]): string {
  if (origin === "string") return "Characters:";
  if (origin === "array" || origin === "set") return "Entries:";
  return "This must be";
}
