import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{src,scripts,test,clients,examples}/**/*.test.ts"],
    globalSetup: "test/global-setup.ts",
    // A process per file: what one leaves behind (timers, sockets, handlers) cannot hide in another.
    pool: "forks",
    // All of them share one PostgreSQL server: more only wait for it.
    maxWorkers: 2,
    testTimeout: 30_000,
    // Making a database with its tenants, on a machine that is busy.
    hookTimeout: 60_000,
  },
});
