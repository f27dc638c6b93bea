import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { readConfig } from "./config.ts";
import { closeServices, makeServices } from "./services.ts";

let registry: TestRegistry;

beforeAll(async () => {
  registry = await createRegistry();
});
afterAll(() => registry.close());

describe("DATABASE_LISTEN_URL", () => {
  test("is where changes are heard of, whatever DATABASE_URL leads to", async () => {
    const pooler = "postgres://nobody@127.0.0.1:1/pooler";
    const config = readConfig({
      APP_ENV: "local",
      DATABASE_URL: pooler,
      DATABASE_LISTEN_URL: registry.apiUrl,
    });
    const services = makeServices(config, pooler, pino({ level: "silent" }));
    try {
      await services.notifications.open();
      await vi.waitFor(() => {
        if (!services.notifications.isAlive) throw new Error("Nothing is heard");
      });

      await expect(services.database.registry.query`select 1`).rejects.toMatchObject({
        code: "not_ready",
      });
      expect(services.notifications.isAlive).toBe(true);
    } finally {
      await closeServices(services);
    }
  });
});
