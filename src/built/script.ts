/** What `dist/src/server.cjs` is made of: the service, and what its code is compiled ahead with. */
export { serve } from "../serve.ts";
export { buildUnconnectedApp } from "../unconnected-app.ts";
