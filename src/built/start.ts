/** What `npm start` starts: becomes `dist/src/server.js`. */
import path from "node:path";
import type { serve } from "../serve.ts";
import { runCompiled } from "./compiled-script.ts";

const { exports } = runCompiled(path.join(import.meta.dirname, "server.cjs"));
await (exports["serve"] as typeof serve)();
