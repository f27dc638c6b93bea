import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, request as httpRequest } from "node:http";
import type { Config } from "../src/config.ts";
import type { OpenDatabase } from "../src/db/open-database.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { findPort } from "../test/ports.ts";

/** How the owner of every tenant logs in. */
export const OWNER = {
  email: "owner@corp.test",
  password: "correct horse battery staple",
} as const;

/** Requests under way at once while the fleet is migrated. */
const CONCURRENCY = 8;
/** One request in so many changes something. */
const WRITE_EVERY = 10;

export interface RunningApi {
  readonly port: number;
  stop(): Promise<void>;
}

/** The API as a process of its own. */
export async function startApi(config: Config, database: OpenDatabase): Promise<RunningApi> {
  const port = await findPort();
  const child: ChildProcess = spawn(process.execPath, ["--import", "tsx", "src/server.ts"], {
    cwd: ROOT_DIR,
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      PATH: process.env["PATH"] ?? "",
      APP_ENV: "local",
      DATA_DIR: config.dataDir,
      DATABASE_URL: database.url,
      DATABASE_MIGRATION_URL: database.migrationUrl,
      PORT: String(port),
      LOG_LEVEL: "silent",
      BCRYPT_COST: "4",
      RATE_LIMIT_LOGIN: "0",
      RATE_LIMIT_AUTHENTICATED: "0",
      RATE_LIMIT_ANONYMOUS: "0",
    },
  });
  for (;;) {
    if (child.exitCode !== null) throw new Error("The API ended");
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    if (answer?.ok) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    port,
    async stop() {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
    },
  };
}

export interface LoadReport {
  readonly requests: number;
  /** Tenants that answered. */
  readonly tenants: number;
  readonly errors: readonly string[];
  readonly longestMs: number;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Asks every tenant in turn, each as its owner. */
export class LoadClient {
  readonly #port: number;
  readonly #subdomains: readonly string[];
  readonly #tokens = new Map<string, string>();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  readonly #errors: string[] = [];
  #answered = new Set<string>();
  #requests = 0;
  #longestMs = 0;
  #next = 0;

  constructor(port: number, subdomains: readonly string[]) {
    this.#port = port;
    this.#subdomains = subdomains;
  }

  async logIn(): Promise<void> {
    const queue = [...this.#subdomains];
    await Promise.all(
      Array.from({ length: CONCURRENCY }, async () => {
        for (let subdomain = queue.pop(); subdomain; subdomain = queue.pop()) {
          const { status, body } = await this.#send("POST", "/api/auth/login/", subdomain, {
            identifier: OWNER.email,
            password: OWNER.password,
          });
          if (status !== 200) throw new Error(`Login at ${subdomain}: ${status} ${body}`);
          const { tokens } = JSON.parse(body) as { tokens: { access: string } };
          this.#tokens.set(subdomain, tokens.access);
        }
      }),
    );
  }

  async keepBusy(signal: AbortSignal): Promise<LoadReport> {
    const work = async () => {
      while (!signal.aborted) {
        const subdomain = this.#subdomains[this.#next % this.#subdomains.length] ?? "";
        this.#next += 1;
        await this.#ask(subdomain, this.#next % WRITE_EVERY === 0);
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    this.#agent.destroy();
    return {
      requests: this.#requests,
      tenants: this.#answered.size,
      errors: this.#errors,
      longestMs: this.#longestMs,
    };
  }

  /** Until each tenant has answered once more from now on. */
  async untilAllAnswered(): Promise<void> {
    this.#answered = new Set();
    while (this.#answered.size < this.#subdomains.length && this.#errors.length < 100) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #ask(subdomain: string, isWrite: boolean): Promise<void> {
    const startedAt = performance.now();
    const answer = await this.#send(
      isWrite ? "PATCH" : "GET",
      "/api/account/profile/",
      subdomain,
      isWrite ? { full_name: `Olive ${this.#next}` } : undefined,
    ).catch((error: unknown): Answer => ({ status: 0, body: String(error) }));
    this.#requests += 1;
    this.#longestMs = Math.max(this.#longestMs, performance.now() - startedAt);
    if (answer.status === 200) this.#answered.add(subdomain);
    else this.#errors.push(`${subdomain}: ${answer.status} ${answer.body.slice(0, 200)}`);
  }

  #send(method: string, url: string, subdomain: string, body?: object): Promise<Answer> {
    const token = this.#tokens.get(subdomain);
    return new Promise((resolve, reject) => {
      const sent = httpRequest(
        {
          agent: this.#agent,
          port: this.#port,
          host: "127.0.0.1",
          method,
          path: url,
          headers: {
            "x-tenant": subdomain,
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(body === undefined ? {} : { "content-type": "application/json" }),
          },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (chunk: string) => (text += chunk));
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
          response.on("error", reject);
        },
      );
      sent.on("error", reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
