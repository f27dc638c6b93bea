import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createFaultGround, type FaultGround, type LoadTenant, logIn } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import { type Answer, Traffic } from "../fault-traffic.ts";
import type { ServerProcess } from "../server-process.ts";

/** What is promised: so long after the answer to a logout another process may still take the token. */
const PROMISED_MS = 1_000;

let ground: FaultGround;
let staying: ServerProcess;
let dying: ServerProcess;
const tenants: LoadTenant[] = [];
/** Besides the load: calls of which some are refused. */
const calls = new Traffic();

beforeAll(async () => {
  ground = await createFaultGround();
  // The first migrates what the second finds.
  staying = await ground.startService();
  dying = await ground.startService();
  for (let count = 0; count < 3; count += 1) tenants.push(await ground.createTenant(staying));
}, 120_000);
afterAll(async () => {
  calls.close();
  await ground.close();
});

/** A login of its own, known to the process that it is tried at. */
async function warmLogin({ subdomain, email }: LoadTenant, at: ServerProcess) {
  const { access: token, refresh } = await logIn(at, subdomain, email);
  const trial = () =>
    calls.send(at.url, {
      method: "GET",
      path: "/api/account/session-tests/",
      tenant: subdomain,
      token,
    });
  for (let count = 0; count < 3; count += 1) expect((await trial()).status).toBe(200);
  return {
    trial,
    logOut: (through: ServerProcess) =>
      calls.send(through.url, {
        method: "POST",
        path: "/api/auth/logout/",
        tenant: subdomain,
        token,
        body: { refresh },
      }),
  };
}

/** How long after now the last trial that succeeded was sent; the first refusal ends it. */
async function untilRefused(trial: () => Promise<Answer>): Promise<number> {
  const since = performance.now();
  let sentAt = since;
  await vi.waitFor(
    async () => {
      sentAt = performance.now();
      expect((await trial()).body).toMatchObject({ code: "token_revoked" });
    },
    { timeout: 5_000, interval: 5 },
  );
  return sentAt - since;
}

describe("one of two processes that is killed under load", () => {
  test("loses only what was under way there; the other answers on, and logins end everywhere", async () => {
    const [tenant] = tenants;
    if (!tenant) throw new Error("There is no tenant");
    let targets = [staying, dying];
    const load = new FaultLoad(() => targets, tenants);
    const refusals: number[] = [];

    await load.during(async () => {
      await load.untilWritten();
      const login = await warmLogin(tenant, staying);
      expect((await login.logOut(dying)).status).toBe(205);
      // What it told the others of is not lost with it.
      await load.traffic.strike("kill -9 of one of two", () => dying.kill());
      refusals.push(await untilRefused(login.trial));
      await dying.exited;
      targets = [staying];
      await load.untilAnswering();
      await load.untilWritten();

      const replacement = await ground.startService();
      targets = [staying, replacement];
      await load.untilAnswering();
      const later = await warmLogin(tenant, replacement);
      expect((await later.logOut(staying)).status).toBe(205);
      refusals.push(await untilRefused(later.trial));
    });

    console.log(`tokens were refused ${refusals.map(Math.round).join(" and ")} ms after logouts`);
    expect(Math.max(...refusals)).toBeLessThan(PROMISED_MS);
    // Nothing is to be refused: a request is answered, or was under way where it died.
    await load.verify(ground.registry);
    expect(load.traffic.count(503)).toBe(0);
    expect(staying.isRunning).toBe(true);
  }, 90_000);
});
