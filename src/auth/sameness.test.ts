import bcrypt from "bcrypt";
import { HashThread } from "./hash-thread.ts";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  newEmail,
  newPhone,
  newSubdomain,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { Connection } from "../db/connection.ts";
import { LaneConnection } from "../db/lane-connection.ts";
import { newUsername } from "./users.ts";

/**
 * As in production, and without a provider of messages: what is queued stays in its table to be
 * counted, and no worker sends statements of its own meanwhile.
 */
const CONFIG = {
  appEnv: "production",
  allowedHosts: ["localhost"],
  rateLimits: NO_LIMITS,
} as const;

/** A network that entered too many wrong passwords or codes, in the cases that are about one. */
const BLOCKED_NETWORK = "198.51.100.66";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp({ config: CONFIG });
});
afterAll(() => api.close());
beforeEach(async () => {
  tenant = await api.createTenant(newSubdomain());
  await warmUp();
});
afterEach(() => vi.restoreAllMocks());

/** What a stranger can see of an answer, and what it cost. */
interface Observed {
  status: number;
  body: unknown;
  headers: Readonly<Record<string, unknown>>;
  /** bcrypt's cost of every password that was hashed or compared. */
  hashes: number[];
  /** Texts in the order they were sent, values left out. */
  statements: string[];
  /** Rows that were put into the queue of messages. */
  messages: number;
}

interface Request {
  path: "login" | "signup" | "resent-otp" | "password/forgot";
  body: object;
  from?: string;
}

const post = ({ path, body, from = "192.0.2.1" }: Request) =>
  api.client(tenant).post(`/api/auth/${path}/`, body, { remoteAddress: from });

/** Makes a request, and looks at everything it does. */
async function observe(request: Request): Promise<Observed> {
  const hashing = vi.spyOn(HashThread.prototype, "run");
  const sent = vi.spyOn(Connection.prototype, "send");
  const inOneWrite = vi.spyOn(LaneConnection.prototype, "runTransaction");
  const before = await countMessages();
  const { status, body, headers } = await post(request);
  const hashes = hashing.mock.calls.map(([job]) =>
    "hash" in job ? bcrypt.getRounds(job.hash) : job.cost,
  );
  const statements = [
    ...inOrder(sent.mock, ([statement]) => [
      typeof statement === "string" ? statement : statement.text,
    ]),
    ...inOrder(inOneWrite.mock, ([, outgoing]) =>
      outgoing.map(({ text }) => `in one write: ${text}`),
    ),
  ]
    .toSorted((one, other) => one.order - other.order)
    .map(({ text }) => text)
    .filter((text) => !isNobodys(text));
  vi.restoreAllMocks();
  const { "x-request-id": _, date: __, ...rest } = headers;
  return {
    status,
    body: withoutNames(body),
    headers: rest,
    hashes,
    statements,
    messages: (await countMessages()) - before,
  };
}

/** The texts of calls, with their place among all calls. */
function inOrder<Args extends unknown[]>(
  { calls, invocationCallOrder }: { calls: Args[]; invocationCallOrder: number[] },
  textsOf: (args: Args) => string[],
): { order: number; text: string }[] {
  return calls.flatMap((args, index) =>
    textsOf(args).map((text) => ({ order: invocationCallOrder[index] ?? 0, text })),
  );
}

/**
 * The LISTEN connection's sign of life; and, once in half a minute for whichever message comes first, the
 * registry's hint that there are some.
 */
function isNobodys(text: string): boolean {
  return text.startsWith("notify ouvira_heartbeat") || text.includes("public.message_queues");
}

/** The request's id is its own, and a number comes back as the caller gave it. */
function withoutNames(body: unknown): unknown {
  // Every answer here is an object of JSON.
  const { request_id: _, primary_mobile: __, ...rest } = body as Record<string, unknown>;
  return rest;
}

async function countMessages(): Promise<number> {
  const [row] = await tenant.sql<{ count: number }[]>`select count(*) from messages`;
  return row?.count ?? Number.NaN;
}

/** Everybody's answers and costs are those of the first. */
async function expectSame(cases: Readonly<Record<string, Request>>): Promise<Observed> {
  const observed: [string, Observed][] = [];
  for (const [name, request] of Object.entries(cases)) {
    observed.push([name, await observe(request)]);
  }
  const [first] = observed;
  if (!first) throw new Error("There is nothing to compare");
  expect(first[1].statements.length).toBeGreaterThan(3);
  for (const [name, other] of observed) expect([name, other]).toEqual([name, first[1]]);
  return first[1];
}

/** Everything that is done once and for all, or once in a while whoever asks, is done before. */
async function warmUp(): Promise<void> {
  const phone = newPhone();
  for (let round = 0; round < 3; round += 1) {
    await post({ path: "login", body: { identifier: phone, password: PASSWORD } });
    await post({ path: "signup", body: { full_name: "Ada", primary_mobile: phone } });
    await post({ path: "resent-otp", body: { primary_mobile: phone } });
    await post({ path: "password/forgot", body: { identifier: phone } });
  }
}

interface Known {
  email: string;
  phone: string;
  id: number;
}

/** Somebody who has an account, as the columns say. */
async function addUser(
  columns: {
    password_hash?: string | null;
    email_verified_at?: Date | null;
    is_active?: boolean;
    two_fa_type?: "totp" | "sms" | null;
  } = {},
): Promise<Known> {
  const user = { email: newEmail(), phone: newPhone() };
  const row = {
    username: newUsername(),
    full_name: "Ada Lovelace",
    email: user.email,
    primary_mobile: user.phone,
    password_hash: await api.services.passwords.hash(PASSWORD),
    email_verified_at: new Date(),
    ...columns,
  };
  const [created] = await tenant.sql<{ id: number }[]>`
    insert into users ${tenant.sql(row)} returning id`;
  if (!created) throw new Error("The user was not created");
  return { ...user, id: created.id };
}

/** A number whose sign-up was begun and not finished. */
async function beginSignup(): Promise<string> {
  const phone = newPhone();
  await post({ path: "signup", body: { full_name: "Ada Lovelace", primary_mobile: phone } });
  return phone;
}

/** Somebody whose five wrong passwords have locked the account for {@link BLOCKED_NETWORK}. */
async function lockLogin(identifier: string): Promise<void> {
  for (let index = 0; index < 5; index += 1) {
    const body = { identifier, password: "a wrong one" };
    await post({ path: "login", body, from: BLOCKED_NETWORK });
  }
}

/** A number for which {@link BLOCKED_NETWORK} has entered three wrong codes. */
async function blockNumber(phone: string): Promise<string> {
  for (let index = 0; index < 3; index += 1) {
    await api
      .client(tenant)
      .post(
        "/api/auth/verify-otp/",
        { primary_mobile: phone, otp: "000000" },
        { remoteAddress: BLOCKED_NETWORK },
      );
  }
  return phone;
}

describe("POST /api/auth/login/", () => {
  test("whoever may not log in is answered alike, after the same statements and one hash", async () => {
    const ada = await addUser();
    const bare = await addUser({ password_hash: null });
    const disabled = await addUser({ is_active: false });
    const unverified = await addUser({ email_verified_at: null });
    await lockLogin(ada.email);
    await lockLogin("nobody@corp.test");
    const half = await beginSignup();
    const wrong = (identifier: string): Request => ({
      path: "login",
      body: { identifier, password: "a wrong one" },
    });
    const right = (identifier: string): Request => ({
      path: "login",
      body: { identifier, password: PASSWORD },
    });

    const { status, body, hashes, messages } = await expectSame({
      "an address nobody has": right(newEmail()),
      "a number nobody has": right(newPhone()),
      "a name nobody has": right(newUsername()),
      "a wrong password": wrong(ada.email),
      "a wrong password for a number": wrong(ada.phone),
      "a locked account, with the right password": {
        ...right(ada.email),
        from: BLOCKED_NETWORK,
      },
      "a locked account, with a wrong one": { ...wrong(ada.email), from: BLOCKED_NETWORK },
      "a locked identifier that nobody has": {
        ...right("nobody@corp.test"),
        from: BLOCKED_NETWORK,
      },
      "an account without a password": right(bare.email),
      "a disabled account, with a wrong password": wrong(disabled.email),
      "an address that was not verified": wrong(unverified.email),
      "a number whose sign-up was begun": right(half),
    });

    expect(status).toBe(401);
    expect(body).toMatchObject({ code: "invalid_credentials" });
    expect(hashes).toEqual([api.config.bcryptCost]);
    expect(messages).toBe(0);
  });

  test("the right password is told apart: the comparison above is able to fail", async () => {
    const ada = await addUser();
    const login = (password: string) =>
      observe({ path: "login", body: { identifier: ada.email, password } });

    const wrong = await login("a wrong one");
    const right = await login(PASSWORD);

    expect(right.status).toBe(200);
    expect(right.statements).not.toEqual(wrong.statements);
  });
});

describe("POST /api/auth/signup/", () => {
  test("a number is answered alike whether or not it has an account, after the same statements and one message", async () => {
    const ada = await addUser();
    const disabled = await addUser({ is_active: false });
    const known = await addUser();
    await blockNumber(known.phone);
    const blocked = await blockNumber(await beginSignup());
    const blockedAndNew = await blockNumber(newPhone());
    const half = await beginSignup();
    const signup = (phone: string, from?: string): Request => ({
      path: "signup",
      body: { full_name: "Ada Lovelace", primary_mobile: phone },
      ...(from === undefined ? {} : { from }),
    });

    const { status, hashes, messages } = await expectSame({
      "a new number": signup(newPhone()),
      "a number with an account": signup(ada.phone),
      "a number with a disabled account": signup(disabled.phone),
      "a number whose sign-up was begun": signup(half),
      "the same from another network": signup(half, "192.0.2.77"),
      "a blocked number": signup(blocked, BLOCKED_NETWORK),
      "a blocked number that never signed up": signup(blockedAndNew, BLOCKED_NETWORK),
      "a blocked number with an account": signup(known.phone, BLOCKED_NETWORK),
    });

    expect(status).toBe(201);
    expect(hashes).toEqual([]);
    expect(messages).toBe(1);
  });
});

describe("POST /api/auth/resent-otp/", () => {
  test("a number is answered alike whether or not a code is sent, after the same statements and one message", async () => {
    const ada = await addUser();
    const half = await beginSignup();
    const blocked = await blockNumber(await beginSignup());
    const resend = (phone: string, from?: string): Request => ({
      path: "resent-otp",
      body: { primary_mobile: phone },
      ...(from === undefined ? {} : { from }),
    });

    const { status, hashes, messages } = await expectSame({
      "a number that never signed up": resend(newPhone()),
      "a number whose sign-up was begun": resend(half),
      "the same from another network": resend(half, "192.0.2.77"),
      "a number with an account": resend(ada.phone),
      "a blocked number": resend(blocked, BLOCKED_NETWORK),
    });

    expect(status).toBe(200);
    expect(hashes).toEqual([]);
    expect(messages).toBe(1);
  });
});

describe("POST /api/auth/password/forgot/", () => {
  test("an identifier is answered alike whether or not a link is sent, after the same statements and one message", async () => {
    const verified = await addUser();
    const bySms = await addUser({ email_verified_at: null });
    const smsIsSecond = await addUser({ email_verified_at: null, two_fa_type: "sms" });
    const disabled = await addUser({ is_active: false });
    const bare = await addUser({ password_hash: null });
    const patient = await addUser();
    const forgot = (identifier: string): Request => ({
      path: "password/forgot",
      body: { identifier },
    });
    for (let index = 0; index < 5; index += 1) await post(forgot(patient.email));
    const half = await beginSignup();

    const { status, hashes, messages } = await expectSame({
      "an address nobody has": forgot(newEmail()),
      "a number nobody has": forgot(newPhone()),
      "a verified address": forgot(verified.email),
      "the number of a verified address": forgot(verified.phone),
      "an unverified address, where the link goes by SMS": forgot(bySms.email),
      "an unverified address, where the number is the second factor": forgot(smsIsSecond.email),
      "a disabled account": forgot(disabled.email),
      "an account without a password": forgot(bare.email),
      "a number whose sign-up was begun": forgot(half),
      "an account with five links that work": forgot(patient.email),
    });

    expect(status).toBe(202);
    expect(hashes).toEqual([]);
    expect(messages).toBe(1);
    const links = await tenant.sql`
      select count(*) as count from password_resets group by user_id order by user_id`;
    expect(links).toEqual([{ count: 2 }, { count: 1 }, { count: 1 }, { count: 5 }]);
  });
});
