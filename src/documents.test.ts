import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { VARIABLES } from "./config-environment.ts";
import { STATUS_BY_CODE } from "./errors.ts";
import { ROOT_DIR } from "./paths.ts";

const read = (file: string) => readFile(path.join(ROOT_DIR, file), "utf8");

const FILES = [
  "README.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  ...(await readdir(path.join(ROOT_DIR, "docs")))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** The pages, and what stands in each line of them. */
const pages = await Promise.all(FILES.map(async (file) => ({ file, text: await read(file) })));
const lines = pages.flatMap(({ file, text }) =>
  text.split("\n").map((line, index) => ({ place: `${file}:${index + 1}`, line })),
);

/** What a pattern finds, with where. */
function findAll(pattern: RegExp) {
  return lines.flatMap(({ place, line }) =>
    [...line.matchAll(pattern)].map((match) => ({ place, match })),
  );
}

/** Names in capitals that are no settings of the service: of the code, of Compose, of tools, of the Django system. */
const OTHER_NAMES = new Set([
  "API_DB_PASSWORD",
  "BENCH_ADMIN_URL",
  "DB_CONN_MAX_AGE",
  "DEFAULT_THROTTLE_RATES",
  "DJANGO_APPEND_SLASH",
  "DJANGO_ENV",
  "EMAIL_BACKEND",
  "LANGUAGE_CODE",
  "LEFT_BEHIND",
  "OLDEST_VERSION",
  "OTEL_TRACES_SAMPLER",
  "PROJECT_RECIPES",
  "SECURE_PROXY_SSL_HEADER",
  "SECURE_SSL_REDIRECT",
  "SIMPLE_JWT",
  "TEST_MODE",
  "TIME_ZONE",
  "TURNSTILE_SITE_KEY",
  "TWILIO_SERVICE_SID",
]);

/** Paths of the Django system that are not here. */
const OTHER_PATHS = ["/api/hris/", "/api/auth/otp/send/"];

/** Roles of PostgreSQL, which begin as the names of metrics do. */
const ROLES = /^ouvira_(owner|api|api_2|registry)$/;

describe("README.md, ARCHITECTURE.md, CONTRIBUTING.md and docs/", () => {
  test("name commands that exist, with options that these know", async () => {
    const { scripts } = JSON.parse(await read("package.json")) as {
      scripts: Record<string, string>;
    };
    const tenantFiles = await tenantCommandFiles();
    const wrong: string[] = [];
    const named = findAll(/npm run (?:-s )?([\w-]+)((?: -- [^`|#]*)?)/g);
    for (const { place, match } of named) {
      const [typed, name = "", args = ""] = match;
      const script = scripts[name];
      const [, command = ""] = /^ -- ([a-z][a-z-]*)/.exec(args) ?? [];
      const ownFile = /\b((?:scripts|bench)\/[\w-]+\.ts)\b/.exec(script ?? "")?.[1];
      const commandFile = name === "tenant" ? tenantFiles.get(command) : `bench/${command}.ts`;
      const hasCommands = command !== "" && (name === "tenant" || name === "bench");
      const file = hasCommands ? commandFile : ownFile;
      const isMissing = hasCommands && (!file || !existsSync(path.join(ROOT_DIR, file)));
      if (script === undefined || isMissing) {
        wrong.push(`${place}: ${typed}`);
        continue;
      }
      // What is quoted belongs to the command's own language.
      const options = args.replace(/'[^']*'?|"[^"]*"?/g, "").match(/(?<= )--[a-z][a-z-]*/g) ?? [];
      const known = file === undefined ? "" : await optionsOf(file);
      wrong.push(
        ...options
          .filter((option) => !known.includes(`${option}\n`))
          .map((option) => `${place}: ${typed} (${option})`),
      );
    }

    expect(wrong).toEqual([]);
    expect(named.length).toBeGreaterThan(80);
  });

  test("name files to run tests of that exist", () => {
    const missing = findAll(/npx vitest run ((?:src|scripts|test)\/[\w./-]+)/g)
      .filter(({ match: [, file = ""] }) => !existsSync(path.join(ROOT_DIR, file)))
      .filter(({ match: [, file = ""] }) => !file.startsWith("src/projects"));

    expect(missing).toEqual([]);
  });

  test("name metrics that are counted", async () => {
    const sources = await Promise.all(
      ["src/metrics.ts", "src/busiest-tenants.ts"].map((file) => read(file)),
    );
    const counted = new Set(sources.join("\n").match(/\bouvira_[a-z_]+/g));
    const named = findAll(/\bouvira_[a-z0-9_]+/g).filter(({ match: [name] }) => !ROLES.test(name));
    const unknown = named.filter(
      ({ match: [name] }) =>
        !counted.has(name) &&
        !counted.has(name.replace(/_(count|sum|bucket)$/, "")) &&
        // The beginning of one, as it is looked for.
        ![...counted].some((one) => one.startsWith(`${name}_`)),
    );

    expect(unknown.map(({ place, match: [name] }) => `${place}: ${name}`)).toEqual([]);
    expect(named.length).toBeGreaterThan(20);
  });

  test("name settings that are read", () => {
    const known = new Set<string>(VARIABLES);
    const named = findAll(/(?<![\w-])[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+(?![\w…])/g);
    const unknown = named.filter(({ match: [name] }) => !known.has(name) && !OTHER_NAMES.has(name));

    expect(unknown.map(({ place, match: [name] }) => `${place}: ${name}`)).toEqual([]);
    expect(named.length).toBeGreaterThan(80);
  });

  test("name error codes with the status that they have", () => {
    const named = findAll(/\b([45]\d\d) `([a-z][a-z0-9_]*)`/g);
    const statuses: Readonly<Record<string, number>> = STATUS_BY_CODE;
    const wrong = named.filter(
      ({ match: [, status, code = ""] }) => String(statuses[code]) !== status,
    );

    expect(wrong.map(({ place, match: [name] }) => `${place}: ${name}`)).toEqual([]);
    expect(named.length).toBeGreaterThan(20);
  });

  test("name paths of the API that there are", async () => {
    const { paths } = JSON.parse(await read("openapi.json")) as { paths: Record<string, unknown> };
    const plain = (one: string) => one.replace(/\{[^}]*\}/g, "{}").replace(/\/\d+\//g, "/{}/");
    const known = Object.keys(paths).map(plain);
    const named = findAll(/(?<!\w)\/api\/[\w/{}-]*\//g).filter(
      ({ place, match: [name] }) =>
        !place.startsWith("docs/ADD-A-DOMAIN.md") && !OTHER_PATHS.includes(name),
    );
    // Where something begins is named, too: `/api/platform/`.
    const unknown = named.filter(
      ({ match: [name] }) => !known.some((one) => one.startsWith(plain(name))),
    );

    expect(unknown.map(({ place, match: [name] }) => `${place}: ${name}`)).toEqual([]);
    expect(named.length).toBeGreaterThan(100);
  });

  test("name files of the tree that exist", () => {
    const named = findAll(
      /`((?:src|scripts|test|migrations|tenant-migrations|docs)\/[\w./-]+\.\w+)`/g,
    );
    const missing = named.filter(
      ({ place, match: [, file = ""] }) =>
        !existsSync(path.join(ROOT_DIR, file)) && !place.startsWith("docs/ADD-A-DOMAIN.md"),
    );

    expect(missing.map(({ place, match: [name] }) => `${place}: ${name}`)).toEqual([]);
    expect(named.length).toBeGreaterThan(50);
  });

  test("link to pages that exist, and to headings of theirs", async () => {
    const broken: string[] = [];
    let count = 0;
    for (const { place, match } of findAll(/\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)/g)) {
      const [, target = "", anchor] = match;
      const [file = ""] = place.split(":");
      const linked = target === "" ? file : path.join(path.dirname(file), target);
      count += 1;
      if (!existsSync(path.join(ROOT_DIR, linked))) broken.push(`${place}: ${target}`);
      else if (anchor !== undefined && !(await headingsOf(linked)).includes(anchor)) {
        broken.push(`${place}: ${target}#${anchor}`);
      }
    }

    expect(broken).toEqual([]);
    expect(count).toBeGreaterThan(80);
  });
});

/** The subcommands of `npm run tenant`, and the file that has the options of each. */
async function tenantCommandFiles(): Promise<Map<string, string>> {
  const source = await read("scripts/tenant.ts");
  const imported = new Map(
    [...source.matchAll(/import \{([^}]+)\} from "\.\/(tenant-[\w-]+\.ts)"/g)].flatMap(
      ([, names = "", file = ""]) =>
        names.split(",").map((name): [string, string] => [name.trim(), `scripts/${file}`]),
    ),
  );
  const files = new Map(
    [...source.matchAll(/command === "([\w-]+)"\) return (\w+)\(/g)].map(
      ([, command = "", handler = ""]): [string, string] => [
        command,
        imported.get(handler) ?? "scripts/tenant.ts",
      ],
    ),
  );
  for (const status of ["suspend", "activate", "read-only"]) {
    files.set(status, imported.get("setStatus") ?? "");
  }
  return files;
}

/** The options that a command's file gives to its parser, or looks for by itself; one a line. */
async function optionsOf(file: string): Promise<string> {
  const source = await read(file);
  const shared = source.includes("FLEET_OPTIONS") ? await read("scripts/tenant-migrate.ts") : "";
  const parsed = `${source}\n${shared}`.matchAll(/^\s+"?([a-z][a-z-]*)"?: (?:STRING|\{\s*type:)/gm);
  const inline = source.matchAll(/[{,] "?([a-z][a-z-]*)"?: (?:STRING|\{ type:)/g);
  const own = source.matchAll(/"--([a-z][a-z-]*)"/g);
  const names = [...parsed, ...inline, ...own].map(([, name = ""]) => name);
  return [...names, "json", "help"].map((name) => `--${name}\n`).join("");
}

/** The anchors that GitHub gives to the headings of a page. */
async function headingsOf(file: string): Promise<string[]> {
  const text = await read(file);
  return [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
