import { PasswordHasher } from "../src/auth/passwords.ts";
import type { Config } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import { PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { HttpLoad, postRequest } from "./http-load.ts";
import {
  bareHashes,
  type MeasuredServer,
  startBare,
  startService,
  usedCpu,
} from "./http-processes.ts";
import type { ReadName } from "./http-reads.ts";
import { MEMBER, MEMBER_ID } from "./http-seed.ts";
import { latencyOf, type Latency } from "./load.ts";

/** Requests under way at once. */
export const CONCURRENCY = 64;

export interface ReadCase {
  readonly name: ReadName | "mix";
  readonly tenants: number;
  readonly draw: "uniform" | "zipf";
  readonly ours: () => Buffer;
  readonly bound: () => Buffer;
  /** What the service is asked before. */
  readonly warmUp: Iterable<Buffer>;
}

/** One figure a round. */
export interface Side {
  readonly perSecond: number[];
  /** CPU of the server's process, and of PostgreSQL's, in microseconds a request. */
  readonly nodeMicroseconds: number[];
  readonly postgresMicroseconds: number[];
  latency: Latency;
}

export interface MeasuredRead {
  readonly name: string;
  readonly tenants: number;
  readonly draw: string;
  readonly ours: Side;
  readonly bound: Side;
}

interface Timing {
  readonly rounds: number;
  readonly seconds: number;
}

interface Servers {
  readonly service: MeasuredServer;
  readonly bound: MeasuredServer;
  /** PostgreSQL's first process. */
  readonly postmaster: number;
}

/** Measures the service and the bound in turn, case by case, round by round; the first round is not kept. */
export async function measureReads(
  { service, bound, postmaster }: Servers,
  cases: readonly ReadCase[],
  { rounds, seconds }: Timing,
): Promise<MeasuredRead[]> {
  const newSide = (): Side => ({
    perSecond: [],
    nodeMicroseconds: [],
    postgresMicroseconds: [],
    latency: latencyOf([]),
  });
  const measured = cases.map(({ name, tenants, draw }) => ({
    name,
    tenants,
    draw,
    ours: newSide(),
    bound: newSide(),
  }));
  const ours = await HttpLoad.open(service.port, CONCURRENCY);
  // What is asked again and again is prepared and remembered before anything is measured.
  for (const { warmUp } of cases) await ours.runAll(warmUp);
  // After it: the servers close sockets that nothing has come through for a minute.
  const loads = { ours, bound: await HttpLoad.open(bound.port, CONCURRENCY) };
  try {
    for (let round = 0; round <= rounds; round += 1) {
      console.error(`# round ${round} of ${rounds}`);
      for (const [index, one] of cases.entries()) {
        for (const side of ["bound", "ours"] as const) {
          const server = side === "ours" ? service : bound;
          const before = usedCpu(server, postmaster);
          const answered = await loads[side].run(one[side], seconds);
          const after = usedCpu(server, postmaster);
          const isAllGood = answered.statuses.get(200) === answered.requests;
          if (!isAllGood) {
            throw new Error(
              `${side} ${one.name}: ${JSON.stringify([...answered.statuses])} of ${answered.requests}`,
            );
          }
          const kept = measured[index]?.[side];
          if (round === 0 || !kept) continue;
          const microseconds = (ms: number) => (ms * 1_000) / answered.requests;
          kept.perSecond.push(answered.perSecond);
          kept.nodeMicroseconds.push(microseconds(after.node - before.node));
          kept.postgresMicroseconds.push(microseconds(after.postgres - before.postgres));
          kept.latency = answered.latency;
        }
      }
    }
  } finally {
    loads.ours.close();
    loads.bound.close();
  }
  return measured;
}

/** Logins a second of the service and of bare bcrypt at the cost that it has, in turn. */
export interface MeasuredLogins {
  readonly cost: number;
  readonly ours: number[];
  readonly bound: number[];
  /** CPU of the service, its hashing included, and of PostgreSQL, in milliseconds a login. */
  readonly nodeMilliseconds: number[];
  readonly postgresMilliseconds: number[];
}

/** Tenants whose members log in, so that nobody's limits are met. */
const LOGIN_TENANTS = 16;

export async function measureLogins(
  { service, postmaster }: Omit<Servers, "bound">,
  database: OpenDatabase,
  config: Config,
  { rounds, seconds }: Timing,
): Promise<MeasuredLogins> {
  const cost = config.bcryptCost;
  const hasher = new PasswordHasher({ pepper: config.passwordPepper, cost });
  const hash = await hasher.hash(MEMBER.password);
  const subdomains = Array.from({ length: LOGIN_TENANTS }, (_, index) => `tenant-${index + 1}`);
  await withAdmin(database.migrationUrl, async (admin) => {
    const tenants = await admin.query<{ id: number }[]>`
      select id from public.tenants where subdomain = any(${subdomains}::text[])`;
    for (const { id } of tenants) {
      await admin.execute(
        `update ${tenantSchema(id)}.users set password_hash = '${hash}' where id = ${MEMBER_ID}`,
      );
    }
  });
  const logins = subdomains.map((subdomain) =>
    postRequest(
      "/api/auth/login/",
      { "x-tenant": subdomain },
      { identifier: MEMBER.email, password: MEMBER.password },
    ),
  );
  let sent = 0;
  const next = () => {
    sent += 1;
    return logins[sent % logins.length] ?? Buffer.of();
  };
  const measured: MeasuredLogins = {
    cost,
    ours: [],
    bound: [],
    nodeMilliseconds: [],
    postgresMilliseconds: [],
  };
  const load = await HttpLoad.open(service.port, LOGIN_TENANTS);
  try {
    for (let round = 0; round <= rounds; round += 1) {
      // Without the pepper's version in front bcrypt reads it; its answer takes as long for any password.
      const bound = bareHashes(hash.slice(hash.indexOf("$")), MEMBER.password, seconds);
      const before = usedCpu(service, postmaster);
      const answered = await load.run(next, seconds);
      const after = usedCpu(service, postmaster);
      if (answered.statuses.get(200) !== answered.requests) {
        throw new Error(`Logins: ${JSON.stringify([...answered.statuses])}`);
      }
      // Threads and statements are there after the first.
      if (round === 0) continue;
      measured.bound.push(bound);
      measured.ours.push(answered.perSecond);
      const milliseconds = (ms: number) => ms / answered.requests;
      measured.nodeMilliseconds.push(milliseconds(after.node - before.node));
      measured.postgresMilliseconds.push(milliseconds(after.postgres - before.postgres));
    }
  } finally {
    load.close();
  }
  return measured;
}

/** Milliseconds from the process' start to the first 200, in turn. */
export interface MeasuredStarts {
  readonly ours: number[];
  readonly bound: number[];
}

export async function measureStarts(
  database: OpenDatabase,
  rounds: number,
): Promise<MeasuredStarts> {
  // As after a deployment: the database is there, and nobody migrates but `npm run migrate`.
  const settings = { ...PRODUCTION_SETTINGS, DATABASE_URL: database.url };
  const timed = async (start: () => Promise<MeasuredServer>) => {
    const startedAt = performance.now();
    const server = await start();
    const took = performance.now() - startedAt;
    await server.stop();
    return took;
  };
  const measured: MeasuredStarts = { ours: [], bound: [] };
  for (let round = 0; round < rounds; round += 1) {
    measured.bound.push(await timed(() => startBare(database.url)));
    measured.ours.push(await timed(() => startService(settings)));
  }
  return measured;
}
