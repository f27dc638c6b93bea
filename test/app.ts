import { randomBytes, randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FastifyInstance, InjectOptions } from "fastify";
import postgres from "postgres";
import { vi } from "vitest";
import type { z } from "zod";
import { buildApp } from "../src/app.ts";
import {
  FinalizeAnswer,
  LoggedInAnswer,
  type Tokens,
  type User,
  VerifyOtpAnswer,
} from "../src/auth/schemas.ts";
import { type Config, readConfig } from "../src/config.ts";
import { withAdmin } from "../src/db/admin.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { loadTenantMigrations } from "../src/db/tenant-migrations.ts";
import { makeLogger } from "../src/logger.ts";
import {
  closeServices,
  makeServices,
  openServices,
  type ServiceLog,
  type Services,
} from "../src/services.ts";
import type { TxtResolver } from "../src/tenants/domains.ts";
import * as provisioning from "../src/tenants/provisioning.ts";
import { adminUrl, createDatabase, type TestDatabase } from "./cluster.ts";

/** A password that every rule accepts. */
export const PASSWORD = "correct horse battery staple";

export interface TestAppOptions {
  /** The superuser's URL of a server of its own; default: that of the run. Not for replicas. */
  readonly serverUrl?: string;
  /** Instead of what APP_ENV=local reads from an empty environment. */
  readonly config?: Partial<Config>;
  /** False: a process without DATABASE_MIGRATION_URL in production. */
  readonly isPlatform?: boolean;
  /** Instead of the system's name servers. */
  readonly resolveTxt?: TxtResolver;
  /** Called with the app before it is ready: routes that only a test needs. */
  readonly prepare?: (app: FastifyInstance) => void | Promise<void>;
}

export interface TestTenant {
  readonly id: number;
  readonly subdomain: string;
  /** How its owner logs in, with {@link PASSWORD}. */
  readonly owner: { readonly email: string; readonly phone: string };
  /** The superuser, in this tenant's schema: to look at rows and to move their timestamps. */
  readonly sql: Sql;
}

/** postgres.js with int8 as numbers, as the product's own connections give them. */
export type Sql = postgres.Sql<{ bigint: number }>;

export interface TestResponse {
  readonly status: number;
  /** What the JSON said; undefined without a body. */
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
}

export interface CallOptions {
  /** Sent as a Bearer token. */
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Where the socket comes from. */
  readonly remoteAddress?: string;
}

/** Calls one app as one tenant. */
export interface Client {
  get(path: string, options?: CallOptions): Promise<TestResponse>;
  post(path: string, body?: object, options?: CallOptions): Promise<TestResponse>;
  put(path: string, body: object, options?: CallOptions): Promise<TestResponse>;
  patch(path: string, body: object, options?: CallOptions): Promise<TestResponse>;
  delete(path: string, options?: CallOptions): Promise<TestResponse>;
}

export interface SignedUpUser {
  readonly user: z.infer<typeof User>;
  readonly access: string;
  readonly refresh: string;
  readonly password: string;
}

/** One process of the service, on a database of its own or on that of another. */
export interface TestApp {
  readonly app: FastifyInstance;
  readonly services: Services;
  readonly config: Config;
  /** The registry, seen by the superuser. */
  readonly registry: Sql;
  /** How the superuser, who owns the tables here, logs in: for what commands do. */
  readonly ownerUrl: string;
  /** Every line of the log so far. What the console transports print is not there. */
  readonly logLines: readonly string[];
  createTenant(subdomain?: string): Promise<TestTenant>;
  client(tenant: TestTenant): Client;
  /** Walks the whole conversation: sign-up, code, proof, account. */
  signUp(tenant: TestTenant, email?: string): Promise<SignedUpUser>;
  /** Walks it up to the proof of the number. */
  verifyPhone(tenant: TestTenant, phone: string): Promise<string>;
  /** The next SMS to a number, waited for: each is given once, oldest first. */
  nextSms(phone: string): Promise<string>;
  /** The next e-mail to an address, waited for: each is given once, oldest first. */
  nextEmail(address: string): Promise<string>;
  /** Follows the link that a new user's address was sent. */
  verifyEmail(tenant: TestTenant, address: string): Promise<void>;
  /** Logs in with a password alone. */
  logIn(
    tenant: TestTenant,
    identifier: string,
    password?: string,
    options?: CallOptions,
  ): Promise<z.infer<typeof Tokens>>;
  /** Another process on the same database, closed with this one. */
  startReplica(options?: TestAppOptions): Promise<TestApp>;
  close(): Promise<void>;
}

/** What the processes on one database share. */
interface Ground {
  readonly database: TestDatabase;
  readonly apiUrl: string;
  readonly dataDir: string;
  readonly registry: Sql;
  readonly clients: postgres.Sql<{ bigint: number }>[];
  readonly messagesRead: Map<string, number>;
}

/** The service on a fresh database: `app.inject` instead of a port, with a login role of its own. */
export async function startTestApp(options: TestAppOptions = {}): Promise<TestApp> {
  const ground = await prepareGround(options.serverUrl ?? adminUrl);
  const replicas: TestApp[] = [];
  const removeGround = async () => {
    await Promise.all(ground.clients.map((client) => client.end()));
    await ground.database.drop();
    await rm(ground.dataDir, { recursive: true, force: true });
  };
  try {
    return await startProcess(ground, options, replicas, async () => {
      for (const replica of replicas) await replica.close();
      await removeGround();
    });
  } catch (error) {
    await removeGround();
    throw error;
  }
}

async function startProcess(
  ground: Ground,
  { config: overrides = {}, isPlatform = true, resolveTxt, prepare }: TestAppOptions,
  replicas: TestApp[],
  cleanUp: () => Promise<void>,
): Promise<TestApp> {
  const { apiUrl, dataDir, registry } = ground;
  const config: Config = {
    ...readConfig({ APP_ENV: "local", DATA_DIR: dataDir, DATABASE_URL: apiUrl }),
    bcryptCost: 4,
    databaseLanes: 2,
    // Tests send more of one tenant's at once than a service takes.
    tenantConcurrentRequests: 1_000,
    logLevel: "debug",
    ...overrides,
  };
  const logLines: string[] = [];
  const log = makeLogger(config, { write: (line) => void logLines.push(line) });
  const serviceLog: ServiceLog = {
    info: (details: object | string, message?: string) => {
      // A bare text is what the console transports print: what they would send, codes included.
      if (typeof details !== "string") log.info(details, message);
    },
    warn: (details, message) => log.warn(details, message),
  };
  const made = makeServices(
    config,
    apiUrl,
    serviceLog,
    isPlatform ? ground.database.url : undefined,
  );
  const services: Services = {
    ...made,
    platform: made.platform && { ...made.platform, ...(resolveTxt ? { resolveTxt } : {}) },
  };
  await openServices(services);
  let app: FastifyInstance;
  try {
    app = await buildApp(services, log, { checksAnswers: true });
    await prepare?.(app);
    await app.ready();
  } catch (error) {
    await closeServices(services);
    throw error;
  }
  // Caches are trusted from the first heartbeat on.
  await vi.waitFor(() => {
    if (!services.notifications.isAlive) throw new Error("The notifications are not alive");
  });

  const client = (tenant: TestTenant) => makeClient(app, tenant);
  const nextSms = (phone: string) => waitForMessage(ground, services, phone);
  const nextEmail = (address: string) => waitForMessage(ground, services, address);
  const verifyPhone = async (tenant: TestTenant, phone: string) => {
    await client(tenant).post("/api/auth/signup/", {
      full_name: "Ada Lovelace",
      primary_mobile: phone,
    });
    const otp = codeIn(await nextSms(phone));
    const { body } = await client(tenant).post("/api/auth/verify-otp/", {
      primary_mobile: phone,
      otp,
    });
    return VerifyOtpAnswer.parse(body).verification_token;
  };
  const self: TestApp = {
    app,
    services,
    config,
    registry,
    ownerUrl: ground.database.url,
    logLines,
    client,
    nextSms,
    nextEmail,
    async verifyEmail(tenant, address) {
      const token = tokenIn(await nextEmail(address));
      const { status } = await client(tenant).post("/api/account/email/verify/", { token });
      if (status !== 200) throw new Error(`The address was not verified: ${status}`);
    },
    async logIn(tenant, identifier, password = PASSWORD, options = {}) {
      const { body } = await client(tenant).post(
        "/api/auth/login/",
        { identifier, password },
        options,
      );
      return LoggedInAnswer.parse(body).tokens;
    },
    verifyPhone,
    createTenant: (subdomain = newSubdomain()) => createTenant(ground, services, subdomain),
    async signUp(tenant, email = newEmail()) {
      const phone = newPhone();
      const { body } = await client(tenant).post("/api/auth/finalize-signin/", {
        primary_mobile: phone,
        verification_token: await verifyPhone(tenant, phone),
        email,
        password: PASSWORD,
      });
      const { tokens, user } = FinalizeAnswer.parse(body);
      return { user, access: tokens.access, refresh: tokens.refresh, password: PASSWORD };
    },
    async startReplica(replicaOptions = {}) {
      const replica = await startProcess(ground, replicaOptions, [], () => Promise.resolve());
      replicas.push(replica);
      return replica;
    },
    async close() {
      await app.close();
      await closeServices(services);
      await cleanUp();
    },
  };
  return self;
}

async function prepareGround(serverUrl: string): Promise<Ground> {
  const database = await createDatabase(serverUrl);
  const url = new URL(database.url);
  // Roles are the server's: the API's is named after its database.
  url.username = `api_${database.name}`;
  url.password = randomBytes(12).toString("hex");
  const registry = superuser(database.url, "public");
  await withAdmin(serverUrl, async (admin) => {
    // The role of the registry has one name for the whole server: two databases must not make it at once.
    await admin.query`select pg_advisory_lock(hashtext('roles of a test database'))`;
    await migrateRegistry(database.url, url.href);
  });
  // So are the tenants' roles: ids of one database must not meet another's.
  await registry`
    select setval(pg_get_serial_sequence('public.tenants', 'id'), ${randomInt(2 ** 41, 2 ** 47)}::bigint)`;
  return {
    database,
    apiUrl: url.href,
    dataDir: await mkdtemp(join(tmpdir(), "ouvira-app-")),
    registry,
    clients: [registry],
    messagesRead: new Map(),
  };
}

async function createTenant(
  { database, apiUrl, clients }: Ground,
  { passwords }: Services,
  subdomain: string,
): Promise<TestTenant> {
  const owner = { email: `owner@${subdomain}.test`, phone: newPhone() };
  const passwordHash = await passwords.hash(PASSWORD);
  const migrations = await loadTenantMigrations();
  const created = await withAdmin(database.url, (admin) =>
    provisioning.createTenant(admin, migrations, new URL(apiUrl).username, {
      name: subdomain,
      subdomain,
      owner: { ...owner, fullName: "Olive Owner", passwordHash },
    }),
  );
  const sql = superuser(database.url, created.schema);
  clients.push(sql);
  return { id: created.id, subdomain, owner, sql };
}

function superuser(url: string, schema: string): Sql {
  return postgres(url, {
    max: 1,
    onnotice: () => undefined,
    connection: { search_path: schema },
    types: {
      bigint: { to: 20, from: [20], parse: Number, serialize: String },
    },
  });
}

function makeClient(app: FastifyInstance, tenant: TestTenant): Client {
  const call = async (
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body: object | undefined,
    { token, headers, remoteAddress }: CallOptions = {},
  ) => {
    const options: InjectOptions = {
      method,
      url: path,
      headers: {
        "x-tenant": tenant.subdomain,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
      ...(remoteAddress === undefined ? {} : { remoteAddress }),
    };
    const response = await app.inject(options);
    return {
      status: response.statusCode,
      body: response.body === "" ? undefined : response.json<unknown>(),
      headers: response.headers,
    };
  };
  return {
    get: (path, options) => call("GET", path, undefined, options),
    post: (path, body, options) => call("POST", path, body, options),
    put: (path, body, options) => call("PUT", path, body, options),
    patch: (path, body, options) => call("PATCH", path, body, options),
    delete: (path, options) => call("DELETE", path, undefined, options),
  };
}

async function waitForMessage(
  { messagesRead }: Ground,
  { outbox }: Services,
  address: string,
): Promise<string> {
  const read = messagesRead.get(address) ?? 0;
  const body = await vi.waitFor(
    async () => {
      const received = ((await outbox?.list()) ?? []).filter(({ to }) => to === address).reverse();
      const next = received[read];
      if (!next) throw new Error(`${address} got ${received.length} messages`);
      return next.body;
    },
    { timeout: 5_000, interval: 5 },
  );
  messagesRead.set(address, read + 1);
  return body;
}

/** The code in an SMS. */
export function codeIn(sms: string): string {
  const code = /\b\d{6}\b/.exec(sms)?.[0];
  if (code === undefined) throw new Error(`No code in: ${sms}`);
  return code;
}

/** The token of the link in a message. */
export function tokenIn(message: string): string {
  const token = /#token=([A-Za-z0-9_-]{43})(?![A-Za-z0-9_-])/.exec(message)?.[1];
  if (token === undefined) throw new Error(`No link in: ${message}`);
  return token;
}

/** A code that is not this one. */
export function wrongCode(code: string): string {
  return String((Number(code) + 1) % 1_000_000).padStart(6, "0");
}

let counter = randomInt(1_000_000);

/** A mobile number (E.164) that nothing in this file has used yet. */
export function newPhone(): string {
  counter += 1;
  return `+2010${String(counter).padStart(8, "0")}`;
}

export function newEmail(): string {
  counter += 1;
  return `ada${counter}@corp.test`;
}

export function newSubdomain(): string {
  return `acme-${randomBytes(5).toString("hex")}`;
}
