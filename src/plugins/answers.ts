import fastJson, { type Schema } from "fast-json-stringify";
import type { FastifySerializerCompiler } from "fastify/types/schema.js";
import { serializerCompiler } from "fastify-type-provider-zod";
import { z } from "zod";

/**
 * Writes answers as their schemas say, by code compiled from them: what is not declared never leaves. zod itself
 * takes six times as long, since it checks every value.
 *
 * @param isChecked whether an answer that its schema does not allow fails the request: for tests, which meet
 *   every answer there is
 */
export function answerCompiler(isChecked: boolean): FastifySerializerCompiler<z.ZodType> {
  return (route) => {
    const { schema } = route;
    const check = serializerCompiler(route);
    if (!isPlain(schema)) return check;
    // Compiled for the first answer: over a hundred routes it would be much of the service's start.
    let compiled: ((answer: unknown) => string) | undefined;
    const write = (answer: unknown) => {
      compiled ??= fastJson(jsonSchemaOf(schema));
      return compiled(answer);
    };
    if (!isChecked) return write;
    return (data) => {
      check(data);
      return write(data);
    };
  };
}

/** Whether JSON says all there is to the schema: bytes and texts of other media types are left as they are. */
function isPlain(schema: z.ZodType): boolean {
  return schema instanceof z.ZodObject || schema instanceof z.ZodArray;
}

/** The JSON Schema of what an answer is once it is written: a date is text. */
export function jsonSchemaOf(schema: z.ZodType): Schema {
  // Both describe JSON Schema; they differ in what may be undefined.
  return z.toJSONSchema(schema, {
    target: "draft-7",
    io: "output",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      if (!(zodSchema instanceof z.ZodDate)) return;
      jsonSchema.type = "string";
      jsonSchema.format = "date-time";
    },
  }) as Schema;
}
