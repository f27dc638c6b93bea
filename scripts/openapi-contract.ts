import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { z } from "zod";
import type { Document, Operation } from "../src/plugins/openapi-document.ts";
import { runRedocly } from "./redocly.ts";

/** Keys of the document that say something to people, or are made anew with each example: no client relies on them. */
const TOLD: ReadonlySet<string> = new Set(["description", "summary", "example", "examples"]);

/** What clients rely on of a document: it without what is only told, and without failures, whose body is one for all. */
export function contractOf(document: Document): Document {
  const { openapi, info, servers, paths, components } = document;
  const contract = {
    openapi,
    info: { title: info.title, version: info.version },
    ...(servers ? { servers } : {}),
    paths: Object.fromEntries(
      Object.entries(paths).map(([url, item]) => [
        url,
        Object.fromEntries(
          Object.entries(item).flatMap(([method, operation]) =>
            operation ? [[method, withoutFailures(operation)]] : [],
          ),
        ),
      ]),
    ),
    components: {
      securitySchemes: components["securitySchemes"] ?? {},
      parameters: components["parameters"] ?? {},
      schemas: components.schemas,
    },
  };
  // A copy, of the same shape: what is only told is nowhere required.
  return withoutTold(contract) as Document;
}

function withoutFailures(operation: Operation): Operation {
  const responses = Object.entries(operation.responses)
    .filter(([status]) => Number(status) < 400)
    // The limits' headers are on every answer, whatever the operation.
    .map(([status, answer]) => {
      const { description, content } = answer;
      return [status, { description, ...(content ? { content } : {}) }] as const;
    });
  return { ...operation, responses: Object.fromEntries(responses) };
}

/** A field may be called as one of the keys: names of properties are kept. */
function withoutTold(part: unknown, isNames = false): unknown {
  if (Array.isArray(part)) return part.map((item) => withoutTold(item));
  if (typeof part !== "object" || part === null) return part;
  return Object.fromEntries(
    Object.entries(part)
      .filter(([key]) => isNames || !TOLD.has(key))
      .map(([key, value]) => [key, withoutTold(value, key === "properties" && !isNames)]),
  );
}

const Report = z.object({
  changes: z.array(
    z.object({
      path: z.string(),
      verdicts: z.array(z.object({ impact: z.string(), message: z.string() })),
    }),
  ),
});

/**
 * What a client of one document would stumble over in the other, a sentence each. Redocly compares what clients rely
 * on: with examples it takes one parameter for another. By its rules a body is never new: that is looked at here.
 */
export async function breakingChanges(before: Document, after: Document): Promise<string[]> {
  const folder = await mkdtemp(path.join(tmpdir(), "ouvira-openapi-"));
  try {
    const files = [path.join(folder, "before.json"), path.join(folder, "after.json")] as const;
    await writeFile(files[0], JSON.stringify(contractOf(before)));
    await writeFile(files[1], JSON.stringify(contractOf(after)));
    const { report } = runRedocly("diff", ...files, "--format=json");
    const found = Report.parse(JSON.parse(report)).changes.flatMap((change) =>
      change.verdicts
        .filter(({ impact }) => impact === "major")
        .map(({ message }) => `${readable(change.path)}: ${message}`),
    );
    return [...new Set([...found, ...newBodies(before, after)])];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function newBodies(before: Document, after: Document): string[] {
  return Object.entries(after.paths).flatMap(([url, item]) =>
    Object.entries(item).flatMap(([method, operation]) => {
      const old = before.paths[url]?.[method];
      const isNew = old && !old.requestBody && operation?.requestBody?.required === true;
      return isNew ? [`${method.toUpperCase()} ${url}: A body is required now.`] : [];
    }),
  );
}

/** `#/paths/~1api~1company~1/post/…` as `POST /api/company/ …`. */
function readable(pointer: string): string {
  const [, kind, ...parts] = pointer
    .split("/")
    .map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"));
  if (kind !== "paths") return pointer;
  const [url = "", method = "", ...rest] = parts;
  return [method.toUpperCase(), url, rest.join(" ")].filter(Boolean).join(" ");
}

/** Whether a version may break what the other promises: a new major one, or below 1.0 a new minor one. */
export function mayBreak(from: string, to: string): boolean {
  const [oldMajor, oldMinor] = numbersOf(from);
  const [major, minor] = numbersOf(to);
  if (major !== oldMajor) return major > oldMajor;
  return major === 0 && minor > oldMinor;
}

/** Whether a version comes before another one. */
export function isOlder(version: string, than: string): boolean {
  const parts = numbersOf(version);
  const others = numbersOf(than);
  const at = parts.findIndex((part, index) => part !== others[index]);
  return at >= 0 && (parts[at] ?? 0) < (others[at] ?? 0);
}

/** The version that may break what this one promises. */
export function breakingVersion(from: string): string {
  const [major, minor] = numbersOf(from);
  return major === 0 ? `0.${minor + 1}.0` : `${major + 1}.0.0`;
}

function numbersOf(version: string): [number, number, number] {
  const match = /^(\d+)\.(\d+)\.(\d+)$/.exec(version);
  if (!match) throw new Error(`${version} is not a version such as 1.2.3`);
  return [Number(match[1]), Number(match[2]), Number(match[3])];
}
