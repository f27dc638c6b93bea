import { defaultClientConditions, defineConfig } from "vite";

export default defineConfig({
  // Where FRONTEND_URL leads unless it is set; another port would leave those links without a page.
  server: { port: 5173, strictPort: true },
  // The client's sources, so that nothing has to be built first. Outside of this repository: not needed.
  resolve: { conditions: ["ouvira-source", ...defaultClientConditions] },
});
