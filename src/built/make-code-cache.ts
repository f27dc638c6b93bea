/**
 * The last step of `npm run build`: runs what a start runs, without a database, and writes down what V8 has compiled
 * for it. Becomes `dist/src/make-code-cache.js`, a process of its own: the cache is used only by a Node with the
 * same version and options of V8.
 */
import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { buildUnconnectedApp } from "../unconnected-app.ts";
import { codeCacheOf, runCompiled } from "./compiled-script.ts";

const file = path.join(import.meta.dirname, "server.cjs");
const { script, exports } = runCompiled(file);
const { app, close } = await (exports["buildUnconnectedApp"] as typeof buildUnconnectedApp)();
await app.ready();
for (const url of ["/healthz", "/readyz"]) await app.inject(url);
await writeFile(codeCacheOf(file), script.createCachedData());
await close();
