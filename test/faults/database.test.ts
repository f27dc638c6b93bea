import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import type { ServerProcess } from "../server-process.ts";
import {
  startStoppableCluster,
  type StoppableCluster,
  type StopMode,
} from "../stoppable-cluster.ts";

let cluster: StoppableCluster;
let ground: FaultGround;
let server: ServerProcess;
const tenants: LoadTenant[] = [];

beforeAll(async () => {
  cluster = await startStoppableCluster();
  ground = await createFaultGround(cluster.url);
  server = await ground.startService();
  for (let count = 0; count < 3; count += 1) tenants.push(await ground.createTenant(server));
}, 120_000);
afterAll(async () => {
  await ground.close();
  await cluster.close();
});

const statusOf = async (path: string) => (await fetch(`${server.url}${path}`)).status;

describe("PostgreSQL that is stopped under load and started again", () => {
  test.each<StopMode>(["fast", "immediate"])(
    "(%s) costs clean refusals, no write and no tenant's rows, and the service comes back by itself",
    async (mode) => {
      const load = new FaultLoad(() => [server], tenants);
      await load.during(async () => {
        for (let round = 1; round <= 2; round += 1) {
          await load.untilWritten();
          const refusedBefore = load.traffic.count(503);
          await load.traffic.strike(`stop ${round} (${mode})`, () => cluster.stop(mode));
          await expect
            .poll(() => load.traffic.count(503) - refusedBefore, { timeout: 15_000 })
            .toBeGreaterThan(3);
          expect(await statusOf("/readyz")).toBe(503);
          expect(await statusOf("/healthz")).toBe(200);

          await cluster.start();
          const ms = await load.untilAnswering();
          console.log(`all tenants answered again ${Math.round(ms)} ms after the start`);
        }
      });

      await load.verify(ground.registry);
      expect(await statusOf("/readyz")).toBe(200);
      expect(server.isRunning).toBe(true);
    },
    90_000,
  );
});
