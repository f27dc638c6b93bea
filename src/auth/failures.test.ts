import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type CountedTry, countTry, EVERYWHERE, forgetFailures, isLocked } from "./failures.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(() => api.close());

const LIMIT = { triesMax: 3, lockMinutes: 30 };
const HERE = "192.0.2.1/32";
const THERE = "2001:db8:1:2::/64";

const newSubject = () => randomBytes(32);
const database = () => api.services.database.tenant(tenant.id);
const count = (subject: Buffer, network = HERE, limit = LIMIT): Promise<CountedTry> =>
  database().transaction((tx) => countTry(tx, subject, network, limit));
const locked = (subject: Buffer, network = HERE) =>
  database().transaction((tx) => isLocked(tx, subject, network));
const forget = (subject: Buffer, network?: string) =>
  database().transaction((tx) => forgetFailures(tx, subject, network));

async function countTimes(times: number, subject: Buffer, network?: string): Promise<CountedTry[]> {
  const tries: CountedTry[] = [];
  for (let index = 0; index < times; index += 1) tries.push(await count(subject, network));
  return tries;
}

const rowOf = (subject: Buffer) => tenant.sql`
  select network::text, failures, locked_until, updated_at from failures where subject = ${subject}`;

/** As if everything about a subject had been so long ago. */
const age = (subject: Buffer, minutes: number) => tenant.sql`
  update failures set
    updated_at   = updated_at - make_interval(mins => ${minutes}::int),
    locked_until = locked_until - make_interval(mins => ${minutes}::int)
  where subject = ${subject}`;

describe("countTry", () => {
  test("allows as many tries as the limit says, and tells which is the last", async () => {
    expect(await countTimes(5, newSubject())).toEqual([
      { isAllowed: true, isLast: false },
      { isAllowed: true, isLast: false },
      { isAllowed: true, isLast: true },
      { isAllowed: false, isLast: false },
      { isAllowed: false, isLast: false },
    ]);
  });

  test("with a limit of one the first try is the last", async () => {
    const subject = newSubject();
    const one = { triesMax: 1, lockMinutes: 30 };

    expect(await count(subject, HERE, one)).toEqual({ isAllowed: true, isLast: true });
    expect(await locked(subject)).toBe(true);
    expect(await count(subject, HERE, one)).toEqual({ isAllowed: false, isLast: false });
  });

  test("of 20 parallel tries three are allowed, and one of them is the last", async () => {
    const subject = newSubject();

    const tries = await Promise.all(Array.from({ length: 20 }, () => count(subject)));

    expect(tries.filter(({ isAllowed }) => isAllowed)).toHaveLength(3);
    expect(tries.filter(({ isLast }) => isLast)).toHaveLength(1);
  });

  test("each subject and each network has a count of its own", async () => {
    const subject = newSubject();
    await countTimes(4, subject);

    expect(await count(subject)).toMatchObject({ isAllowed: false });
    for (const network of [THERE, EVERYWHERE, "192.0.2.2/32"]) {
      expect(await count(subject, network)).toMatchObject({ isAllowed: true });
    }
    expect(await count(newSubject())).toMatchObject({ isAllowed: true });
  });

  test("a lock of 30 minutes holds after 29 and is over after 30; the count begins anew", async () => {
    const subject = newSubject();
    await countTimes(3, subject);

    await age(subject, 29);
    expect(await count(subject)).toMatchObject({ isAllowed: false });

    await age(subject, 1);
    expect(await countTimes(4, subject)).toMatchObject([
      { isAllowed: true },
      { isAllowed: true },
      { isAllowed: true, isLast: true },
      { isAllowed: false },
    ]);
  });

  test("tries while it is locked do not make the lock longer", async () => {
    const subject = newSubject();
    await countTimes(3, subject);
    const [before] = await rowOf(subject);

    await countTimes(3, subject);

    const [after] = await rowOf(subject);
    expect(after).toEqual({ ...before, failures: 6 });
  });

  test("tries count on over a pause of 29 minutes, and are forgotten after one of 30", async () => {
    const [patient, early] = [newSubject(), newSubject()];
    await countTimes(2, patient);
    await countTimes(2, early);

    await age(patient, 30);
    await age(early, 29);

    expect(await count(patient)).toEqual({ isAllowed: true, isLast: false });
    expect(await count(early)).toEqual({ isAllowed: true, isLast: true });
    expect(await rowOf(patient)).toMatchObject([{ failures: 1, locked_until: null }]);
  });
});

describe("isLocked", () => {
  test("is true once the last try was counted, and counts nothing itself", async () => {
    const subject = newSubject();
    await countTimes(2, subject);
    expect(await locked(subject)).toBe(false);
    await count(subject);
    const before = await rowOf(subject);

    expect(await locked(subject)).toBe(true);
    expect(await locked(subject, THERE)).toBe(false);

    expect(await rowOf(subject)).toEqual(before);
  });

  test("is false once the lock has ended", async () => {
    const subject = newSubject();
    await countTimes(3, subject);

    await age(subject, 30);

    expect(await locked(subject)).toBe(false);
  });
});

describe("forgetFailures", () => {
  test("sets one network back and leaves the others", async () => {
    const subject = newSubject();
    await countTimes(3, subject);
    await countTimes(3, subject, THERE);

    await forget(subject, HERE);

    expect(await count(subject)).toMatchObject({ isAllowed: true });
    expect(await count(subject, THERE)).toMatchObject({ isAllowed: false });
  });

  test("without a network it sets all of a subject's back, and nobody else's", async () => {
    const [mine, theirs] = [newSubject(), newSubject()];
    for (const subject of [mine, theirs]) {
      await countTimes(3, subject);
      await countTimes(3, subject, THERE);
    }

    await forget(mine);

    expect(await rowOf(mine)).toEqual([]);
    expect(await rowOf(theirs)).toHaveLength(2);
  });
});
