import assert from "node:assert/strict";
import { Agent, type IncomingHttpHeaders, request as httpRequest } from "node:http";
import { vi } from "vitest";

/** What is sent, as a tenant's client sends it. */
export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly tenant: string;
  readonly token?: string;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  /** 0: the socket was closed, or could not be opened. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** What the JSON said; undefined where there was none. */
  readonly body: unknown;
}

/** A request from its sending on; its status is undefined while it is under way. */
interface Trip {
  status: number | undefined;
}

/** What was done to the service, and which requests were under way when it was. */
interface Strike {
  readonly name: string;
  readonly met: readonly Trip[];
}

/** What a service that cannot do its work just now may say. */
const CLEAN_CODES = new Set(["not_ready", "overloaded"]);

const EMPTY: Answer = { status: 0, headers: {}, body: undefined };

/**
 * Requests to services that faults are done to. Knows which are under way, and what they came to:
 * whatever is neither a success, nor a clean 503, nor a closed socket is kept as a flaw.
 */
export class Traffic {
  readonly #agent = new Agent({ keepAlive: true });
  readonly #underWay = new Set<Trip>();
  readonly #strikes: Strike[] = [];
  readonly #statuses = new Map<string, number>();
  /** Answers that no fault excuses. */
  readonly flaws: string[] = [];
  #longestMs = 0;

  get underWayCount(): number {
    return this.#underWay.size;
  }

  /** How many answers had this status; 0: how many requests had none. */
  count(status: number): number {
    return this.#statuses.get(String(status)) ?? 0;
  }

  /** Sends a request and gives what came of it; never rejects. */
  async send(url: string, call: Call): Promise<Answer> {
    const trip: Trip = { status: undefined };
    this.#underWay.add(trip);
    const startedAt = performance.now();
    const answer = await exchange(this.#agent, url, call).catch(() => EMPTY);
    this.#longestMs = Math.max(this.#longestMs, performance.now() - startedAt);
    this.#underWay.delete(trip);
    trip.status = answer.status;
    const name = String(answer.status);
    this.#statuses.set(name, (this.#statuses.get(name) ?? 0) + 1);
    if (!isSuccess(answer) && !isCleanRefusal(answer)) {
      this.flaws.push(
        `${call.method} ${call.path}: ${answer.status} ${JSON.stringify(answer.body)}`,
      );
    }
    return answer;
  }

  /** Does something to the service while at least one request is under way, and remembers which were. */
  async strike<T>(name: string, fault: () => T | Promise<T>): Promise<T> {
    await vi.waitUntil(() => this.#underWay.size > 0, { timeout: 10_000, interval: 1 });
    this.#strikes.push({ name, met: [...this.#underWay] });
    return fault();
  }

  /**
   * Says what was done and what it met, and fails where a fault met nothing: such a fault shows
   * nothing.
   */
  report(): void {
    const statuses = [...this.#statuses].map(([status, count]) => `${count} × ${nameOf(status)}`);
    const hits = this.#strikes.filter(({ met }) => met.length > 0);
    console.log(
      [
        `${hits.length} of ${this.#strikes.length} faults met requests under way; answers: ` +
          `${statuses.join(", ")}; the slowest took ${Math.round(this.#longestMs)} ms`,
        ...this.#strikes.map(({ name, met }) => `  ${name}: met ${met.length} (${outcomes(met)})`),
      ].join("\n"),
    );
    assert(this.#strikes.length > 0, "Nothing was done to the service");
    assert.equal(hits.length, this.#strikes.length, "A fault met no request under way");
  }

  close(): void {
    this.#agent.destroy();
  }
}

function nameOf(status: string): string {
  return status === "0" ? "no answer" : status;
}

function outcomes(trips: readonly Trip[]): string {
  const counts = new Map<string, number>();
  for (const { status } of trips) {
    const name = status === undefined ? "still under way" : nameOf(String(status));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => `${count} × ${name}`).join(", ");
}

function isSuccess({ status }: Answer): boolean {
  return status >= 200 && status < 300;
}

/** A closed socket, or a problem (RFC 9457) that says to come back. */
function isCleanRefusal({ status, headers, body }: Answer): boolean {
  if (status === 0) return true;
  const problem = body as { status?: unknown; code?: unknown; request_id?: unknown } | undefined;
  return (
    status === 503 &&
    Number(headers["retry-after"]) > 0 &&
    (headers["content-type"] ?? "").startsWith("application/problem+json") &&
    problem?.status === status &&
    CLEAN_CODES.has(String(problem.code)) &&
    typeof problem.request_id === "string"
  );
}

function exchange(
  agent: Agent,
  url: string,
  { method, path, tenant, token, body, headers }: Call,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      new URL(path, url),
      {
        agent,
        method,
        headers: {
          "x-tenant": tenant,
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => (text += chunk));
        response.on("error", reject);
        response.on("end", () => {
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: text === "" ? undefined : JSON.parse(text),
          });
        });
      },
    );
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
