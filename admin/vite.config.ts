import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Whatever runs the build: what is built is what is shipped.
process.env["NODE_ENV"] = "production";

export default defineConfig({
  base: "/admin/",
  plugins: [react()],
  build: {
    // What browsers of two years ago run.
    target: "es2022",
    // Inlined files would be data: addresses, which the page's policy refuses.
    assetsInlineLimit: 0,
    // One file, read once: an operator opens the console and stays.
    chunkSizeWarningLimit: 2_000,
  },
});
