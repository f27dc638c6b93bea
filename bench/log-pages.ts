import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import postgres from "postgres";
import { buildApp } from "../src/app.ts";
import { activitySource, type ActivityFilter } from "../src/audit/activity-logs.ts";
import { pageStatement } from "../src/audit/log-pages.ts";
import { type Config, readConfig } from "../src/config.ts";
import { openDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { closeServices, makeServices } from "../src/services.ts";
import { ensureDemoTenant } from "../src/tenants/demo.ts";
import { NO_LIMITS } from "../test/limits.ts";
import { describeMachine } from "./machine.ts";
import { printTable, whole } from "./report.ts";

const HELP = `npm run bench -- log-pages [options]

  --entries N  entries of the log (default 1000000)
  --rounds N   rounds of every case (default 200)
  --quick      a small log and few rounds, to try it: the figures mean nothing
`;

/** How far the median of a deep page may be from that of the first one. */
const RATIO_MAX = 2;

const PAGE_SIZE = 20;
const PAGE = 5_000;
const PASSWORD = "correct horse battery staple";

/** A list, and the filter behind it. */
interface Case {
  readonly name: string;
  readonly query: string;
  readonly filter: ActivityFilter;
  readonly companies: readonly number[] | null;
  /** Who asks: the tenant's admin, or a member of five companies. */
  readonly token: "admin" | "member";
}

const COMPANIES = [1, 2, 3, 4, 5];

const CASES: readonly Case[] = [
  { name: "everything", query: "", filter: {}, companies: null, token: "admin" },
  { name: "of a company", query: "company=1", filter: {}, companies: [1], token: "admin" },
  { name: "of a user", query: "user=1", filter: { user: 1 }, companies: null, token: "admin" },
  {
    name: "of an entity",
    query: "entity_type=Company&entity_id=1",
    filter: { entityType: "Company", entityId: 1 },
    companies: null,
    token: "admin",
  },
  {
    name: "of an action",
    query: "action=DELETE",
    filter: { action: "DELETE" },
    companies: null,
    token: "admin",
  },
  {
    name: "of five companies, one without entries",
    query: "",
    filter: {},
    companies: COMPANIES,
    token: "member",
  },
];

/** Runs the benchmark of docs/benchmarks/log-pages.md. @returns whether every target was met */
export async function run(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      entries: { type: "string" },
      rounds: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return true;
  }
  const entries = Number(values.entries ?? (values.quick ? 20_000 : 1_000_000));
  const rounds = Number(values.rounds ?? (values.quick ? 5 : 200));
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
  await ensureDemoTenant(database, await loadTenantMigrations(), services.passwords, dataDir);
  const admin = postgres(database.migrationUrl, { max: 1, onnotice: () => undefined });
  const [tenant] = await admin<{ id: string }[]>`select id from public.tenants`;
  await admin`select set_config('search_path', ${`t_${tenant?.id}`}, false)`;
  console.error(`# writing ${whole(entries)} entries`);
  await seed(admin, await services.passwords.hash(PASSWORD), entries);
  await services.database.open();
  await services.notifications.open();
  const app = await buildApp(services, log);
  try {
    await app.ready();
    console.log(`Machine: ${await describeMachine(database.migrationUrl)}.`);
    console.log(`${whole(entries)} entries, ${rounds} rounds, pages of ${PAGE_SIZE}.`);
    return (await measure(app, admin, rounds)) || values.quick;
  } finally {
    await app.close();
    await closeServices(services);
    await admin.end();
    await database.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** Ten companies and fifty users; the first of each has a fifth of everything. */
async function seed(admin: postgres.Sql, passwordHash: string, entries: number): Promise<void> {
  await admin`update users set password_hash = ${passwordHash}, username = 'admin'`;
  await admin`
    insert into users (username, full_name, primary_mobile, password_hash)
    select 'user' || n, 'User', '+2010' || lpad(n::text, 8, '0'), ${passwordHash}
      from generate_series(1, 49) as n`;
  await admin`
    insert into companies (name, create_by) select 'Company ' || n, 1 from generate_series(1, 10) n`;
  await admin`
    insert into user_companies ("user", company)
    select id, n from users, generate_series(1, 5) as n where username = 'user1'`;
  await admin`
    insert into user_company_roles (user_company, role)
    select m.id, r.id from user_companies m, roles r where r.role = 'Admin'`;
  await admin`
    insert into activity_logs (
      user_id, user_display, company_id, entity_type, entity_id, action, old_values, new_values,
      ip_address, created_at
    )
    select
      case when n % 5 = 0 then 1 else 1 + n % 50 end, 'user' || n % 50 || '@corp.test',
      case when n % 5 = 1 then 1 else 1 + n % 10 end,
      case when n % 5 = 2 then 'Company' else 'Role' end,
      case when n % 5 = 2 then 1 else n % 1000 + 2 end,
      case when n % 5 = 3 then 'DELETE' else 'UPDATE' end,
      '{"name": "Acme"}', '{"name": "Acme Ltd"}', '203.0.113.7',
      now() - make_interval(secs => (${entries}::int - n) * 10)
    from generate_series(1, ${entries}::int) as n`;
  await admin`vacuum analyze`;
}

async function measure(
  app: FastifyInstance,
  admin: postgres.Sql,
  rounds: number,
): Promise<boolean> {
  const tokens = { admin: await logIn(app, "admin"), member: await logIn(app, "user1") };
  const rows: string[][] = [];
  const plans: string[] = [];
  let isMet = true;
  for (const one of CASES) {
    console.error(`# ${one.name}`);
    const { cursor, page } = await deepCursor(admin, one);
    const first = `/api/audit/activity-logs/?page_size=${PAGE_SIZE}&${one.query}`;
    const times: { first: number[]; deep: number[] } = { first: [], deep: [] };
    for (let round = 0; round < rounds; round += 1) {
      times.first.push(await timed(app, tokens[one.token], first));
      times.deep.push(await timed(app, tokens[one.token], `${first}&cursor=${cursor}`));
    }
    const [a, b] = [median(times.first), median(times.deep)];
    const ratio = b / a;
    if (Math.max(ratio, 1 / ratio) > RATIO_MAX) isMet = false;
    rows.push([one.name, a.toFixed(2), whole(page), b.toFixed(2), ratio.toFixed(2)]);
    plans.push(`${one.name}:\n\n${await explain(admin, one, cursor)}`);
  }
  printTable("The first page and a deep one", ["list", "page 1, ms", "page", "ms", "ratio"], rows);
  console.log("\n### How the deep pages are read\n");
  for (const plan of plans) console.log(`${plan}\n`);
  console.log(isMet ? "Every target was met." : `Missed: a ratio is past ${RATIO_MAX}.`);
  return isMet;
}

async function logIn(app: FastifyInstance, identifier: string): Promise<string> {
  const response = await app.inject({
    method: "POST",
    url: "/api/auth/login/",
    headers: { "x-tenant": "demo" },
    body: { identifier, password: PASSWORD },
  });
  const body: { tokens?: { access: string } } = response.json();
  if (!body.tokens) throw new Error(`${identifier} cannot log in: ${response.body}`);
  return body.tokens.access;
}

async function timed(app: FastifyInstance, token: string, url: string): Promise<number> {
  const startedAt = performance.now();
  const response = await app.inject({
    method: "GET",
    url,
    headers: { "x-tenant": "demo", authorization: `Bearer ${token}` },
  });
  const ms = performance.now() - startedAt;
  const body: { results?: unknown[] } = response.json();
  if (body.results?.length !== PAGE_SIZE) throw new Error(`${url}: ${response.body.slice(0, 300)}`);
  return ms;
}

/** Where page 5,000 begins, or the deepest page there is. */
async function deepCursor(
  admin: postgres.Sql,
  { filter, companies }: Case,
): Promise<{ cursor: string; page: number }> {
  const [found] = await admin<{ at: string; id: string; place: string }[]>`
    select (extract(epoch from created_at) * 1000000)::bigint as at, id, place
      from (
        select created_at, id, row_number() over (order by created_at desc, id desc) as place,
               count(*) over () as total
          from activity_logs
         where (${companies === null} or company_id = any(${[...(companies ?? [])]}::bigint[]))
           and (${filter.user ?? null}::bigint is null or user_id = ${filter.user ?? null})
           and (${filter.entityType ?? null}::text is null or entity_type = ${filter.entityType ?? null})
           and (${filter.entityId ?? null}::bigint is null or entity_id = ${filter.entityId ?? null})
           and (${filter.action ?? null}::text is null or action = ${filter.action ?? null})) as placed
     where place <= ${(PAGE - 1) * PAGE_SIZE}::int
       and place <= total - ${PAGE_SIZE}::int
     order by place desc
     limit 1`;
  if (!found) throw new Error("The log is too short");
  return {
    cursor: Buffer.from(`${found.at}.${found.id}`).toString("base64url"),
    page: Math.floor(Number(found.place) / PAGE_SIZE) + 1,
  };
}

async function explain(
  admin: postgres.Sql,
  { filter, companies }: Case,
  cursor: string,
): Promise<string> {
  const source = activitySource(filter, companies);
  const { text, values } = pageStatement(source, cursor, 0, PAGE_SIZE + 1);
  const lines = await admin.unsafe(`explain (costs off) ${text}`, [...values]);
  return lines.map((line) => `    ${String(line["QUERY PLAN"])}`).join("\n");
}

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;
}
