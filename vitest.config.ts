import { defineConfig } from "vitest/config";

/** Tests that compare times: what runs beside them would be measured, too. */
const ALONE = ["test/faults/fairness.test.ts"];

const common = {
  // A process per file: what one leaves behind (timers, sockets, handlers) cannot hide in another.
  pool: "forks",
  testTimeout: 30_000,
  // Making a database with its tenants, on a machine that is busy.
  hookTimeout: 60_000,
} as const;

export default defineConfig({
  test: {
    // Of the run, not of its projects, each of which would start a server of its own.
    globalSetup: "test/global-setup.ts",
    projects: [
      {
        test: {
          ...common,
          name: "all",
          include: ["{src,scripts,test,clients,examples}/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...ALONE],
          // All of them share one PostgreSQL server: more only wait for it.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        // After all the others.
        test: {
          ...common,
          name: "alone",
          include: ALONE,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
