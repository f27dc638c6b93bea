import { closeSync, existsSync, openSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import type { ServerProcess } from "../server-process.ts";

/** Takes nothing: each write fails with ENOSPC, as on a full disk. */
const FULL = "/dev/full";

if (!existsSync(FULL)) console.log(`Skipped: this system has no ${FULL}.`);

describe.skipIf(!existsSync(FULL))("a log that cannot be written", () => {
  let ground: FaultGround;
  let server: ServerProcess;
  const tenants: LoadTenant[] = [];

  beforeAll(async () => {
    ground = await createFaultGround();
    const outputFile = openSync(FULL, "w");
    server = await ground.startService({}, { outputFile });
    closeSync(outputFile);
    for (let count = 0; count < 3; count += 1) tenants.push(await ground.createTenant(server));
  }, 120_000);
  afterAll(async () => {
    await ground.close();
  });

  test("fails no request, and the service stops as it does otherwise", async () => {
    const load = new FaultLoad(() => [server], tenants);
    await load.during(() =>
      // Each request is a line of the log.
      load.traffic.strike("no line can be written", () => load.untilWritten(100)),
    );

    expect(await load.verify(ground.registry)).toBe(0);
    expect(load.traffic.count(503) + load.traffic.count(0)).toBe(0);
    expect(server.isRunning).toBe(true);
    server.terminate();
    expect(await server.exited).toBe(0);
  });
});
