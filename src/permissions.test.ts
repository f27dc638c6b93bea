import { readFile } from "node:fs/promises";
import path from "node:path";
import type { InjectOptions } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../test/app.ts";
import { type Call, RECIPES } from "../test/permission-requests.ts";
import { type Caller, CALLERS, World } from "../test/world.ts";
import { PERMISSIONS } from "./access-control/catalogue.ts";
import { ROOT_DIR } from "./paths.ts";

/** A row of the table in docs/PERMISSIONS.md. */
interface Row {
  /** Method, path and, in brackets, which case of it. */
  readonly label: string;
  readonly needs: string;
  /** A status for each caller. */
  readonly cells: readonly string[];
}

const TEXT = await readFile(path.join(ROOT_DIR, "docs/PERMISSIONS.md"), "utf8");
const LINES = TEXT.split("\n").map((line) =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim()),
);
const ROWS: readonly Row[] = LINES.filter(
  ([first = "", ...rest]) => /^`[A-Z]+ \//.test(first) && rest.length > 2,
).map(([label = "", needs = "", ...cells]) => ({ label: label.slice(1, -1), needs, cells }));

let app: TestApp;
let tenant: TestTenant;
let foreign: TestTenant;
let passwordHash: string;
let tables: readonly string[];

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
  foreign = await app.createTenant();
  passwordHash = await app.services.passwords.hash(PASSWORD);
  tables = await readTables();
});
afterAll(async () => {
  await app.close();
});

/** Method and path of a row, as the OpenAPI document has them. */
function operationOf({ label }: Row): string {
  return label.replace(/ \(.*\)$/, "").replace(/\?.*$/, "");
}

/** Tables that a refused request may change: counters, messages, what is on its way, and the record of security. */
const UNCOMPARED = [
  "email_verifications",
  "failures",
  "log_seals",
  "login_challenges",
  "login_sessions",
  "messages",
  "password_resets",
  "pgmigrations",
  "security_logs",
  "signups",
];

/** Every other table of the schema, so that a new one is never forgotten. */
async function readTables(): Promise<string[]> {
  const rows = await tenant.sql<{ name: string }[]>`
    select relname::text as name from pg_class
     where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition
     order by relname`;
  return rows.map(({ name }) => name).filter((name) => !UNCOMPARED.includes(name));
}

/** Changes with every row that is written, changed or deleted. */
async function fingerprint(): Promise<unknown> {
  const parts = tables.map(
    (table) => `select '${table}', count(*), sum(xmin::text::bigint) from ${table}`,
  );
  return tenant.sql.unsafe(parts.join(" union all "));
}

async function send(
  token: string | undefined,
  method: NonNullable<InjectOptions["method"]>,
  call: Call,
): Promise<number> {
  const options: InjectOptions = {
    method,
    url: call.path,
    headers: {
      "x-tenant": tenant.subdomain,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(call.image ? { "content-type": "image/png" } : {}),
    },
    ...(call.image ? { body: call.image } : call.body ? { body: call.body } : {}),
  };
  return (await app.app.inject(options)).statusCode;
}

describe("docs/PERMISSIONS.md", () => {
  test("has a row for every operation of the OpenAPI document, and none for another", () => {
    const document = app.app.swagger();
    // The platform's operators have one right each: src/platform/operator-login.test.ts sends each route.
    const operations = Object.entries(document.paths ?? {})
      .filter(([url]) => !url.startsWith("/api/platform/"))
      .flatMap(([url, methods]) =>
        Object.keys(methods ?? {}).map((method) => `${method.toUpperCase()} ${url}`),
      );

    expect([...new Set(ROWS.map(operationOf))].toSorted()).toEqual(operations.toSorted());
  });

  test("says for every row who it is for, and each row once", () => {
    expect(new Set(ROWS.map(({ label }) => label)).size).toBe(ROWS.length);
    for (const { label, cells } of ROWS) {
      expect({ label, cells: cells.length }).toEqual({ label, cells: CALLERS.length });
    }
    expect(Object.keys(RECIPES).toSorted()).toEqual(ROWS.map(({ label }) => label).toSorted());
  });

  test("lists the permissions of the catalogue, and what they allow", () => {
    const listed = LINES.filter(
      ([first = "", ...rest]) => first.startsWith("`") && rest.length === 1,
    );

    expect(listed.map(([code, description]) => [code?.slice(1, -1), description])).toEqual(
      Object.entries(PERMISSIONS).map(([code, { description }]) => [code, description]),
    );
  });
});

describe("every caller gets what the table says, and a refusal changes nothing:", () => {
  test.each(ROWS.map((row) => [row.label, row] as const))("%s", async (label, row) => {
    const recipe = RECIPES[label];
    const [method = "GET"] = label.split(" ");
    if (!recipe) throw new Error(`test/permission-requests.ts does not say how to call ${label}`);
    const answers: Partial<Record<Caller, string>> = {};
    const changed: Caller[] = [];
    for (const caller of CALLERS) {
      const world = await World.create(app, tenant, passwordHash);
      const person = await world.person(caller, row.needs, foreign);
      const call = await recipe(world, person);
      const before = await fingerprint();
      const status = await send(person.token, method, call);
      answers[caller] = String(status);
      if (status >= 400 && JSON.stringify(await fingerprint()) !== JSON.stringify(before)) {
        changed.push(caller);
      }
    }

    const expected = Object.fromEntries(CALLERS.map((caller, index) => [caller, row.cells[index]]));
    expect({ answers, changed }).toEqual({ answers: expected, changed: [] });
  });
});
