import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { fakeTimeLibrary, type FakeClock, makeFakeClock } from "../fake-clock.ts";
import { createFaultGround, type FaultGround, type LoadTenant, logIn } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import { Traffic } from "../fault-traffic.ts";
import type { ServerProcess } from "../server-process.ts";

const hasFakeTime = fakeTimeLibrary !== undefined;
if (!hasFakeTime) console.log("Skipped: there is no faketime on the path.");

describe.skipIf(!hasFakeTime)("one of two processes whose clock is moved under load", () => {
  let clock: FakeClock;
  let ground: FaultGround;
  let right: ServerProcess;
  /** Goes by `clock`. */
  let wrong: ServerProcess;
  const tenants: LoadTenant[] = [];
  /** Besides the load: calls of which some are refused. */
  const calls = new Traffic();

  beforeAll(async () => {
    clock = await makeFakeClock();
    ground = await createFaultGround();
    right = await ground.startService();
    wrong = await ground.startService(clock.environment);
    for (let count = 0; count < 3; count += 1) tenants.push(await ground.createTenant(right));
  }, 120_000);
  afterAll(async () => {
    calls.close();
    await ground.close();
    await clock.close();
  });

  const tenant = () => {
    const [first] = tenants;
    if (!first) throw new Error("There is no tenant");
    return first;
  };
  const newTokens = (at: ServerProcess) => logIn(at, tenant().subdomain, tenant().email);

  /** How a process takes an access token: the code of its refusal, or its status. */
  const take = async (at: ServerProcess, token: string): Promise<unknown> => {
    const { status, body } = await calls.send(at.url, {
      method: "GET",
      path: "/api/account/session-tests/",
      tenant: tenant().subdomain,
      token,
    });
    return (body as { code?: unknown } | undefined)?.code ?? status;
  };
  const untilTakenAs = (at: ServerProcess, token: string, outcome: unknown) =>
    vi.waitFor(async () => expect(await take(at, token)).toBe(outcome), { timeout: 5_000 });

  /** A few requests to the process whose clock is moved, under way by then. */
  const requestsOf = ({ url }: ServerProcess, { traffic }: FaultLoad) =>
    Promise.all(
      [1, 2, 3].map(() =>
        traffic.send(url, { method: "GET", path: "/readyz", tenant: tenant().subdomain }),
      ),
    );

  test("a clock set an hour and more ahead: tokens have expired there, new ones are taken", async () => {
    const { access, refresh } = await newTokens(right);
    expect([await take(right, access), await take(wrong, access)]).toEqual([200, 200]);
    const load = new FaultLoad(() => [right], tenants);

    await load.during(async () => {
      await load.untilWritten();
      const underWay = requestsOf(wrong, load);
      await load.traffic.strike("61 minutes ahead", () => clock.move("+61m"));
      await underWay;
      await untilTakenAs(wrong, access, "token_expired");
      expect(await take(right, access)).toBe(200);
      // What is kept is the database's to say, by its own clock.
      const { status, body } = await calls.send(wrong.url, {
        method: "POST",
        path: "/api/auth/token/refresh/",
        tenant: tenant().subdomain,
        body: { refresh },
      });
      expect(status).toBe(200);
      const renewed = (body as { access: string }).access;
      expect(await take(wrong, renewed)).toBe(200);
      // Valid from an hour on.
      expect(await take(right, renewed)).toBe("authentication_required");
      await load.untilWritten();
      await clock.move("+0");
      await untilTakenAs(wrong, access, 200);
      expect(await take(wrong, renewed)).toBe("authentication_required");
    });

    expect(await load.verify(ground.registry)).toBe(0);
  }, 60_000);

  test("a clock set back a day: tokens are not valid yet there, its own have expired elsewhere", async () => {
    const { access } = await newTokens(right);
    expect([await take(right, access), await take(wrong, access)]).toEqual([200, 200]);
    const load = new FaultLoad(() => [right], tenants);

    await load.during(async () => {
      await load.untilWritten();
      const underWay = requestsOf(wrong, load);
      await load.traffic.strike("a day behind", () => clock.move("-1d"));
      await underWay;
      await untilTakenAs(wrong, access, "authentication_required");
      const own = await newTokens(wrong);
      expect(await take(wrong, own.access)).toBe(200);
      expect(await take(right, own.access)).toBe("token_expired");
      await load.untilWritten();
      await clock.move("+0");
      await untilTakenAs(wrong, access, 200);
    });

    expect(await load.verify(ground.registry)).toBe(0);
    expect(wrong.isRunning).toBe(true);
  }, 60_000);

  test("clocks two seconds apart, as those of good machines may be: every token is taken by both", async () => {
    try {
      for (const offset of ["+2s", "-2s"]) {
        await clock.move(offset);
        for (const at of [right, wrong]) {
          const { access } = await newTokens(at);
          expect([offset, await take(right, access), await take(wrong, access)]).toEqual([
            offset,
            200,
            200,
          ]);
        }
      }
    } finally {
      await clock.move("+0");
    }
  });
});
