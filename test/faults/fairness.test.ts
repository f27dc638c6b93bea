import { closeSync, openSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { getRequest, postRequest } from "../../bench/http-load.ts";
import { quantile, spread } from "../../bench/load.ts";
import { type Job, type Outcomes, PacedLoad } from "../../bench/paced-load.ts";
import { PASSWORD } from "../app.ts";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";

/** Tenants that ask a little, and what one offers besides, of what all of them offer together. */
const OTHERS = 20;
const LOUDNESS = 10;

/** Share of what the service takes that all offer together: far enough below that a busy machine takes it too. */
const TOTAL_SHARE = 1 / 4;

/** So many a second the others offer however slow the machine is: percentiles need some requests. */
const PER_SECOND_MIN = 50;

const ROUNDS = 5;
const SECONDS = 0.8;

/**
 * How much slower the others may become, in the median over rounds. What is promised, 1.5 and 3, is for a machine of
 * its own and long rounds (`npm run bench -- fairness`); here p95 is that of some hundred requests, on two cores that
 * the clients, the database and another worker's tests share, and a wait for a core alone is some milliseconds.
 */
const BESIDE_LOUD_MAX = 3;
const BESIDE_LOGINS_MAX = 6;

/** The longest that the others may wait in the 95th percentile beside a flood. It was 2.7 s when refusals were told at once. */
const BESIDE_FLOOD_MS_MAX = 250;

let ground: FaultGround;
/** The client of the others, and that of the loud one: a process each. */
let quiet: PacedLoad;
let loud: PacedLoad;
let ofLoud: string;
let ofOthers: readonly string[];
let login: string;
/** Requests a second that the others offer together. */
let perSecond: number;
const nowhere = openSync("/dev/null", "w");

beforeAll(async () => {
  ground = await createFaultGround();
  const server = await ground.startService(
    // As in production: a hash takes a core for 50 ms.
    { BCRYPT_COST: "10", DATABASE_LANES: "8", LOG_LEVEL: "warn" },
    { outputFile: nowhere },
  );
  const tenants: LoadTenant[] = [];
  for (let count = 0; count <= OTHERS; count += 1) tenants.push(await ground.createTenant(server));
  const [first = "", ...others] = tenants.map(({ subdomain, token }) =>
    getRequest("/api/account/profile/", {
      "x-tenant": subdomain,
      authorization: `Bearer ${token}`,
    }).toString(),
  );
  [ofLoud, ofOthers] = [first, others];
  const identifier = tenants[0]?.email;
  const headers = { "x-tenant": tenants[0]?.subdomain ?? "" };
  login = postRequest("/api/auth/login/", headers, { identifier, password: PASSWORD }).toString();
  const port = Number(new URL(server.url).port);
  [quiet, loud] = await Promise.all([PacedLoad.start(port), PacedLoad.start(port)]);
  // Until the code is compiled and everything is remembered.
  await quiet.run({ requests: [first, ...others], seconds: 2, concurrency: 32 });
  const taken = await quiet.run({ requests: others, seconds: 1.5, concurrency: 32 });
  const offered = ((taken.statuses.length / taken.seconds) * TOTAL_SHARE) / (1 + LOUDNESS);
  perSecond = Math.max(offered, PER_SECOND_MIN);
}, 120_000);
afterAll(async () => {
  quiet.close();
  loud.close();
  await ground.close();
  closeSync(nowhere);
});

interface Measured {
  readonly alone: Outcomes[];
  readonly beside: Outcomes[];
  /** Of the loud one. */
  readonly theirs: Outcomes[];
}

/** Reads of the others, alone and beside what the loud one does, in turn. */
async function measure(job: Job): Promise<Measured> {
  const read = () => quiet.run({ requests: ofOthers, seconds: SECONDS, perSecond });
  const measured: Measured = { alone: [], beside: [], theirs: [] };
  for (let round = 0; round < ROUNDS; round += 1) {
    measured.alone.push(await read());
    const [beside, theirs] = await Promise.all([read(), loud.run(job)]);
    measured.beside.push(beside);
    measured.theirs.push(theirs);
  }
  return measured;
}

function medianOf(rounds: readonly Outcomes[], share: number): number {
  return spread(rounds.map(({ milliseconds }) => quantile(milliseconds, share))).median;
}

/** How often each status came. */
function statusesOf(rounds: readonly Outcomes[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const status of rounds.flatMap(({ statuses }) => statuses)) {
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

function report(what: string, { alone, beside, theirs }: Measured, share: number): void {
  console.log(
    `${what}: ${medianOf(alone, share).toFixed(1)} ms alone, ${medianOf(beside, share).toFixed(1)} beside, in the ` +
      `${share * 100}th percentile; the loud one's answers: ${JSON.stringify(statusesOf(theirs))}`,
  );
}

describe("requests of twenty tenants", () => {
  test("hardly notice one that offers ten times as much, below what the service takes", async () => {
    const measured = await measure({
      requests: [ofLoud],
      seconds: SECONDS,
      perSecond: perSecond * LOUDNESS,
    });

    report("beside a loud tenant", measured, 0.95);
    const { alone, beside, theirs } = measured;
    expect(Object.keys(statusesOf([...alone, ...beside, ...theirs]))).toEqual(["200"]);
    expect(medianOf(beside, 0.95) / medianOf(alone, 0.95)).toBeLessThan(BESIDE_LOUD_MAX);
  }, 60_000);

  test("are all answered, and soon, beside one that asks without a pause: it alone is refused", async () => {
    const measured = await measure({ requests: [ofLoud], seconds: SECONDS, concurrency: 256 });

    report("beside a flood", measured, 0.95);
    const { alone, beside, theirs } = measured;
    expect(Object.keys(statusesOf([...alone, ...beside]))).toEqual(["200"]);
    const { 200: answered = 0, 503: refused = 0, ...rest } = statusesOf(theirs);
    expect(rest).toEqual({});
    expect(refused).toBeGreaterThan(0);
    // The process answers it more than it refuses it: refused at once, it asked again 17 times for each answer.
    expect(refused).toBeLessThan(answered);
    expect(medianOf(beside, 0.95)).toBeLessThan(BESIDE_FLOOD_MS_MAX);
  }, 60_000);

  test("go before the hashing of a flood of logins", async () => {
    const measured = await measure({ requests: [login], seconds: SECONDS, concurrency: 24 });

    report("beside a flood of logins", measured, 0.99);
    const { alone, beside, theirs } = measured;
    expect(Object.keys(statusesOf([...alone, ...beside]))).toEqual(["200"]);
    expect(theirs.flatMap(({ statuses }) => statuses).length).toBeGreaterThan(ROUNDS * 24);
    expect(medianOf(beside, 0.99) / medianOf(alone, 0.99)).toBeLessThan(BESIDE_LOGINS_MAX);
  }, 60_000);
});
