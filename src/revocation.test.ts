import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Secret, TOTP } from "otpauth";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { codeIn, newEmail, newPhone, PASSWORD, tokenIn } from "../test/app.ts";
import { type Proxy, startProxy } from "../test/proxy.ts";
import { createRegistry, type TestRegistry } from "../test/registry.ts";
import { type ServerProcess, startServer } from "../test/server-process.ts";
import {
  EnableSecondFactorAnswer,
  FinalizeAnswer,
  LoggedInAnswer,
  Tokens,
} from "./auth/schemas.ts";
import { VerifyOtpAnswer } from "./auth/schemas.ts";
import { readDemoLogin } from "./tenants/demo.ts";

/** What is promised: so long after the answer to what ends a login its token may still be taken. */
const PROMISED_MS = 1_000;

/** How long a token is tried after that: past the promise, so that a late acceptance is seen. */
const WATCHED_MS = 1_300;

/** How the product's LISTEN connection names itself to the server. */
const LISTENER = "ouvira listen";

let registry: TestRegistry;
let dataDir: string;
/** Stands between the second process and the database. */
let relay: Proxy;
/** Where logins are ended. */
let first: ServerProcess;
/** Where their tokens are tried. */
let second: ServerProcess;
/** The tenant's admin, logged in. */
let admin: string;
let schema: string;

/** When the last token was taken after its login had ended, in milliseconds; for the summary. */
const latest = new Map<string, number>();

beforeAll(async () => {
  registry = await createRegistry();
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-revocation-"));
  relay = await startProxy(registry.apiUrl);
  const environment = {
    APP_ENV: "local",
    DATABASE_MIGRATION_URL: registry.url,
    DATA_DIR: dataDir,
    BCRYPT_COST: "4",
  };
  first = await startServer({ ...environment, DATABASE_URL: registry.apiUrl });
  second = await startServer({ ...environment, DATABASE_URL: relay.url });
  const demo = await readDemoLogin(dataDir);
  admin = (await logIn(demo?.email ?? "", demo?.password)).access;
  const [tenant] = await registry.sql<{ id: number }[]>`select id from public.tenants`;
  schema = `t_${tenant?.id}`;
}, 90_000);
afterAll(async () => {
  for (const [name, ms] of latest) {
    const time = ms < 0 ? "not at all" : `${Math.round(ms)} ms`;
    console.log(`after ${name}: its token was last taken ${time} after the answer`);
  }
  await first.stop();
  await second.stop();
  await relay.close();
  await registry.close();
  await rm(dataDir, { recursive: true, force: true });
});

interface Answer {
  status: number;
  body: unknown;
}

async function call(
  { url }: ServerProcess,
  method: string,
  route: string,
  { token, body }: { token?: string; body?: object } = {},
): Promise<Answer> {
  const response = await fetch(`${url}${route}`, {
    method,
    headers: {
      "x-tenant": "demo",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
}

/** A call to the first process that must succeed. */
async function done(method: string, route: string, options = {}): Promise<unknown> {
  const { status, body } = await call(first, method, route, options);
  if (status >= 300) throw new Error(`${method} ${route}: ${status} ${JSON.stringify(body)}`);
  return body;
}

const OutboxEntries = z.array(z.object({ to: z.string(), body: z.string() }));

/** The newest message to somebody that fits. */
async function messageTo(to: string, pattern: RegExp): Promise<string> {
  for (;;) {
    const entries = OutboxEntries.parse(await done("GET", "/dev/outbox/"));
    const message = entries.find((entry) => entry.to === to && pattern.test(entry.body));
    if (message) return message.body;
    await sleep(10);
  }
}

async function logIn(identifier: string, password = PASSWORD): Promise<z.infer<typeof Tokens>> {
  const body = { identifier, password };
  return LoggedInAnswer.parse(await done("POST", "/api/auth/login/", { body })).tokens;
}

interface Person {
  id: number;
  phone: string;
  email: string;
  /** The login of the sign-up. */
  tokens: z.infer<typeof Tokens>;
}

async function signUp(): Promise<Person> {
  const phone = newPhone();
  const email = newEmail();
  const number = { primary_mobile: phone };
  await done("POST", "/api/auth/signup/", { body: { full_name: "Ada Lovelace", ...number } });
  const otp = codeIn(await messageTo(phone, /sign-up code/));
  const proof = VerifyOtpAnswer.parse(
    await done("POST", "/api/auth/verify-otp/", { body: { ...number, otp } }),
  );
  const { tokens, user } = FinalizeAnswer.parse(
    await done("POST", "/api/auth/finalize-signin/", {
      body: {
        ...number,
        verification_token: proof.verification_token,
        email,
        password: PASSWORD,
      },
    }),
  );
  return { id: user.id, phone, email, tokens };
}

/** A login that is about to end. */
interface Doomed {
  /** Its access token. */
  token: string;
  /** Ends it at the first process; resolves with the answer. */
  end: () => Promise<unknown>;
}

/** Everything that ends a login, prepared up to the request that does. */
const ENDINGS: Readonly<Record<string, () => Promise<Doomed>>> = {
  "a logout": async () => {
    const { tokens } = await signUp();
    const options = { token: tokens.access, body: { refresh: tokens.refresh } };
    return { token: tokens.access, end: () => done("POST", "/api/auth/logout/", options) };
  },
  "a password that was changed at another login": async () => {
    const { tokens, email } = await signUp();
    const other = await logIn(email);
    const body = { current_password: PASSWORD, new_password: "another horse, another battery" };
    const options = { token: other.access, body };
    return { token: tokens.access, end: () => done("POST", "/api/auth/password/change/", options) };
  },
  "a password that was reset": async () => {
    const { tokens, phone } = await signUp();
    await done("POST", "/api/auth/password/forgot/", { body: { identifier: phone } });
    const token = tokenIn(await messageTo(phone, /set a new password/));
    const body = { token, password: "another horse, another battery" };
    return { token: tokens.access, end: () => done("POST", "/api/auth/password/reset/", { body }) };
  },
  "a login that was ended from the list": async () => {
    const { tokens, email } = await signUp();
    const other = await logIn(email);
    const sessions = z
      .array(z.object({ id: z.int(), current: z.boolean() }))
      .parse(await done("GET", "/api/account/sessions/", { token: other.access }));
    const id = sessions.find(({ current }) => !current)?.id;
    const route = `/api/account/sessions/${id}/`;
    return { token: tokens.access, end: () => done("DELETE", route, { token: other.access }) };
  },
  "a refresh token that was used before": async () => {
    const { tokens } = await signUp();
    let { refresh } = tokens;
    for (let turn = 0; turn < 2; turn += 1) {
      const body = { refresh };
      ({ refresh } = Tokens.parse(await done("POST", "/api/auth/token/refresh/", { body })));
    }
    const options = { body: { refresh: tokens.refresh } };
    return {
      token: tokens.access,
      end: async () => {
        const answer = await call(first, "POST", "/api/auth/token/refresh/", options);
        expect(answer.body).toMatchObject({ code: "refresh_reused" });
      },
    };
  },
  "a user who was disabled": async () => {
    const { tokens, id } = await signUp();
    const options = { token: admin, body: { is_active: false } };
    return {
      token: tokens.access,
      end: () => done("PATCH", `/api/account/users/${id}/`, options),
    };
  },
  "a second factor that was reset": async () => {
    const { tokens, id } = await signUp();
    const token = tokens.access;
    const { secret } = EnableSecondFactorAnswer.parse(
      await done("POST", "/api/auth/settings_enable-2fa/", {
        token,
        body: { method: "totp", password: PASSWORD },
      }),
    );
    const code = new TOTP({ secret: Secret.fromBase32(secret ?? "") }).generate();
    await done("POST", "/api/auth/settings_confirm-2fa/", { token, body: { code } });
    const route = `/api/account/users/${id}/reset-2fa/`;
    return { token, end: () => done("POST", route, { token: admin }) };
  },
};

const trial = (token: string) => call(second, "GET", "/api/account/session-tests/", { token });

/** Tries a token at the second process until it must be remembered there. */
async function warm(token: string): Promise<void> {
  for (let index = 0; index < 5; index += 1) expect((await trial(token)).status).toBe(200);
}

interface Watched {
  /** When the last trial that succeeded was sent, in milliseconds after the login's end. */
  lastTakenMs: number;
  refusals: unknown[];
}

/** Ends a login and tries its token all the while, until the promise is well past. */
async function watch({ token, end }: Doomed, watchedMs: number = WATCHED_MS): Promise<Watched> {
  const trials: { sentAt: number; answer: Answer }[] = [];
  let endedAt = Number.POSITIVE_INFINITY;
  const ending = end().then(() => (endedAt = performance.now()));
  while (performance.now() < endedAt + watchedMs) {
    const sentAt = performance.now();
    trials.push({ sentAt, answer: await trial(token) });
    await sleep(2);
  }
  await ending;
  const taken = trials.filter(({ answer }) => answer.status === 200);
  return {
    lastTakenMs: Math.max(...taken.map(({ sentAt }) => sentAt - endedAt)),
    refusals: trials.filter(({ answer }) => answer.status !== 200).map(({ answer }) => answer.body),
  };
}

async function watchNamed(login: Doomed & { name: string }) {
  return { name: login.name, seen: await watch(login) };
}

function expectRefused(name: string, { lastTakenMs, refusals }: Watched, code: string): void {
  latest.set(name, lastTakenMs);
  expect(lastTakenMs).toBeLessThan(PROMISED_MS);
  expect(refusals.length).toBeGreaterThan(0);
  for (const body of refusals) expect(body).toMatchObject({ code });
}

/** Whether the second process listens, and its notifications come back. */
async function untilListening(): Promise<void> {
  await expect
    .poll(
      async () => {
        const [row] = await registry.sql<{ count: number }[]>`
          select count(*) from pg_stat_activity
           where datname = current_database()
             and application_name = ${LISTENER}
             and query_start > now() - interval '1 second'`;
        return row?.count;
      },
      { timeout: 20_000, interval: 50 },
    )
    .toBe(2);
  await sleep(400);
}

const cutListeners = () => registry.sql`
  select pg_terminate_backend(pid) from pg_stat_activity
   where datname = current_database() and application_name = ${LISTENER}`;

describe("an access token at another process", () => {
  test.each(Object.entries(ENDINGS))(
    "is refused within a second after %s",
    async (name, prepare) => {
      const doomed = await prepare();
      await untilListening();
      await warm(doomed.token);

      const seen = await watch(doomed);

      expectRefused(name, seen, "token_revoked");
      expect(seen.refusals.length).toBeGreaterThan(0);
    },
  );

  test("goes on being taken when nothing ends its login", async () => {
    const { tokens } = await signUp();
    await warm(tokens.access);

    const { lastTakenMs, refusals } = await watch({
      token: tokens.access,
      end: () => Promise.resolve(),
    });

    expect(refusals).toEqual([]);
    expect(lastTakenMs).toBeGreaterThan(PROMISED_MS);
  });

  test("is remembered: a login that ends in the database without a NOTIFY ends there later", async () => {
    const { tokens, id } = await signUp();
    await untilListening();
    await warm(tokens.access);

    const { refusals } = await watch({
      token: tokens.access,
      end: () => registry.sql`
        update ${registry.sql(schema)}.login_sessions
           set ended_at = now(), ended_because = 'revoked' where user_id = ${id}`,
    });

    expect(refusals).toEqual([]);
  });

  test("is refused within a second while the notifications are cut again and again", async () => {
    const doomed = await prepareAll();
    await untilListening();
    await Promise.all(doomed.map(({ token }) => warm(token)));
    const enough = new AbortController();
    const cutting = (async () => {
      while (!enough.signal.aborted) {
        await cutListeners();
        await sleep(20);
      }
    })();

    await cutListeners();
    const watched = await Promise.all(doomed.map(watchNamed));
    enough.abort();
    await cutting;

    expect(watched).toHaveLength(Object.keys(ENDINGS).length);
    for (const { name, seen } of watched) {
      expectRefused(`${name}, notifications cut`, seen, "token_revoked");
    }
  });

  test("is refused within a second while the notifications are lost in the network", async () => {
    const doomed = await prepareAll();
    await untilListening();
    await Promise.all(doomed.map(({ token }) => warm(token)));

    relay.stall(LISTENER);
    const watched = await Promise.all(doomed.map(watchNamed));

    expect(watched).toHaveLength(Object.keys(ENDINGS).length);
    for (const { name, seen } of watched) {
      expectRefused(`${name}, notifications lost`, seen, "token_revoked");
    }
    // The socket is found dead, and the next one works.
    await untilListening();
  });

  test("is refused within a second after its tenant was suspended, and taken again after that ended", async () => {
    const { tokens } = await signUp();
    await untilListening();
    await warm(tokens.access);
    // As an operator's command does: the row and the notification in one transaction.
    const setStatus = (status: string) =>
      registry.sql.begin(async (tx) => {
        await tx`update public.tenants set status = ${status} where subdomain = 'demo'`;
        await tx`select pg_notify('ouvira_tenants', '')`;
      });
    try {
      const suspended = await watch({ token: tokens.access, end: () => setStatus("suspended") });
      expectRefused("a suspended tenant", suspended, "tenant_suspended");

      relay.stall(LISTENER);
      await setStatus("active");
      await expect
        .poll(async () => (await trial(tokens.access)).status, { timeout: PROMISED_MS })
        .toBe(200);
    } finally {
      await setStatus("active");
    }
  });
});

async function prepareAll(): Promise<(Doomed & { name: string })[]> {
  const doomed: (Doomed & { name: string })[] = [];
  for (const [name, prepare] of Object.entries(ENDINGS)) {
    doomed.push({ name, ...(await prepare()) });
  }
  return doomed;
}
