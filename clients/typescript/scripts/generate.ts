/**
 * Writes what the client knows of the API from the OpenAPI document of the routes as they are now:
 * `src/schema.ts`, its types, and `src/public-operations.ts`, the operations that need no login. With
 * `--check` nothing is written: exit 1 when a file is not what would be.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import openapiTypescript, { astToString, type OpenAPI3 } from "openapi-typescript";
import ts from "typescript";

const CLIENT_DIR = path.join(import.meta.dirname, "..");
const ROOT_DIR = path.join(CLIENT_DIR, "../..");

/** How the files begin. Prettier and oxlint leave the first alone; it is large. */
const HEADING =
  "// Written by `npm run client` from the OpenAPI document. Change the routes, not this file.\n";

/** The parts of the document that are looked at here. */
interface OpenApiDocument {
  readonly paths: Record<string, Record<string, OpenApiOperation>>;
}

interface OpenApiOperation {
  readonly security?: readonly unknown[];
  readonly responses: Record<string, { headers?: unknown }>;
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: { check: { type: "boolean", default: false } },
  });
  const document = await describeRoutes();
  const files = {
    "schema.ts": await typesOf(document),
    "public-operations.ts": publicOperationsOf(document),
  };
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(CLIENT_DIR, "src", name);
    if (!options.check) {
      await writeFile(file, text);
      console.log(`Wrote ${file}`);
    } else if ((await readFile(file, "utf8").catch(() => undefined)) !== text) {
      console.error(`${file} is not up to date: run npm run client`);
      process.exitCode = 1;
    }
  }
}

/** The document that `npm run openapi` writes. */
async function describeRoutes(): Promise<OpenApiDocument> {
  const folder = await mkdtemp(path.join(tmpdir(), "ouvira-client-"));
  try {
    const parameters = ["--import", "tsx", "scripts/openapi.ts", "--out", folder];
    await promisify(execFile)(process.execPath, parameters, { cwd: ROOT_DIR });
    const text = await readFile(path.join(folder, "openapi.json"), "utf8");
    // Written by ourselves, a moment ago.
    return JSON.parse(text) as OpenApiDocument;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** How bytes are sent: nothing else that `fetch` takes knows its media type, or is as large. */
const BYTES = ts.factory.createUnionTypeNode([
  ts.factory.createTypeReferenceNode("Blob"),
  ts.factory.createTypeReferenceNode("ReadableStream"),
]);

async function typesOf(document: OpenApiDocument): Promise<string> {
  const lean = structuredClone(document);
  for (const { responses } of operationsOf(lean)) {
    // Every answer has those of the limits: two thirds of the types, and nobody asks for them.
    for (const response of Object.values(responses)) delete response.headers;
  }
  // The parts that are looked at here are not all that a document has.
  const nodes = await openapiTypescript(lean as unknown as OpenAPI3, {
    transform: (schema) => (schema.format === "binary" ? BYTES : undefined),
    // What has a default need not be sent; what is answered is listed as required.
    defaultNonNullable: false,
    silent: true,
  });
  return `${HEADING}${astToString(nodes)}`;
}

function publicOperationsOf({ paths }: OpenApiDocument): string {
  const names = Object.entries(paths).flatMap(([url, operations]) =>
    Object.entries(operations).flatMap(([method, { security }]) =>
      security?.length === 0 ? [`${method} ${url}`] : [],
    ),
  );
  const lines = names.map((name) => `  ${JSON.stringify(name)},\n`).join("");
  return `${HEADING}
/** Operations that need no login, so that none is sent along, as \`method path\`. */
export const PUBLIC_OPERATIONS: ReadonlySet<string> = new Set([
${lines}]);
`;
}

function operationsOf({ paths }: OpenApiDocument): OpenApiOperation[] {
  return Object.values(paths).flatMap((operations) => Object.values(operations));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
