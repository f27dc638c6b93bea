import * as fc from "fast-check";
import type { InjectOptions } from "fastify";
import type { Document, Operation } from "../src/plugins/openapi-document.ts";
import type { JsonSchema } from "../src/plugins/openapi-examples.ts";
import {
  hostileCredentials,
  hostileJson,
  hostileKeys,
  hostileParts,
  hostileTenants,
  JsonText,
  rawBodies,
  wellFormed,
  writeJson,
} from "./fuzz-hostile.ts";
import { fieldsOf, valuesOf } from "./fuzz-values.ts";
import type { Call } from "./permission-requests.ts";

/** An operation of the document. */
export interface Target {
  /** `GET /api/company/{id}/` */
  readonly name: string;
  readonly method: NonNullable<InjectOptions["method"]>;
  /** With `{id}` and the like. */
  readonly url: string;
  readonly operation: Operation;
}

/** Every operation of a document. */
export function targetsOf({ paths }: Document): Target[] {
  return Object.entries(paths).flatMap(([url, item]) =>
    Object.entries(item).flatMap(([key, operation]) => {
      const method = key.toUpperCase();
      return operation ? [{ name: `${method} ${url}`, method, url, operation }] : [];
    }),
  );
}

/** Who sends it: whom the recipe means, or somebody who may not, or nobody. */
export type Sender =
  | { readonly kind: "own" | "nobody" | "stranger" | "reading operator" | "other kind of token" }
  | { readonly kind: "nonsense"; readonly credentials: string };

/** A change of one field of a valid body. */
export interface FieldChange {
  readonly field: readonly string[];
  /** Undefined takes the field out. */
  readonly value: unknown;
}

type BodyCase =
  | { readonly kind: "changed"; readonly changes: readonly FieldChange[] }
  | { readonly kind: "whole"; readonly value: unknown }
  | { readonly kind: "raw"; readonly type: string; readonly bytes: Buffer };

/** In what a request differs from a valid one; an empty one is valid. */
export interface Case {
  readonly body?: BodyCase;
  /** Parts of the path, in place of the recipe's ids, by their number. */
  readonly ids?: Readonly<Record<number, string>>;
  /** Escaped parameters, besides the recipe's or in place of them. */
  readonly query?: readonly (readonly [name: string, value: string])[];
  readonly sender?: Sender;
  /** In place of the tenant's name; null sends none. */
  readonly tenant?: string | null;
}

const METHODS_WITHOUT_BODY: ReadonlySet<string> = new Set(["GET", "HEAD"]);

/** Cases of one operation: most differ from a valid request in one thing, so that they get far. */
export function casesOf(target: Target, document: Document): fc.Arbitrary<Case> {
  const { operation, method, url } = target;
  const bodies = METHODS_WITHOUT_BODY.has(method) ? undefined : bodiesOf(operation, document);
  const queries = queriesOf(operation, document);
  const idCount = url.split("{").length - 1;
  const ids =
    idCount === 0
      ? undefined
      : fc.tuple(fc.nat({ max: idCount - 1 }), idParts).map(([at, part]) => ({ [at]: part }));
  const one = (key: keyof Case, weight: number, arbitrary: fc.Arbitrary<unknown> | undefined) =>
    arbitrary ? [{ weight, arbitrary: arbitrary.map((value): Case => ({ [key]: value })) }] : [];
  const single = [
    { weight: 1, arbitrary: fc.constant<Case>({}) },
    ...one("body", operation.requestBody ? 12 : 1, bodies),
    ...one("query", operation.parameters?.some(isQuery) ? 6 : 1, queries),
    ...one("ids", 3, ids),
    ...one("sender", url.startsWith("/api/") ? 2 : 1, senders),
    ...one("tenant", 1, fc.option(hostileTenants)),
  ];
  return fc.oneof(
    { weight: 6, arbitrary: fc.oneof(...single) },
    {
      weight: 1,
      // Several things at once: which of them is answered is part of the contract.
      arbitrary: fc
        .tuple(fc.oneof(...single), fc.oneof(...single))
        .map(([first, second]): Case => ({ ...first, ...second })),
    },
  );
}

/** What no field is spared: values that columns of PostgreSQL do not take, or no value. */
const CERTAIN_VALUES = [
  '"\\u0000"',
  '"a\\ud800"',
  "9223372036854775808",
  "[".repeat(8_000) + "]".repeat(8_000),
].map((text) => new JsonText(text));
const CERTAIN_PARTS = ["%00", "a%ED%A0%80", "9223372036854775808"];

/** Cases that are sent whatever the seed: a valid request, then each field with each of a few values. */
export function certainCasesOf({ operation, url }: Target, { components }: Document): Case[] {
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const fields = schema ? fieldsOf(schema, components.schemas) : [];
  const names = (operation.parameters ?? []).flatMap((one) =>
    "in" in one && one.in === "query" ? [one.name] : [],
  );
  const idCount = url.split("{").length - 1;
  return [
    {},
    ...fields.flatMap((field) =>
      CERTAIN_VALUES.map((value): Case => ({
        body: { kind: "changed", changes: [{ field, value }] },
      })),
    ),
    ...CERTAIN_PARTS.flatMap((part) => [
      ...names.map((name): Case => ({ query: [[name, part]] })),
      ...Array.from({ length: idCount }, (_, at): Case => ({ ids: { [at]: part } })),
    ]),
  ];
}

/** Ids of rows that are not there, or none. */
const idParts = fc.oneof(
  hostileParts,
  fc.integer({ min: 1 }).map(String),
  fc.constantFrom("9007199254740991", "9223372036854775807", "9223372036854775808", "-1", "0"),
);

const senders: fc.Arbitrary<Sender> = fc.oneof(
  fc.constantFrom<Sender>(
    { kind: "nobody" },
    { kind: "stranger" },
    { kind: "reading operator" },
    { kind: "other kind of token" },
  ),
  hostileCredentials.map((credentials): Sender => ({ kind: "nonsense", credentials })),
);

function isQuery(parameter: object): boolean {
  return "in" in parameter && parameter.in === "query";
}

function queriesOf({ parameters = [] }: Operation, { components }: Document) {
  const known = parameters.flatMap((one) => ("in" in one && one.in === "query" ? [one] : []));
  const right = known.map(({ name, schema }) =>
    fc.tuple(
      fc.constant(name),
      valuesOf(schema ?? {}, components.schemas).map((value) =>
        encodeURIComponent(wellFormed(String(value))),
      ),
    ),
  );
  const wrong = known.map(({ name }) => fc.tuple(fc.constant(name), hostileParts));
  const unknown = fc.tuple(
    fc.constantFrom("extra", "__proto__", "constructor", "a[b]", "company[]", "%", "id"),
    hostileParts,
  );
  return fc.oneof(
    fc.array(fc.oneof(...right, unknown), { minLength: 1, maxLength: 3 }),
    fc.array(fc.oneof(...(wrong.length > 0 ? wrong : [unknown])), { minLength: 1, maxLength: 2 }),
    ...(right.length > 0 ? [fc.array(fc.oneof(...right), { minLength: 1, maxLength: 4 })] : []),
  );
}

function bodiesOf({ requestBody }: Operation, { components }: Document): fc.Arbitrary<BodyCase> {
  const raw = rawBodies.map((body): BodyCase => ({ kind: "raw", ...body }));
  const whole = hostileJson.map((value): BodyCase => ({ kind: "whole", value }));
  const schema = requestBody?.content["application/json"]?.schema;
  if (!schema) return fc.oneof({ weight: 4, arbitrary: raw }, whole);
  const { schemas } = components;
  const valid = valuesOf(schema, schemas);
  const fields = fieldsOf(schema, schemas);
  const changed = (value: fc.Arbitrary<unknown>): fc.Arbitrary<FieldChange> =>
    fc.record({ field: fc.constantFrom(...fields), value });
  const better = fc.constantFrom(...fields).chain((field) =>
    valuesOf(schemaOf(schema, field, schemas), schemas).map((value): FieldChange => ({
      field,
      value,
    })),
  );
  const extra = fc.record({ field: hostileKeys.map((key) => [key]), value: hostileJson });
  const changes = (arbitrary: fc.Arbitrary<FieldChange>, maxLength: number) =>
    fc
      .array(arbitrary, { minLength: 1, maxLength })
      .map((list): BodyCase => ({ kind: "changed", changes: list }));
  return fc.oneof(
    { weight: 6, arbitrary: changes(better, 3) },
    { weight: 8, arbitrary: changes(changed(hostileJson), 2) },
    { weight: 2, arbitrary: changes(changed(fc.constant(undefined)), 2) },
    { weight: 2, arbitrary: changes(extra, 2) },
    { weight: 2, arbitrary: valid.map((value): BodyCase => ({ kind: "whole", value })) },
    { weight: 1, arbitrary: whole },
    { weight: 3, arbitrary: raw },
  );
}

/** The schema of a field. */
function schemaOf(
  schema: JsonSchema,
  field: readonly string[],
  schemas: Readonly<Record<string, JsonSchema>>,
): JsonSchema {
  const resolved =
    schema.$ref === undefined ? schema : (schemas[schema.$ref.split("/").at(-1) ?? ""] ?? {});
  const [name, ...rest] = field;
  return name === undefined ? schema : schemaOf(resolved.properties?.[name] ?? {}, rest, schemas);
}

/** A valid request of an operation, as its recipe made it. */
export interface Base {
  readonly call: Call;
  readonly token: string | undefined;
  /** For `X-Tenant`; undefined outside tenants. */
  readonly tenant: string | undefined;
}

/** What is sent for a case, but for its sender. */
export function requestOf(target: Target, base: Base, given: Case): InjectOptions {
  const tenant = given.tenant === undefined ? base.tenant : (given.tenant ?? undefined);
  const { type, payload } = payloadOf(base.call, given.body);
  return {
    method: target.method,
    url: urlOf(target, base.call, given),
    headers: {
      ...(tenant === undefined ? {} : { "x-tenant": tenant }),
      ...(type === undefined ? {} : { "content-type": type }),
    },
    ...(payload === undefined ? {} : { payload }),
  };
}

function urlOf({ url }: Target, { path }: Call, { ids = {}, query = [] }: Case): string {
  const [way = "", own = ""] = path.split("?");
  let at = -1;
  const names = url.split("/");
  const parts = way.split("/").map((part, index) => {
    if (!names[index]?.startsWith("{")) return part;
    at += 1;
    return ids[at] ?? part;
  });
  const replaced = new Set(query.map(([name]) => name));
  const kept = own.split("&").filter((pair) => pair && !replaced.has(pair.split("=")[0] ?? ""));
  const search = [...kept, ...query.map(([name, value]) => `${name}=${value}`)].join("&");
  return search === "" ? parts.join("/") : `${parts.join("/")}?${search}`;
}

interface Payload {
  readonly type?: string;
  readonly payload?: string | Buffer;
}

function payloadOf({ body, image }: Call, given: BodyCase | undefined): Payload {
  const json = (value: unknown): Payload => ({
    type: "application/json",
    payload: writeJson(value),
  });
  switch (given?.kind) {
    case "raw":
      return { type: given.type, payload: given.bytes };
    case "whole":
      return json(given.value);
    case "changed":
      return json(given.changes.reduce(withChange, body ?? {}));
    case undefined:
      if (image) return { type: "image/png", payload: image };
      return body === undefined ? {} : json(body);
  }
}

/** A copy of an object with one field changed; an object in between that is missing is made. */
function withChange(object: object, { field, value }: FieldChange): object {
  const [name = "", ...rest] = field;
  const entries = new Map<string, unknown>(Object.entries(object));
  const inner = entries.get(name);
  const isObject = typeof inner === "object" && inner !== null;
  entries.set(
    name,
    rest.length === 0 ? value : withChange(isObject ? inner : {}, { field: rest, value }),
  );
  // Not by assignment, to which `__proto__` is no field.
  return Object.fromEntries(entries);
}

/** A body of a case as JSON, where it has one that can be read. */
export function bodyOf({ payload }: InjectOptions): unknown {
  if (typeof payload !== "string") return undefined;
  try {
    return JSON.parse(payload);
  } catch {
    return undefined;
  }
}
