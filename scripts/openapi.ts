/**
 * `npm run openapi`: writes the OpenAPI document of the routes, as JSON and as YAML, to the root of the
 * repository. Needs no database, settings or data folder. The document is that of production: the routes
 * of APP_ENV=local alone (`/dev/outbox/`) are not in it.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { stringify } from "yaml";
import { ROOT_DIR } from "../src/paths.ts";
import type { Document } from "../src/plugins/openapi-document.ts";
import { type SharedDocument, withOwnFailures } from "../src/plugins/openapi-failures.ts";
import { buildUnconnectedApp } from "../src/unconnected-app.ts";
import {
  breakingChanges,
  breakingVersion,
  contractOf,
  isOlder,
  mayBreak,
} from "./openapi-contract.ts";
import { runRedocly } from "./redocly.ts";

const HELP = `npm run openapi -- [--check | --accept] [--out <folder>]

Writes openapi.json and openapi.yaml, to the root of the repository unless --out names a folder, and says
what in them breaks docs/openapi-baseline.json: the contract of the last release, that clients rely on.
With --check nothing is written: exit 1 when a file is not what would be, when Redocly's rules
(redocly.yaml) find something, or when the contract is broken.
With --accept the contract becomes that of this version (package.json). One that breaks the last one needs
a new major version, or below 1.0 a new minor one.`;

/** Relative, as Redocly's reports say them. */
const BASELINE = path.join("docs", "openapi-baseline.json");
const JSON_FILE = "openapi.json";

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      help: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      accept: { type: "boolean", default: false },
      out: { type: "string", default: ROOT_DIR },
    },
  });
  if (options.help) {
    console.log(HELP);
    return;
  }
  const document = await describe();
  const folder = path.resolve(options.out);
  const findings = options.check
    ? await staleFiles(folder, document)
    : await write(folder, textsOf(document));
  if (folder === ROOT_DIR) {
    if (options.check) findings.push(...lint());
    findings.push(...(await contractFaults(withOwnFailures(document), options)));
  }
  for (const finding of findings) console.error(finding);
  if (findings.length > 0) process.exitCode = 1;
}

function textsOf(document: SharedDocument): Record<string, string> {
  return {
    [JSON_FILE]: `${JSON.stringify(document, null, 2)}\n`,
    "openapi.yaml": stringify(document),
  };
}

async function write(folder: string, texts: Record<string, string>): Promise<string[]> {
  for (const [name, text] of Object.entries(texts)) {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
    console.log(`Wrote ${file}`);
  }
  return [];
}

async function staleFiles(folder: string, document: SharedDocument): Promise<string[]> {
  const findings: string[] = [];
  for (const [name, text] of Object.entries(textsOf(document))) {
    const file = path.join(folder, name);
    if ((await readFile(file, "utf8").catch(() => undefined)) !== text) {
      findings.push(`${file} is not up to date: run npm run openapi`);
    }
  }
  return findings;
}

function lint(): string[] {
  const { isGood, report } = runRedocly("lint", JSON_FILE, "--format=stylish", "--max-problems=50");
  // Warnings are findings, too; without any there is no report.
  return isGood && report.trim() === "" ? [] : [report.trim()];
}

/** Compares with the contract of the last release, or puts the present one in its place. */
async function contractFaults(
  document: Document,
  { check, accept }: { check: boolean; accept: boolean },
): Promise<string[]> {
  const file = path.join(ROOT_DIR, BASELINE);
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return [`${BASELINE} is missing: take it from the repository's history.`];
  // Written by this script alone.
  const baseline = JSON.parse(text) as Document;
  const broken = await breakingChanges(baseline, document);
  const { version: from } = baseline.info;
  const { version: to } = document.info;
  if (isOlder(to, from))
    return [`Version ${to} is older than ${from}, whose contract is recorded.`];
  if (broken.length > 0 && !(accept && mayBreak(from, to))) {
    return [
      `This breaks what version ${from} promises (${BASELINE}):`,
      ...broken.map((change) => `  ${change}`),
      `If that is meant: version ${breakingVersion(from)} in package.json, then npm run openapi -- --accept`,
    ];
  }
  if (accept) {
    return write(ROOT_DIR, { [BASELINE]: `${JSON.stringify(contractOf(document), null, 1)}\n` });
  }
  if (check && from !== to) {
    return [`Version ${to} is new: npm run openapi -- --accept records what it promises.`];
  }
  return [];
}

async function describe(): Promise<SharedDocument> {
  const { app, close } = await buildUnconnectedApp();
  try {
    await app.ready();
    // The two describe the same document; ours names what this service puts into one.
    return app.swagger() as SharedDocument;
  } finally {
    await close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
