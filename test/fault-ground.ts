import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { z } from "zod";
import { LoggedInAnswer, type Tokens } from "../src/auth/schemas.ts";
import { PASSWORD } from "./app.ts";
import { createRegistry, type TestRegistry } from "./registry.ts";
import { type ServerOptions, type ServerProcess, startServer } from "./server-process.ts";

/** A tenant that is asked all the while, as its owner. */
export interface LoadTenant {
  readonly subdomain: string;
  readonly schema: string;
  readonly email: string;
  /** Stands in the name of everything that is made for it, and in nobody else's. */
  readonly mark: string;
  readonly token: string;
}

/** What processes of the service that faults are done to have in common. */
export interface FaultGround {
  readonly registry: TestRegistry;
  /** Starts the service on it. */
  startService(
    settings?: Readonly<Record<string, string>>,
    options?: ServerOptions,
  ): Promise<ServerProcess>;
  /** Makes a tenant whose owner is logged in. */
  createTenant(server: ServerProcess): Promise<LoadTenant>;
  /** Ends the processes that still run and removes everything. */
  close(): Promise<void>;
}

const NO_LIMITS = Object.fromEntries(
  ["ANONYMOUS", "AUTHENTICATED", "LOGIN", "OTP_SEND", "OTP_VERIFY", "FINALIZE", "REFRESH"].map(
    (scope) => [`RATE_LIMIT_${scope}`, "0"],
  ),
);

/** @param serverUrl the superuser's, of a server of its own; default: that of the run */
export async function createFaultGround(serverUrl?: string): Promise<FaultGround> {
  const registry = await createRegistry(serverUrl);
  const dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-faults-"));
  const servers: ServerProcess[] = [];
  let tenants = 0;
  return {
    registry,
    async startService(settings = {}, options = {}) {
      const server = await startServer(
        {
          ...registry.environment(dataDir),
          ...NO_LIMITS,
          BCRYPT_COST: "4",
          DATABASE_LANES: "2",
          ...settings,
        },
        options,
      );
      servers.push(server);
      return server;
    },
    async createTenant(server) {
      tenants += 1;
      const mark = `mark-${tenants}-of-its-own`;
      const { subdomain, schema, passwordToken } = await registry.createTenant(mark);
      await post(server, subdomain, "/api/auth/password/reset/", {
        token: passwordToken,
        password: PASSWORD,
      });
      const email = `ada@${subdomain}.test`;
      return {
        subdomain,
        schema,
        email,
        mark,
        token: (await logIn(server, subdomain, email)).access,
      };
    },
    async close() {
      await Promise.all(servers.map((server) => server.stop()));
      await registry.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Logs in with {@link PASSWORD}. */
export async function logIn(
  server: ServerProcess,
  tenant: string,
  identifier: string,
): Promise<z.infer<typeof Tokens>> {
  const answer = await post(server, tenant, "/api/auth/login/", { identifier, password: PASSWORD });
  return LoggedInAnswer.parse(answer).tokens;
}

const Problem = z.object({ code: z.string() });

/** A call that must succeed. */
async function post(
  { url }: ServerProcess,
  tenant: string,
  route: string,
  body: object,
): Promise<unknown> {
  const response = await fetch(`${url}${route}`, {
    method: "POST",
    headers: { "x-tenant": tenant, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer: unknown = await response.json();
  if (!response.ok) throw new Error(`${route}: ${Problem.parse(answer).code}`);
  return answer;
}
