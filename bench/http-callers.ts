import { z } from "zod";
import { getRequest, HttpLoad } from "./http-load.ts";
import { type ReadName, READS } from "./http-reads.ts";
import { MEMBER } from "./http-seed.ts";
import type { Draw } from "./load.ts";

/** Logins under way at once. */
const CONCURRENCY = 16;

const Answer = z.object({ tokens: z.object({ access: z.string() }) });

/** Logs a tenant's member in. @returns the access token */
export async function logInMember(port: number, tenant: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/api/auth/login/`, {
    method: "POST",
    headers: { "x-tenant": tenant, "content-type": "application/json" },
    body: JSON.stringify({ identifier: MEMBER.email, password: MEMBER.password }),
  });
  const body: unknown = await response.json();
  if (response.status !== 200) throw new Error(`A login answered ${JSON.stringify(body)}`);
  return Answer.parse(body).tokens.access;
}

/** A member of every tenant, logged in, and the requests they send. */
export class Callers {
  readonly #port: number;
  readonly #tokens: readonly string[];
  /** Made when they are first sent: of ten reads of thousands of tenants few are drawn in a short round. */
  readonly #requests = new Map<string, Buffer>();

  private constructor(port: number, tokens: readonly string[]) {
    this.#port = port;
    this.#tokens = tokens;
  }

  /** Logs the member of the tenants 1 to `count` in. */
  static async logIn(port: number, count: number): Promise<Callers> {
    const tokens = Array.from({ length: count }, () => "");
    let begun = 0;
    await Promise.all(
      Array.from({ length: CONCURRENCY }, async () => {
        while (begun < count) {
          const index = begun;
          begun += 1;
          tokens[index] = await logInMember(port, `tenant-${index + 1}`);
        }
      }),
    );
    return new Callers(port, tokens);
  }

  /** One read of one tenant, counted from 0, and its answer. */
  async ask(tenant: number, name: ReadName): Promise<{ status: number; body: string }> {
    const load = await HttpLoad.open(this.#port, 1);
    try {
      return await load.ask(this.#request(tenant, name));
    } finally {
      load.close();
    }
  }

  /** One read of tenants that are drawn. */
  one(name: ReadName, draw: Draw): () => Buffer {
    return () => this.#request(draw(), name);
  }

  /** Reads that are drawn, of tenants that are drawn. */
  mix(names: readonly ReadName[], draw: Draw): () => Buffer {
    return () => this.#request(draw(), drawn(names));
  }

  /** A read of each of the first tenants, several times over: prepared at the second. */
  *everyOne(names: readonly ReadName[], tenants: number, times: number): Generator<Buffer> {
    for (let time = 0; time < times; time += 1) {
      for (let tenant = 0; tenant < tenants; tenant += 1) {
        for (const name of names) yield this.#request(tenant, name);
      }
    }
  }

  /** The bound's read of one row. */
  boundRow(name: ReadName): () => Buffer {
    const request = getRequest(`/row/${name}/`);
    return () => request;
  }

  /** The bound's reads, drawn. */
  boundMix(names: readonly ReadName[]): () => Buffer {
    const requests = names.map((name) => getRequest(`/read/${name}/`));
    return () => drawn(requests);
  }

  #request(tenant: number, name: ReadName): Buffer {
    const key = `${tenant} ${name}`;
    let request = this.#requests.get(key);
    if (!request) {
      request = getRequest(READS[name].path, {
        "x-tenant": `tenant-${tenant + 1}`,
        authorization: `Bearer ${this.#tokens[tenant]}`,
      });
      this.#requests.set(key, request);
    }
    return request;
  }
}

function drawn<T>(items: readonly T[]): T {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new RangeError("There is nothing to draw from");
  return item;
}
