import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { Contract } from "../../test/fuzz-answers.ts";
import { type Target, targetsOf } from "../../test/fuzz-requests.ts";
import { STATUS_BY_CODE } from "../errors.ts";
import { ROOT_DIR } from "../paths.ts";
import type { MediaType, Parameter, Reference } from "./openapi-document.ts";
import { type SharedDocument, withOwnFailures } from "./openapi-failures.ts";

/** What people work from. That it is what the code writes is said by `npm run openapi -- --check`. */
const document = withOwnFailures(
  JSON.parse(readFileSync(path.join(ROOT_DIR, "openapi.json"), "utf8")) as SharedDocument,
);
const targets = targetsOf(document);
const contract = new Contract(document);

/** What a function of a generated client is called by: what it does, then to what. */
const VERBS = [
  "accept activate add change confirm create delete disable enable end finalize get list log make mark",
  "refresh reissue remove replace request resend reset revoke send sign suspend test verify",
]
  .join(" ")
  .split(" ");

/** Answers that have no body by their status (RFC 9110). */
const WITHOUT_BODY = new Set(["204", "205", "304"]);

/** Where something is in the document, with what is wrong there. */
type Fault = `${string}: ${string}`;

function faultsOf(look: (target: Target) => readonly (Fault | undefined)[]): Fault[] {
  return targets.flatMap((target) => look(target).filter((fault) => fault !== undefined));
}

/** The keys that lead to an operation. */
function placeOf({ url, method }: Target): string[] {
  return ["paths", url, method.toLowerCase()];
}

function resolve<Value extends object>(value: Value | Reference): Value {
  if (!("$ref" in value)) return value;
  const found = value.$ref
    .split("/")
    .slice(1)
    .reduce<unknown>((part, key) => (part as Record<string, unknown>)[key], document);
  // What a reference leads to has the type of what it stands for.
  return found as Value;
}

function exampleFaults(
  name: string,
  place: readonly string[],
  { schema, example, examples = {} }: MediaType,
): Fault[] {
  if (!schema) return [`${name}: no schema`];
  if (schema.format === "binary") return [];
  // Compiled once, however many answers refer to it.
  const at = schema.$ref === undefined ? [...place, "schema"] : schema.$ref.split("/").slice(1);
  const shown = Object.values(examples).map(
    (one) => resolve<{ value: unknown }>(one as never).value,
  );
  const all = shown.length > 0 ? shown : [example];
  return all.flatMap((value): Fault[] => {
    if (value === undefined) return [`${name}: no example`];
    const fault = contract.invalidityAt(at, value);
    return fault === undefined ? [] : [`${name}: ${fault}`];
  });
}

describe("in openapi.json", () => {
  test("there are all operations of production, of every domain", () => {
    expect(targets.length).toBeGreaterThanOrEqual(107);
    expect((document.tags ?? []).map(({ name }) => name)).toEqual([
      "Authentication",
      "Account",
      "Company",
      "Access control",
      "Audit",
      "Platform",
      "Service",
    ]);
  });

  test("every operation has a summary, a description, and one tag that is explained", () => {
    const tags = new Set((document.tags ?? []).map(({ name }) => name));
    expect(
      faultsOf(({ name, operation: { summary = "", description = "", tags: own = [] } }) => [
        /^[A-Z].*[^.]$/.test(summary) ? undefined : `${name}: summary "${summary}"`,
        /^\S.*[.)]$/s.test(description) ? undefined : `${name}: description "${description}"`,
        own.length === 1 && tags.has(own[0] ?? "") ? undefined : `${name}: tags ${own.join()}`,
      ]),
    ).toEqual([]);
  });

  test("every operationId is a good name of a function: one verb first, nobody else's", () => {
    expect(
      faultsOf(({ name, operation: { operationId = "" } }) => {
        const verb = /^([a-z]+)[A-Z]/.exec(operationId)?.[1] ?? "";
        const isGood = /^[a-z]+(?:[A-Z][a-z0-9]*)+$/.test(operationId) && VERBS.includes(verb);
        return [isGood ? undefined : `${name}: ${operationId}`];
      }),
    ).toEqual([]);
    const ids = targets.map(({ operation }) => operation.operationId);
    expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
  });

  test("every operation says whether it takes a token, of which kind", () => {
    const schemes = Object.keys(document.components["securitySchemes"] ?? {});
    expect(
      faultsOf(({ name, operation: { security } }) => [
        security === undefined ? `${name}: no security` : undefined,
        ...(security ?? [])
          .flatMap((one) => Object.keys(one))
          .filter((scheme) => !schemes.includes(scheme))
          .map((scheme): Fault => `${name}: ${scheme}`),
      ]),
    ).toEqual([]);
  });

  test("every parameter has a description, and an example that its schema takes", () => {
    expect(
      faultsOf((target) =>
        (target.operation.parameters ?? []).flatMap((one, index): (Fault | undefined)[] => {
          const { name, description, example, schema } = resolve<Parameter>(one);
          const at = `${target.name} ${name}` as const;
          // A reference is followed by hand: a pointer does not lead through it.
          const place =
            "$ref" in one
              ? one.$ref.split("/").slice(1)
              : [...placeOf(target), "parameters", String(index)];
          return [
            description ? undefined : `${at}: no description`,
            ...exampleFaults(at, place, { ...(schema ? { schema } : {}), example }),
          ];
        }),
      ),
    ).toEqual([]);
  });

  test("every body and every answer has an example that its schema takes", () => {
    expect(
      faultsOf((target) => {
        const { requestBody, responses } = target.operation;
        const bodies = Object.entries(requestBody?.content ?? {}).flatMap(([type, media]) =>
          exampleFaults(
            `${target.name} body`,
            [...placeOf(target), "requestBody", "content", type],
            media,
          ),
        );
        const answers = Object.entries(responses).flatMap(([status, { content }]): Fault[] => {
          const at = `${target.name} ${status}` as const;
          if (!content) return WITHOUT_BODY.has(status) ? [] : [`${at}: no content`];
          return Object.entries(content).flatMap(([type, media]) =>
            exampleFaults(at, [...placeOf(target), "responses", status, "content", type], media),
          );
        });
        return [...bodies, ...answers];
      }),
    ).toEqual([]);
  });

  test("every failure lists its codes, each of which has that status", () => {
    expect(
      faultsOf(({ name, operation }) =>
        Object.entries(operation.responses).flatMap(([status, { content }]): Fault[] => {
          if (Number(status) < 400) return [];
          const { examples = {} } = content?.["application/problem+json"] ?? {};
          const codes = Object.keys(examples);
          const known: Readonly<Record<string, number>> = STATUS_BY_CODE;
          const wrong = codes.filter((code) => known[code] !== Number(status));
          return codes.length === 0 || wrong.length > 0
            ? [`${name} ${status}: codes ${codes.join() || "none"}`]
            : [];
        }),
      ),
    ).toEqual([]);
  });

  test("no field of an example is left to a word that says nothing", () => {
    expect(JSON.stringify(document.paths).match(/"text"[,}\]]/g)).toBeNull();
  });
});
