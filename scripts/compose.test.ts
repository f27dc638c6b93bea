import { readFileSync } from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { Ajv } from "ajv";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ROOT_DIR } from "../src/paths.ts";
import { VARIABLES } from "../src/config-environment.ts";

interface Service {
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
  readonly healthcheck?: object;
  readonly build?: string;
}
interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
}

const FILES = ["docker-compose.yml", "docker-compose.production.yml"] as const;
const read = (name: string) =>
  parse(readFileSync(path.join(ROOT_DIR, name), "utf8"), { merge: true }) as ComposeFile;
const [base, production] = FILES.map(read);

/** The Compose specification's own schema, as dclint carries it. https://github.com/compose-spec/compose-spec */
const SCHEMA = path.join(
  path.dirname(createRequire(import.meta.url).resolve("dclint/package.json")),
  "schemas",
  "compose.schema.json",
);
const validate = (() => {
  const schema = JSON.parse(readFileSync(SCHEMA, "utf8")) as Record<string, unknown>;
  delete schema["$schema"];
  return new Ajv({ strict: false, validateFormats: false, allowUnionTypes: true }).compile(schema);
})();

describe("the Compose files", () => {
  test.each(FILES)("%s is what the specification allows", (name) => {
    validate(read(name));
    expect(validate.errors).toBeNull();
    // The schema does look.
    expect(validate({ services: { api: { imag: "x" } } })).toBe(false);
  });

  test("wait for what says that it is healthy, and name only what there is", () => {
    const services = { ...base?.services, ...production?.services };
    for (const service of [
      ...Object.values(base?.services ?? {}),
      ...Object.values(production?.services ?? {}),
    ]) {
      for (const [name, { condition }] of Object.entries(service.depends_on ?? {})) {
        expect(services).toHaveProperty(name);
        const isHealthy = condition === "service_healthy";
        expect(isHealthy ? base?.services[name]?.healthcheck : {}).toBeDefined();
      }
    }
  });

  test.each(FILES)("%s sets variables that the service knows", (name) => {
    for (const service of Object.values(read(name).services).filter(({ build }) => build)) {
      for (const variable of Object.keys(service.environment ?? {})) {
        expect(VARIABLES).toContain(variable);
      }
    }
  });

  test("keep the owner's role from the service in production", () => {
    expect(production?.services["api"]?.environment?.["DATABASE_MIGRATION_URL"]).toBe("");
    expect(production?.services["api"]?.environment?.["APP_ENV"]).toBe("production");
    expect(
      String(production?.services["migrate"]?.environment?.["DATABASE_MIGRATION_URL"]),
    ).toContain("postgres:");
  });
});
