import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { vi } from "vitest";
import { z } from "zod";
import type { LoadTenant } from "./fault-ground.ts";
import { type Answer, Traffic } from "./fault-traffic.ts";
import type { TestRegistry } from "./registry.ts";

/** Requests under way at once: enough that each fault meets some, few enough that 2 cores answer them. */
const WORKERS = 6;

/** Before a worker that got nothing tries again: a service that is away is not asked in a tight loop. */
const PAUSE_AFTER_FAILURE_MS = 5;

/** So soon after a fault is over each tenant is answered again, by itself. */
const ANSWERS_AGAIN_WITHIN_MS = 5_000;

const CompanyAnswer = z.object({ id: z.int(), name: z.string() });
const CompaniesAnswer = z.object({ results: z.array(CompanyAnswer) });

/** A write, and what is known of it. */
interface Write {
  readonly tenant: LoadTenant;
  readonly name: string;
  isAcknowledged: boolean;
}

/** A process that is asked. */
interface Target {
  readonly url: string;
}

/**
 * A steady load of reads and writes over several tenants: companies are made, listed and read again.
 * Everything of a tenant has its mark in its name, and ids are the same in all tenants, so an answer
 * with somebody else's row shows itself.
 */
export class FaultLoad {
  readonly traffic = new Traffic();
  /** In every name, so that loads that follow one another are told apart. */
  readonly #tag = randomBytes(4).toString("hex");
  readonly #targets: () => readonly Target[];
  readonly #tenants: readonly LoadTenant[];
  readonly #writes: Write[] = [];
  readonly #known = new Map<LoadTenant, number[]>();
  readonly #leaks: string[] = [];
  /** When the last request was sent that succeeded: by tenant, reads and writes apart. */
  readonly #succeededAt = new Map<string, number>();
  #isEnding = false;
  #turn = 0;

  /** @param targets the processes to ask, in turn; asked for at each request */
  constructor(targets: () => readonly Target[], tenants: readonly LoadTenant[]) {
    this.#targets = targets;
    this.#tenants = tenants;
  }

  /** Keeps the load up, from when every tenant has been answered, until `faults` has been done. */
  async during(faults: () => Promise<void>): Promise<void> {
    const workers = Array.from({ length: WORKERS }, () => this.#work());
    try {
      await this.untilAnswering();
      await faults();
    } finally {
      this.#isEnding = true;
      await Promise.all(workers);
      this.traffic.close();
    }
  }

  /** How many writes were answered with 201 so far. */
  get acknowledgedCount(): number {
    return this.#writes.filter(({ isAcknowledged }) => isAcknowledged).length;
  }

  /** Waits for so many more acknowledged writes: a fault is to hit a service that is at work. */
  async untilWritten(count = 30): Promise<void> {
    const before = this.acknowledgedCount;
    await vi.waitUntil(() => this.acknowledgedCount - before >= count, {
      timeout: 20_000,
      interval: 5,
    });
  }

  /** Waits until every tenant has read and written something that was asked for from now on. */
  async untilAnswering(): Promise<number> {
    const since = performance.now();
    const kinds = this.#tenants.flatMap(({ mark }) => [`read ${mark}`, `write ${mark}`]);
    await vi.waitFor(
      () => {
        const missing = kinds.filter((kind) => (this.#succeededAt.get(kind) ?? 0) < since);
        assert.deepEqual(missing, [], "Not answered again");
      },
      { timeout: ANSWERS_AGAIN_WITHIN_MS, interval: 10 },
    );
    return performance.now() - since;
  }

  /**
   * Reports, and compares what was answered with what is in the database: every acknowledged write is
   * there, none twice, each with one entry in the log, and nothing of anybody else's.
   *
   * @returns the writes that were not acknowledged and are there all the same
   */
  async verify({ sql }: TestRegistry): Promise<number> {
    this.traffic.report();
    let unknownCount = 0;
    for (const tenant of this.#tenants) {
      const rows = await sql<{ name: string; rows: number; entries: number }[]>`
        select c.name, count(distinct c.id) as rows, count(l.id) as entries
          from ${sql(tenant.schema)}.companies c
          left join ${sql(tenant.schema)}.activity_logs l
            on l.entity_type = 'Company' and l.action = 'CREATE' and l.entity_id = c.id
         where c.name like ${`%${this.#tag}%`}
         group by c.name`;
      const writes = this.#writes.filter((write) => write.tenant === tenant);
      const stored = new Set(rows.map(({ name }) => name));
      const attempted = new Set(writes.map(({ name }) => name));
      const acknowledged = writes.filter(({ isAcknowledged }) => isAcknowledged);

      const lost = acknowledged.filter(({ name }) => !stored.has(name));
      const repeated = rows.filter((row) => row.rows !== 1 || row.entries !== 1);
      const foreign = [...stored].filter((name) => !attempted.has(name));
      assert(acknowledged.length > 0, "Nothing was acknowledged");
      assert.deepEqual({ lost, repeated, foreign }, { lost: [], repeated: [], foreign: [] });
      unknownCount += rows.length - acknowledged.length;
    }
    assert.deepEqual(this.#leaks, []);
    // A write that was made twice would have been refused as a conflict the second time.
    assert.deepEqual(this.traffic.flaws, []);
    console.log(
      `  ${this.acknowledgedCount} writes acknowledged and there once, ${unknownCount} there without an answer`,
    );
    return unknownCount;
  }

  async #work(): Promise<void> {
    while (!this.#isEnding) {
      this.#turn += 1;
      const turn = this.#turn;
      const targets = this.#targets();
      const target = targets[turn % targets.length];
      const tenant = this.#tenants[turn % this.#tenants.length];
      if (!target || !tenant) throw new Error("There is nobody to ask");
      const kind = Math.floor(turn / this.#tenants.length) % 3;
      const isDone = await this.#ask(target, tenant, kind, turn);
      if (!isDone) await sleep(PAUSE_AFTER_FAILURE_MS);
    }
  }

  /** @returns whether it was answered with a success */
  async #ask({ url }: Target, tenant: LoadTenant, kind: number, turn: number): Promise<boolean> {
    const sentAt = performance.now();
    const { mark, subdomain, token } = tenant;
    const known = this.#known.get(tenant) ?? [];
    const id = known[turn % Math.max(known.length, 1)];
    const get = (path: string) =>
      this.traffic.send(url, { method: "GET", path, tenant: subdomain, token });
    let answer: Answer;
    if (kind === 0) answer = await this.#write(url, tenant, turn);
    else if (kind === 1 && id !== undefined) {
      answer = await get(`/api/company/${id}/`);
      if (answer.status === 200) this.#checkMark(tenant, [CompanyAnswer.parse(answer.body)]);
    } else {
      answer = await get("/api/company/?ordering=-created_at");
      if (answer.status === 200)
        this.#checkMark(tenant, CompaniesAnswer.parse(answer.body).results);
    }
    const isDone = answer.status >= 200 && answer.status < 300;
    if (isDone) this.#succeededAt.set(`${kind === 0 ? "write" : "read"} ${mark}`, sentAt);
    return isDone;
  }

  async #write(url: string, tenant: LoadTenant, turn: number): Promise<Answer> {
    const { mark, subdomain, token } = tenant;
    const write: Write = { tenant, name: `${mark} ${this.#tag} ${turn}`, isAcknowledged: false };
    this.#writes.push(write);
    const answer = await this.traffic.send(url, {
      method: "POST",
      path: "/api/company/",
      tenant: subdomain,
      token,
      body: { name: write.name },
    });
    if (answer.status === 201) {
      write.isAcknowledged = true;
      const company = CompanyAnswer.parse(answer.body);
      this.#checkMark(tenant, [company]);
      const known = this.#known.get(tenant);
      if (known) known.push(company.id);
      else this.#known.set(tenant, [company.id]);
    }
    return answer;
  }

  #checkMark({ mark }: LoadTenant, companies: readonly { name: string }[]): void {
    for (const { name } of companies) {
      if (!name.startsWith(`${mark} `)) this.#leaks.push(`${mark} was answered ${name}`);
    }
  }
}
