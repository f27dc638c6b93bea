import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startEmbeddedServer } from "../src/db/embedded-server.ts";
import { createBareSchema, createTenant } from "./fixture.ts";

/** What a benchmark fills the database with. */
export interface Fixture {
  /** What is there once. */
  prepare(admin: postgres.Sql, loginRole: string): Promise<void>;
  createTenant(admin: postgres.Sql, id: number, loginRole: string): Promise<void>;
}

/** Nine tables with rows in each tenant, and the schema `bare`. */
const FULL_FIXTURE: Fixture = { prepare: createBareSchema, createTenant };

/** A server with a database of `count` tenants, and the role the product logs in with. */
export interface SeededServer {
  /** Superuser, in the seeded database. */
  readonly adminUrl: string;
  /** The login role: no rights but those of the tenants it may become. */
  readonly url: string;
  readonly loginRole: string;
  /** Tenants 1 to `count` exist. */
  readonly count: number;
  /** Removes whatever was made, the server included when it was started here. */
  remove(): Promise<void>;
}

const LOGIN_ROLE = "bench_api";
const LOGIN_PASSWORD = "bench";
const DATABASE = "bench_tenants";

/** Ctrl-C and a polite kill leave nothing behind. */
const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Tenants made at once: the product's provisioning, too, is bound by the server's CPU. */
const SEEDERS = 2;

/**
 * Starts an embedded PostgreSQL in a folder of its own and makes `count` tenants there. With
 * BENCH_ADMIN_URL (a superuser's URL) it uses that server instead, which must have no tenants:
 * roles belong to the whole server.
 */
export async function seedServer(
  count: number,
  log: (line: string) => void,
  fixture: Fixture = FULL_FIXTURE,
): Promise<SeededServer> {
  const server = await openServer(log);
  const removals: (() => Promise<void>)[] = [server.remove];
  const remove = async () => {
    for (const signal of STOP_SIGNALS) process.off(signal, stop);
    for (const step of removals.toReversed()) await step();
  };
  const stop = () => {
    log("stopped: cleaning up");
    void remove().finally(() => process.exit(1));
  };
  for (const signal of STOP_SIGNALS) process.once(signal, stop);
  try {
    const maintenance = connectAdmin(server.adminUrl);
    try {
      const roles =
        await maintenance`select rolname from pg_roles where rolname ~ '^t_[0-9]+$' limit 1`;
      if (roles.length > 0)
        throw new Error("This server has tenants already (roles named t_1, …).");
      removals.push(() => dropAll(server.adminUrl, server.isOwn));
      await maintenance.unsafe(
        `create role ${LOGIN_ROLE} login noinherit password '${LOGIN_PASSWORD}'`,
      );
      await maintenance.unsafe(`create database ${DATABASE}`);
      // Writing through to the disk only slows the seeding down; it is on again for the rounds.
      if (server.isOwn) await setFsync(maintenance, "off");
      const adminUrl = withDatabase(server.adminUrl, DATABASE);
      await seed(adminUrl, count, fixture, log);
      if (server.isOwn) await setFsync(maintenance, "on");
      const url = new URL(adminUrl);
      url.username = LOGIN_ROLE;
      url.password = LOGIN_PASSWORD;
      return { adminUrl, url: url.href, loginRole: LOGIN_ROLE, count, remove };
    } finally {
      await maintenance.end();
    }
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A client of the superuser with one connection. */
export function connectAdmin(url: string): postgres.Sql {
  return postgres(url, { max: 1, fetch_types: false, onnotice: () => undefined });
}

async function openServer(
  log: (line: string) => void,
): Promise<{ adminUrl: string; isOwn: boolean; remove: () => Promise<void> }> {
  const given = process.env["BENCH_ADMIN_URL"];
  if (given) return { adminUrl: given, isOwn: false, remove: () => Promise.resolve() };
  const dataDir = await mkdtemp(join(tmpdir(), "ouvira-bench-"));
  // The server runs as another user when this is root; closed, it would put its files elsewhere.
  await chmod(dataDir, 0o755);
  const server = await startEmbeddedServer({ dataDir, port: 0, log });
  const remove = async () => {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { adminUrl: server.url, isOwn: true, remove };
}

async function seed(
  adminUrl: string,
  count: number,
  fixture: Fixture,
  log: (line: string) => void,
): Promise<void> {
  const startedAt = performance.now();
  const admin = connectAdmin(adminUrl);
  const seeders = Array.from({ length: SEEDERS }, () => connectAdmin(adminUrl));
  try {
    await fixture.prepare(admin, LOGIN_ROLE);
    let last = 0;
    await Promise.all(
      seeders.map(async (seeder) => {
        while (last < count) {
          last += 1;
          if (last % 1_000 === 0) log(`making tenant ${last}`);
          await fixture.createTenant(seeder, last, LOGIN_ROLE);
        }
      }),
    );
    await admin.unsafe("vacuum analyze");
    await admin.unsafe("checkpoint");
  } finally {
    await Promise.all([admin, ...seeders].map((client) => client.end()));
  }
  log(`${count} tenants made in ${Math.round((performance.now() - startedAt) / 1000)} s`);
}

async function setFsync(admin: postgres.Sql, value: "on" | "off"): Promise<void> {
  await admin.unsafe(`alter system set fsync = ${value}`);
  await admin`select pg_reload_conf()`;
}

/** Drops the database and, on a server that stays, the roles. */
async function dropAll(adminUrl: string, isOwn: boolean): Promise<void> {
  if (isOwn) return;
  const admin = connectAdmin(adminUrl);
  try {
    await admin.unsafe(`drop database if exists ${DATABASE} with (force)`);
    const roles = await admin<{ name: string }[]>`
      select rolname as name from pg_roles where rolname ~ '^t_[0-9]+$' or rolname = ${LOGIN_ROLE}`;
    for (const { name } of roles) await admin.unsafe(`drop role if exists ${name}`);
  } finally {
    await admin.end();
  }
}

function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}
