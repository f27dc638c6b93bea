import { z } from "zod";

/** The id of a row. */
export const RowId = z
  .int()
  .min(1)
  .meta({ examples: [3] });

/** An id in a path or a query. */
export const Id = z.coerce
  .number()
  .int()
  .min(1)
  .max(Number.MAX_SAFE_INTEGER)
  .meta({ description: "The id of the row.", examples: [3] });

/** The path of one row. */
export const IdParams = z.strictObject({ id: Id });

/** An id to filter a list by, of a row that `of` names. */
export function FilterId(of: string, example = 3) {
  return Id.optional().meta({ description: `Only those of this ${of}.`, examples: [example] });
}

/** `true` or `false` in a query. */
export function Flag(description: string) {
  return (
    z
      .string()
      // Here, not at the end: of a transform zod keeps nothing for what comes in.
      .meta({ description, enum: ["true", "false"], examples: ["true"] })
      .pipe(z.stringbool({ truthy: ["true"], falsy: ["false"] }))
      .optional()
  );
}

/** The answer without a body when a row was deleted. */
export const Deleted = z.undefined().meta({ description: "Deleted." });

/** What every row that can be deleted carries. */
export const RecordFields = {
  created_at: z.date(),
  updated_at: z.date(),
  deleted_at: z
    .date()
    .nullable()
    .meta({ examples: [null] }),
  is_deleted: z.boolean().meta({ examples: [false] }),
};

/** What PostgreSQL cannot store, and what has no place in a line. */
const CONTROL = /[\u0000-\u001f\u007f]/;
/** Half of a character: no encoding has it, and jsonb refuses its escape. */
const LONE_SURROGATE = /\p{Cs}/u;

/** Whether a text is stored as it is: half of a character would become U+FFFD, like every other half. */
export function isWellFormed(text: string): boolean {
  return !LONE_SURROGATE.test(text);
}

/** In a text of several lines tabs and line breaks have a place. */
const CONTROL_IN_PARAGRAPHS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** A text of one line, not empty. Metadata belongs on what this gives. */
export function Line(lengthMax: number) {
  return z
    .string()
    .trim()
    .min(1)
    .max(lengthMax)
    .refine((text) => !CONTROL.test(text), "Control characters have no place here.")
    .refine(isWellFormed, "This is not well-formed Unicode.");
}

/** A text of any number of lines, perhaps none. */
export function Paragraphs(lengthMax: number) {
  return z
    .string()
    .trim()
    .max(lengthMax)
    .refine((text) => !CONTROL_IN_PARAGRAPHS.test(text), "Control characters have no place here.")
    .refine(isWellFormed, "This is not well-formed Unicode.");
}
