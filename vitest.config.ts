import { defineConfig } from "vitest/config";

/** Tests that compare times: what runs beside them would be measured, too. */
const ALONE = ["test/faults/fairness.test.ts"];

export default defineConfig({
  test: {
    globalSetup: "test/global-setup.ts",
    // A process per file: what one leaves behind (timers, sockets, handlers) cannot hide in another.
    pool: "forks",
    testTimeout: 30_000,
    // Making a database with its tenants, on a machine that is busy.
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "all",
          include: ["{src,scripts,test,clients,examples}/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...ALONE],
          // All of them share one PostgreSQL server: more only wait for it.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        // After all the others.
        test: { name: "alone", include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
