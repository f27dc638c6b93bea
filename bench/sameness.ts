import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import postgres from "postgres";
import { buildApp } from "../src/app.ts";
import { type Config, readConfig } from "../src/config.ts";
import { openDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { closeServices, makeServices, openServices, type Services } from "../src/services.ts";
import { ensureDemoTenant } from "../src/tenants/demo.ts";
import { NO_LIMITS } from "../test/limits.ts";
import { describeMachine } from "./machine.ts";
import { printTable } from "./report.ts";

const HELP = `npm run bench -- sameness [options]

  --rounds N   rounds of every case (logins have a quarter of them; default 400)
  --quick      few rounds, to try it: the figures mean nothing
`;

/** How far a case's median may be from the first case's of its route: past it a stranger could tell. */
const TARGET = { min: 0.85, max: 1.15 } as const;

const PASSWORD = "correct horse battery staple";
/** A network that entered too many wrong passwords and codes. */
const BLOCKED = "198.51.100.66";
/** Between two requests: what the one before left to be done, a message to be sent, is over. */
const PAUSE_MS = 6;

/** One request; what it needs is made before the clock starts. */
interface Case {
  readonly path: string;
  readonly body: () => Record<string, unknown>;
  readonly from?: string;
}

type Route = Readonly<Record<string, Case>>;

/** Runs the benchmark of docs/benchmarks/sameness.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 8 : 400));
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const config: Config = {
    ...readConfig({ APP_ENV: "local", DATA_DIR: dataDir, LOG_LEVEL: "silent" }),
    rateLimits: NO_LIMITS,
  };
  const database = await openDatabase(config);
  const log = pino({ level: "silent" });
  const services = makeServices(config, database.url, log);
  await migrateRegistry(database.migrationUrl, database.url);
  const migrations = await loadTenantMigrations();
  await ensureDemoTenant(database, migrations, services.passwords, dataDir);
  const admin = postgres(database.migrationUrl, { max: 1, onnotice: () => undefined });
  const [tenant] = await admin<{ id: string }[]>`select id from public.tenants`;
  await admin`select set_config('search_path', ${`t_${tenant?.id}`}, false)`;
  await openServices(services);
  const app = await buildApp(services, log);
  try {
    await app.ready();
    console.log(`Machine: ${await describeMachine(database.migrationUrl)}.`);
    const bench = new Bench(app, admin);
    return await bench.run(await bench.prepare(services), rounds);
  } finally {
    await app.close();
    await closeServices(services);
    await admin.end();
    await database.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

class Bench {
  readonly #app: FastifyInstance;
  readonly admin: postgres.Sql;
  #made = 0;

  constructor(app: FastifyInstance, admin: postgres.Sql) {
    this.#app = app;
    this.admin = admin;
  }

  /** The people that cases are about, and the cases of each route; the first is what the others are compared with. */
  async prepare({ passwords }: Services): Promise<Readonly<Record<string, Route>>> {
    const hash = await passwords.hash(PASSWORD);
    const ada = await this.#addUser(hash, true);
    const locked = await this.#addUser(hash, true);
    const bare = await this.#addUser(null, true);
    const bySms = await this.#addUser(hash, false);
    const patient = await this.#addUser(hash, true);
    const half = this.#phone();
    const blocked = this.#phone();
    const wrong = { password: "a wrong password, as long as it" };
    const login = (body: () => Record<string, unknown>, from?: string): Case => ({
      path: "login",
      body,
      ...(from === undefined ? {} : { from }),
    });
    for (let index = 0; index < 5; index += 1) {
      await this.#send(login(() => ({ identifier: locked.email, ...wrong }), BLOCKED));
      await this.#send({ path: "password/forgot", body: () => ({ identifier: patient.email }) });
    }
    const signup = (phone: () => string, from?: string): Case => ({
      path: "signup",
      body: () => ({ full_name: "Ada Lovelace", primary_mobile: phone() }),
      ...(from === undefined ? {} : { from }),
    });
    const resend = (phone: () => string, from?: string): Case => ({
      path: "resent-otp",
      body: () => ({ primary_mobile: phone() }),
      ...(from === undefined ? {} : { from }),
    });
    const forgot = (identifier: () => string): Case => ({
      path: "password/forgot",
      body: () => ({ identifier: identifier() }),
    });
    await this.#send(signup(() => half));
    await this.#send(signup(() => blocked, BLOCKED));
    for (let index = 0; index < 3; index += 1) {
      const body = () => ({ primary_mobile: blocked, otp: "000000" });
      await this.#send({ path: "verify-otp", body, from: BLOCKED });
    }
    return {
      login: {
        "unknown address": login(() => ({ identifier: this.#email(), ...wrong })),
        "unknown number": login(() => ({ identifier: this.#phone(), ...wrong })),
        "wrong password": login(() => ({ identifier: ada.email, ...wrong })),
        "locked, right password": login(
          () => ({ identifier: locked.email, password: PASSWORD }),
          BLOCKED,
        ),
        "account without a password": login(() => ({ identifier: bare.email, ...wrong })),
        "half-registered number": login(() => ({ identifier: half, ...wrong })),
      },
      signup: {
        "new number": signup(() => this.#phone()),
        "number with an account": signup(() => ada.phone),
        "half-registered number": signup(() => half),
        "blocked number": signup(() => blocked, BLOCKED),
      },
      "resent-otp": {
        "never signed up": resend(() => this.#phone()),
        "half-registered number": resend(() => half, "192.0.2.1"),
        "number with an account": resend(() => ada.phone),
        "blocked number": resend(() => blocked, BLOCKED),
      },
      "password/forgot": {
        "unknown address": forgot(() => this.#email()),
        "verified address": forgot(() => ada.email),
        "unverified, by SMS": forgot(() => bySms.email),
        "half-registered number": forgot(() => half),
        "five links that work": forgot(() => patient.email),
      },
    };
  }

  /** @returns whether every median was within the target */
  async run(routes: Readonly<Record<string, Route>>, rounds: number): Promise<boolean> {
    let isMet = true;
    for (const [name, route] of Object.entries(routes)) {
      const took = await this.#measure(route, name === "login" ? Math.ceil(rounds / 4) : rounds);
      const [first = []] = took.values();
      const rows = [...took].map(([label, figures]) => {
        const ratio = at(figures, 0.5) / at(first, 0.5);
        isMet &&= ratio >= TARGET.min && ratio <= TARGET.max;
        return [
          label,
          at(figures, 0.5).toFixed(2),
          at(figures, 0.95).toFixed(2),
          ratio.toFixed(3),
          (at(figures, 0.95) / at(first, 0.95)).toFixed(3),
        ];
      });
      const head = ["case", "median ms", "p95 ms", "median, ratio", "p95, ratio"];
      printTable(`${name}, ${first.length} rounds`, head, rows);
    }
    console.log(
      `\nMedians within ${TARGET.min}–${TARGET.max} of the first: ${isMet ? "met" : "MISSED"}.`,
    );
    return isMet;
  }

  /** Every case once a round, in an order of chance, so that none has always the same neighbour. */
  async #measure(route: Route, rounds: number): Promise<Map<string, number[]>> {
    const took = new Map(Object.keys(route).map((label) => [label, [] as number[]]));
    const warmUpRounds = Math.ceil(rounds / 10);
    for (let round = -warmUpRounds; round < rounds; round += 1) {
      for (const [label, subject] of shuffled(Object.entries(route))) {
        // Links of a round before would be the fifth; those of the case that is about it stay.
        await this.admin`
          delete from password_resets r using password_resets later
           where later.user_id = r.user_id and later.id > r.id
             and r.user_id not in (select user_id from password_resets group by 1 having count(*) >= 5)`;
        await sleep(PAUSE_MS);
        const ms = await this.#send(subject);
        if (round >= 0) took.get(label)?.push(ms);
      }
    }
    for (const figures of took.values()) figures.sort((a, b) => a - b);
    return took;
  }

  /** @returns how long the answer took, in milliseconds */
  async #send({ path: route, body, from = this.#address() }: Case): Promise<number> {
    const request = {
      method: "POST" as const,
      url: `/api/auth/${route}/`,
      headers: { "x-tenant": "demo" },
      remoteAddress: from,
      body: body(),
    };
    const start = performance.now();
    const { statusCode } = await this.#app.inject(request);
    const ms = performance.now() - start;
    if (statusCode >= 500) throw new Error(`${route}: ${statusCode}`);
    return ms;
  }

  async #addUser(
    hash: string | null,
    isVerified: boolean,
  ): Promise<{ email: string; phone: string }> {
    const user = { email: this.#email(), phone: this.#phone() };
    await this.admin`
      insert into users (username, full_name, email, primary_mobile, password_hash, email_verified_at)
      values (${`user-${this.#made}`}, 'Ada Lovelace', ${user.email}, ${user.phone}, ${hash},
              ${isVerified ? new Date() : null})`;
    return user;
  }

  #phone(): string {
    this.#made += 1;
    return `+2010${String(this.#made).padStart(8, "0")}`;
  }

  #email(): string {
    this.#made += 1;
    return `ada${String(this.#made).padStart(8, "0")}@corp.test`;
  }

  /** Another one each time: no network is ever locked by chance. */
  #address(): string {
    this.#made += 1;
    return `10.${(this.#made >> 16) & 255}.${(this.#made >> 8) & 255}.${this.#made & 255}`;
  }
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, order: Math.random() }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
