import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { buildApp } from "../app.ts";
import { readConfig } from "../config.ts";
import { STATUS_BY_CODE } from "../errors.ts";
import { ROOT_DIR } from "../paths.ts";
import { closeServices, makeServices, type Services } from "../services.ts";
import type { Document, MediaType, Operation } from "./openapi-document.ts";
import { type SharedDocument, withOwnFailures } from "./openapi-failures.ts";
import { componentName, type JsonSchema } from "./openapi-examples.ts";

/** Nothing here asks a database: the app is built with services that are never opened. */
const NO_DATABASE_URL = "postgres://nobody@127.0.0.1:1/none";
const log = pino({ level: "silent" });

let dataDir: string;
let opened: { app: FastifyInstance; services: Services }[] = [];

async function newApp(environment: NodeJS.ProcessEnv = {}): Promise<FastifyInstance> {
  const config = readConfig({
    APP_ENV: "local",
    DATA_DIR: dataDir,
    LOG_LEVEL: "silent",
    // Looking through megabytes of scripts holds this process up: it is not to refuse what it asks itself.
    EVENT_LOOP_LAG_MS: "0",
    ...environment,
  });
  const services = makeServices(config, NO_DATABASE_URL, log, NO_DATABASE_URL);
  const app = await buildApp(services, log);
  opened.push({ app, services });
  await app.ready();
  return app;
}

let app: FastifyInstance;
let served: SharedDocument;
/** The same, each failure where it is answered. */
let document: Document;
let operations: { name: string; url: string; method: string; operation: Operation }[];

beforeAll(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-openapi-"));
  app = await newApp();
  served = (await app.inject("/swagger.json")).json<SharedDocument>();
  document = withOwnFailures(served);
  operations = Object.entries(document.paths).flatMap(([url, item]) =>
    Object.entries(item).flatMap(([method, operation]) =>
      operation ? [{ name: `${method.toUpperCase()} ${url}`, url, method, operation }] : [],
    ),
  );
});

afterAll(async () => {
  for (const { app: one, services } of opened) {
    await one.close();
    await closeServices(services);
  }
  opened = [];
  await rm(dataDir, { recursive: true, force: true });
});

/** Names of the operations that are not as they should be: a failure then says which. */
function namesWhere(isWrong: (one: (typeof operations)[number]) => boolean): string[] {
  return operations.filter(isWrong).map(({ name }) => name);
}

function parameterNames({ parameters = [] }: Operation): string[] {
  return parameters.map((one) => ("$ref" in one ? one.$ref : `${one.in} ${one.name}`));
}

const TENANT_PARAMETER = "#/components/parameters/Tenant";

describe("the OpenAPI document", () => {
  test("is OpenAPI 3.1 with a title, a version, a server and the conventions", () => {
    expect(document.openapi).toMatch(/^3\.1\./);
    expect(document.info).toMatchObject({ title: "Ouvira", version: expect.any(String) });
    expect(document.servers).toEqual([{ url: "/" }]);
    for (const code of Object.keys(STATUS_BY_CODE))
      expect(document.info.description).toContain(`\`${code}\``);
    expect(document.info.description).toContain("X-Tenant");
  });

  test("describes every operation below /api/, with an id nobody else has", () => {
    expect(operations.length).toBeGreaterThan(10);
    expect(namesWhere(({ operation }) => !operation.operationId)).toEqual([]);
    expect(namesWhere(({ operation }) => !operation.summary)).toEqual([]);
    expect(
      namesWhere(({ url, operation }) => url.startsWith("/api/") && !operation.description),
    ).toEqual([]);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("puts every operation under one of its tags, each of which is explained and used", () => {
    const tags = document.tags ?? [];
    expect(tags.filter(({ description }) => !description)).toEqual([]);
    const known = new Set(tags.map(({ name }) => name));
    expect(
      namesWhere(
        ({ operation }) => operation.tags?.length !== 1 || !known.has(operation.tags[0] ?? ""),
      ),
    ).toEqual([]);
    const used = new Set(operations.flatMap(({ operation }) => operation.tags ?? []));
    expect([...known].filter((name) => !used.has(name))).toEqual([]);
  });

  test("refers only to what is in it, and holds no schema that nothing refers to", () => {
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(
      (match) => match[1] ?? "",
    );
    const missing = refs.filter((ref) => find(ref) === undefined);
    expect(missing).toEqual([]);
    const unused = Object.keys(document.components.schemas).filter(
      (name) => !refs.includes(`#/components/schemas/${name}`),
    );
    expect(unused).toEqual([]);
  });

  test("calls a schema by the name it was given, not by the converter's", () => {
    const names = Object.keys(document.components.schemas);
    expect(names).toEqual(
      expect.arrayContaining(["LoginRequest", "LoginAnswer", "Problem", "Tokens"]),
    );
    expect(
      names.filter((name) => name.endsWith("Input") && !names.includes(name.slice(0, -5))),
    ).toEqual([]);
  });

  test("has the tenant's header below /api/ only, and not for operators", () => {
    expect(
      namesWhere(({ url, operation }) => {
        const isTenants = url.startsWith("/api/") && !url.startsWith("/api/platform/");
        return parameterNames(operation).includes(TENANT_PARAMETER) !== isTenants;
      }),
    ).toEqual([]);
    expect(find(TENANT_PARAMETER)).toMatchObject({
      name: "X-Tenant",
      in: "header",
      required: false,
    });
  });

  test("says which operations need a token, and how such a token fails", () => {
    expect(operationOf("getProfile").security).toEqual([{ bearerAuth: [] }]);
    expect(codesOf(operationOf("getProfile"), 401)).toEqual([
      "authentication_required",
      "token_expired",
      "token_revoked",
      "token_tenant_mismatch",
    ]);
    expect(operationOf("signUp").security).toEqual([]);
    expect(operationOf("signUp").responses["401"]).toBeUndefined();
    expect(
      namesWhere(
        ({ operation: { security = [], responses } }) => security.length > 0 && !responses["401"],
      ),
    ).toEqual([]);
  });

  test("says of every answer what it means", () => {
    expect(
      namesWhere(({ operation }) =>
        Object.values(operation.responses).some(({ description }) =>
          /^$|Default Response/.test(description),
        ),
      ),
    ).toEqual([]);
  });

  test("shows failures as problems, with their codes and an example of each", () => {
    const failures = operations.flatMap(({ name, operation }) =>
      Object.entries(operation.responses).flatMap(([status, response]) =>
        Number(status) < 400 ? [] : [{ name, status: Number(status), operation, response }],
      ),
    );
    expect(failures.length).toBeGreaterThan(operations.length);
    for (const { name, status, operation, response } of failures) {
      const codes = codesOf(operation, status);
      expect({ name, status, types: Object.keys(response.content ?? {}), codes }).toEqual({
        name,
        status,
        types: ["application/problem+json"],
        codes: expect.arrayContaining([expect.any(String)]),
      });
      const problem = response.content?.["application/problem+json"];
      expect(problem?.schema).toEqual({ $ref: "#/components/schemas/Problem" });
      for (const code of codes) {
        expect(response.description).toContain(`\`${code}\``);
        const { $ref: ref = "" } = (problem?.examples?.[code] ?? {}) as { $ref?: string };
        const example = find(ref);
        expect(example).toMatchObject({ value: { status, code } });
      }
    }
    const saysWhen = failures.filter(({ response }) => response.headers?.["Retry-After"]);
    expect(new Set(saysWhen.map(({ status }) => status))).toEqual(new Set([429, 503]));
    expect(failures.filter(({ status }) => status === 429 || status === 503)).toEqual(saysWhen);
  });

  test("tells of the limits on every answer below /api/, and on no other", () => {
    const tells = ({ headers = {} }: Operation["responses"][string]) =>
      ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"].every((name) => headers[name]);
    const answers = operations.flatMap(({ name, url, operation }) =>
      Object.entries(operation.responses).map(([status, answer]) => ({
        name: `${name} ${status}`,
        isRight: tells(answer) === url.startsWith("/api/"),
      })),
    );
    expect(answers.filter(({ isRight }) => !isRight)).toEqual([]);
  });

  test("names the limits that an operation declares, and explains each", () => {
    const login = operations.find(({ operation }) => operation.operationId === "logIn");
    expect(login?.operation.description).toMatch(/Counted by the limit \*login\*\.$/);
    const named = operations.flatMap(({ operation }) =>
      [...(operation.description ?? "").matchAll(/Counted by the limit (.*)\.$/g)].map(
        ([, name = ""]) => name,
      ),
    );
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !document.info.description?.includes(name))).toEqual([]);
  });

  test("lists a bad request wherever something can be sent wrongly", () => {
    const canBeWrong = ({ operation }: (typeof operations)[number]) =>
      operation.requestBody !== undefined ||
      parameterNames(operation).some((name) => /^(query|path) /.test(name));
    expect(
      namesWhere(
        (one) => canBeWrong(one) && !codesOf(one.operation, 400).includes("validation_error"),
      ),
    ).toEqual([]);
  });

  test("lists how a body and a path can be refused before they are looked at", () => {
    const isChange = ({ method }: (typeof operations)[number]) => method !== "get";
    const has = (status: number) => (one: (typeof operations)[number]) =>
      one.operation.responses[status] !== undefined;
    // A body is parsed whether anything reads it or not.
    for (const status of [400, 413, 415]) {
      expect(namesWhere((one) => isChange(one) && !has(status)(one))).toEqual([]);
    }
    const hasPathId = ({ url }: (typeof operations)[number]) => url.includes("{");
    expect(namesWhere((one) => hasPathId(one) !== has(414)(one))).toEqual([]);
    expect(namesWhere((one) => has(413)(one) && !isChange(one))).toEqual([]);
  });

  test("closes every body to unknown fields, and no answer", () => {
    const isClosed = (media: MediaType | undefined) =>
      resolved(media?.schema)?.additionalProperties === false;
    expect(
      namesWhere(({ operation: { requestBody } }) => {
        const json = requestBody?.content["application/json"];
        // Raw bytes have no fields.
        const isBinary = requestBody !== undefined && json === undefined;
        return requestBody !== undefined && !isBinary && !isClosed(json);
      }),
    ).toEqual([]);
    expect(
      namesWhere(({ operation }) =>
        Object.values(operation.responses).some(({ content }) =>
          isClosed(content?.["application/json"]),
        ),
      ),
    ).toEqual([]);
  });

  test("takes raw bytes where it says so, and nowhere else", () => {
    expect(
      namesWhere(
        ({ operation: { requestBody } }) =>
          requestBody !== undefined && !("application/json" in requestBody.content),
      ),
    ).toEqual(["PUT /api/company/{id}/logo/"]);
  });

  test("gives every body an example that the route takes", () => {
    for (const { name, operation } of operations) {
      const body = operation.requestBody?.content["application/json"];
      if (!body) continue;
      // The route's own schema, refinements included; zod has no other way from a name to its schema.
      const own = z.globalRegistry["_idmap"].get(componentName(body.schema?.$ref ?? ""));
      if (!own) throw new Error(`${name}: its body has no name (.meta({ id }))`);
      expect({ name, error: z.core.safeParse(own, body.example).error }).toEqual({ name });
    }
  });

  test("gives every answer an example that fits its schema", () => {
    for (const { name, operation } of operations) {
      for (const { content } of Object.values(operation.responses)) {
        const answer = content?.["application/json"];
        if (!answer?.schema) continue;
        const schema = z.fromJSONSchema(inlined(answer.schema));
        for (const example of examplesOf(answer)) {
          expect({ name, error: schema.safeParse(example).error }).toEqual({ name });
        }
      }
    }
    for (const example of Object.values(document.components["examples"] ?? {})) {
      const schema = z.fromJSONSchema(inlined({ $ref: "#/components/schemas/Problem" }));
      expect(schema.safeParse((example as { value: unknown }).value).error).toBeUndefined();
    }
  });

  test("has dates as text, a phone number as text with an example, and no body in a 205", () => {
    expect(document.components.schemas["Profile"]?.properties?.["date_joined"]).toEqual({
      type: "string",
      format: "date-time",
    });
    expect(
      document.components.schemas["SignupRequest"]?.properties?.["primary_mobile"],
    ).toMatchObject({
      type: "string",
      examples: ["+201001234567"],
    });
    expect(operationOf("logOut").responses["205"]).not.toHaveProperty("content");
  });

  test("leaves out the addresses it is served at", () => {
    expect(Object.keys(document.paths).filter((url) => /swagger|redoc/.test(url))).toEqual([]);
  });

  test("has the outbox for local use only, outside any tenant", async () => {
    expect(operationOf("listOutbox")).toMatchObject({ tags: ["Development"], security: [] });
    const folder = path.join(dataDir, "written");
    const tsx = createRequire(import.meta.url).resolve("tsx/cli");
    const script = path.join(ROOT_DIR, "scripts", "openapi.ts");

    await promisify(execFile)(process.execPath, [tsx, script, "--out", folder]);

    const written = JSON.parse(
      await readFile(path.join(folder, "openapi.json"), "utf8"),
    ) as Document;
    const expected = Object.keys(document.paths).filter((url) => url !== "/dev/outbox/");
    expect(Object.keys(written.paths)).toEqual(expected);
    expect(parse(await readFile(path.join(folder, "openapi.yaml"), "utf8"))).toEqual(written);
  }, 60_000);
});

describe("GET /swagger.json and /swagger.yaml", () => {
  test("are one document, with and without a slash at the end", async () => {
    const yaml = await app.inject("/swagger.yaml");
    expect(yaml.headers["content-type"]).toBe("application/yaml; charset=utf-8");
    expect(parse(yaml.body)).toEqual(served);
    const again = await app.inject("/swagger.json/");
    expect(again.headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(again.json()).toEqual(served);
  });

  test("are not sent again to who has them", async () => {
    const { headers } = await app.inject("/swagger.json");
    const again = await app.inject({
      url: "/swagger.json",
      headers: { "if-none-match": `W/${headers.etag}` },
    });
    expect([again.statusCode, again.body]).toEqual([304, ""]);
  });
});

describe.each(["/swagger/", "/swagger", "/redoc/", "/redoc"])("GET %s", (url) => {
  test("is a page whose parts all come from here", async () => {
    const page = await app.inject(url);
    expect(page.statusCode).toBe(200);
    expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
    expect(foreignAddresses(page.body)).toEqual([]);

    const addresses = [...page.body.matchAll(/<(?:script|link)\b[^>]*(?:src|href)="([^"]+)"/g)]
      .map((match) => match[1] ?? "")
      .filter((address) => !address.startsWith("data:"));
    expect(addresses.length).toBeGreaterThanOrEqual(3);
    for (const address of addresses) {
      const { pathname } = new URL(address, `http://localhost${url}`);
      const part = await app.inject(pathname);
      expect({ pathname, status: part.statusCode }).toEqual({ pathname, status: 200 });
      const type = pathname.endsWith(".js") ? "text/javascript" : "text/css";
      expect(part.headers["content-type"]).toBe(`${type}; charset=utf-8`);
      expect(part.headers["x-content-type-options"]).toBe("nosniff");
      expect({ pathname, foreign: foreignAddresses(part.body) }).toEqual({ pathname, foreign: [] });
    }
  });

  test("may load nothing from elsewhere, and run no text as code", async () => {
    const policy = String((await app.inject(url)).headers["content-security-policy"]);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self';");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).not.toMatch(/unsafe-eval|https?:/);
  });

  test("is not there, nor is the document, where DOCS_PUBLIC=false", async () => {
    const closed = await newApp({ DOCS_PUBLIC: "false" });
    for (const closedUrl of [url, "/swagger.json", "/swagger.yaml", "/swagger/start.js"]) {
      expect((await closed.inject(closedUrl)).json()).toMatchObject({
        status: 404,
        code: "not_found",
      });
    }
  });
});

/** Addresses of other hosts where a browser would load from them by itself. */
function foreignAddresses(text: string): string[] {
  const places = [
    /\bsrc\s*[=:]\s*["'`]((?:https?:)?\/\/[^"'`]+)/g,
    /<link[^>]+href\s*=\s*["'`]?((?:https?:)?\/\/[^"'`\s>]+)/g,
    /url\(\s*["']?((?:https?:)?\/\/[^"')]+)/g,
    /@import\s+["']?((?:https?:)?\/\/[^"';]+)/g,
    /\bimport\(\s*["'`]((?:https?:)?\/\/[^"'`]+)/g,
    /\bimportScripts\(\s*["'`]((?:https?:)?\/\/[^"'`]+)/g,
    /((?:https?:)?\/\/(?:cdn\.|fonts\.|unpkg\.com)[^"'`\s)]+)/g,
  ];
  return places.flatMap((place) => [...text.matchAll(place)].map((match) => match[1] ?? ""));
}

function find(ref: string): unknown {
  return ref
    .split("/")
    .slice(1)
    .reduce<unknown>((part, key) => (part as Record<string, unknown> | undefined)?.[key], document);
}

/** What an answer that is no failure is shown as: once, or once of each kind. */
function examplesOf({ example, examples = {} }: MediaType): unknown[] {
  const kinds = Object.values(examples).map((one) => ("value" in one ? one.value : undefined));
  return kinds.length > 0 ? kinds : [example];
}

function resolved(schema: JsonSchema | undefined): JsonSchema | undefined {
  return schema?.$ref === undefined
    ? schema
    : document.components.schemas[componentName(schema.$ref)];
}

/** The schema with what it refers to written in its place. */
function inlined(schema: JsonSchema): JsonSchema & z.core.JSONSchema.JSONSchema {
  const text = JSON.stringify(schema, (_key, value: unknown) =>
    typeof value === "object" && value !== null && "$ref" in value && typeof value.$ref === "string"
      ? inlined(document.components.schemas[componentName(value.$ref)] ?? {})
      : value,
  );
  return JSON.parse(text) as JsonSchema & z.core.JSONSchema.JSONSchema;
}

function operationOf(id: string): Operation {
  const found = operations.find(({ operation }) => operation.operationId === id);
  if (!found) throw new Error(`There is no operation ${id}`);
  return found.operation;
}

function codesOf({ responses }: Operation, status: number): string[] {
  return Object.keys(responses[status]?.content?.["application/problem+json"]?.examples ?? {});
}
