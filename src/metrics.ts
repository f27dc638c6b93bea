import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { BusiestTenants } from "./busiest-tenants.ts";
import type { FleetGroup } from "./tenants/fleet-status.ts";

/** What is asked at each reading how much it has to do, and how it is. */
export interface Loads {
  /** Hashes under way and waiting. */
  readonly passwords: { readonly load: number };
  readonly database: {
    /** Transactions on their way and waiting, what is kept prepared, and tenants served, by shared connection. */
    lanes(): readonly {
      readonly load: number;
      readonly prepared: number;
      readonly tenants: number;
    }[];
    /** Transactions that have a connection of their own or wait for one. */
    readonly transactionLoad: number;
  };
  readonly notifications: { readonly isAlive: boolean };
  /** Answers of the database remembered in this process, by what they are. */
  readonly caches: Readonly<Record<string, CacheUse>>;
}

interface CacheUse {
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
}

/** What an answered request is counted under. */
export interface CountedRequest {
  readonly method: string;
  /** The route's path as it was declared; `none` where there is none. */
  readonly route: string;
  readonly status: number;
  /** The tenant's subdomain; undefined for a request of no tenant. */
  readonly tenant: string | undefined;
}

/** What this process counts for monitors, in Prometheus' terms. One per process, so that tests do not share. */
export class Metrics {
  readonly registry = new Registry();
  readonly #busiestTenants = new BusiestTenants();

  readonly #requests = new Histogram({
    name: "ouvira_http_request_duration_seconds",
    help: "Time from a request's arrival to the end of its answer, by route and status.",
    labelNames: ["method", "route", "status"],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [this.registry],
  });

  readonly slowStatements = new Counter({
    name: "ouvira_slow_statements_total",
    help: "Statements of tenants that took longer than SLOW_QUERY_MS.",
    registers: [this.registry],
  });

  readonly shedRequests = new Counter({
    name: "ouvira_shed_requests_total",
    help: "Requests answered 503 before anything was done: process (its event loop lags), tenant (too many at once).",
    labelNames: ["because"],
    registers: [this.registry],
  });

  readonly rateLimitRejections = new Counter({
    name: "ouvira_rate_limit_rejections_total",
    help: "Requests answered 429, by the scope whose limit they met.",
    labelNames: ["scope"],
    registers: [this.registry],
  });

  readonly rateLimitFallbacks = new Counter({
    name: "ouvira_rate_limit_fallbacks_total",
    help: "Limits counted by this process alone because Redis did not answer.",
    registers: [this.registry],
  });

  readonly messages = new Counter({
    name: "ouvira_messages_total",
    help: "E-mails and SMS by what became of a try to send them: sent, retried, given_up, expired, suppressed (of a tenant that sends none).",
    labelNames: ["channel", "outcome"],
    registers: [this.registry],
  });

  constructor() {
    this.#watch(
      "ouvira_busiest_tenants_requests",
      "Requests of the tenants that had the most of them in the last full minute, twenty at most.",
      ["tenant"],
      (gauge) => {
        gauge.reset();
        for (const { tenant, requests } of this.#busiestTenants.read()) {
          gauge.set({ tenant }, requests);
        }
      },
    );
  }

  /** Adds what Node and the process say of themselves. Called once, in a process that is the service's own. */
  watchProcess(): void {
    collectDefaultMetrics({ register: this.registry });
  }

  countRequest({ method, route, status, tenant }: CountedRequest, milliseconds: number): void {
    this.#requests.observe({ method, route, status }, milliseconds / 1_000);
    if (tenant !== undefined) this.#busiestTenants.count(tenant);
  }

  /** Adds what is under way at the moment of a reading. Called once. */
  watchLoad({ passwords, database, notifications, caches }: Loads): void {
    this.#watch(
      "ouvira_password_hashes_pending",
      "Password hashes under way and waiting; past the queue's end logins answer 503.",
      [],
      (gauge) => gauge.set(passwords.load),
    );
    this.#watch(
      "ouvira_database_transactions_pending",
      "Transactions that have a connection of their own or wait for one.",
      [],
      (gauge) => gauge.set(database.transactionLoad),
    );
    this.#watch(
      "ouvira_notifications_alive",
      "1 while changes made elsewhere are heard of; 0: every request asks the database.",
      [],
      (gauge) => gauge.set(Number(notifications.isAlive)),
    );
    const perLane = (name: string, help: string, key: "load" | "prepared" | "tenants") =>
      this.#watch(name, help, ["lane"], (gauge) =>
        database.lanes().forEach((use, lane) => gauge.set({ lane }, use[key])),
      );
    perLane(
      "ouvira_database_lane_transactions_pending",
      "Transactions on their way and waiting on each connection that tenants share.",
      "load",
    );
    perLane(
      "ouvira_database_lane_statements_prepared",
      "Statements kept prepared on each connection that tenants share.",
      "prepared",
    );
    perLane(
      "ouvira_database_lane_tenants",
      "Tenants that each shared connection has served since it was opened: the server keeps what it knows of them.",
      "tenants",
    );
    const perCache = (name: string, help: string, key: keyof CacheUse) =>
      this.#watch(name, help, ["cache"], (gauge) =>
        Object.entries(caches).forEach(([cache, use]) => gauge.set({ cache }, use[key])),
      );
    perCache("ouvira_cache_entries", "Answers of the database remembered.", "size");
    perCache("ouvira_cache_hits", "Questions answered from memory.", "hits");
    perCache("ouvira_cache_misses", "Questions put to the database.", "misses");
  }

  /**
   * Adds how far the tenants' schemas are, asked of the registry at each reading. While that does not answer
   * the other figures are told all the same. Called once.
   */
  watchFleet(groups: () => Promise<readonly FleetGroup[]>): void {
    this.#watch(
      "ouvira_tenants",
      "Tenants by the newest migration of their schema and the state of their migration.",
      ["version", "state"],
      async (gauge) => {
        gauge.reset();
        try {
          for (const { version, state, tenants } of await groups()) {
            gauge.set({ version, state }, tenants);
          }
        } catch {
          // No sample says that it is not known.
        }
      },
    );
  }

  /** Adds a figure that is looked up at each reading. */
  #watch<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    read: (gauge: Gauge<Label>) => void | Promise<void>,
  ): void {
    this.registry.registerMetric(
      new Gauge({
        name,
        help,
        labelNames,
        registers: [],
        collect() {
          return read(this);
        },
      }),
    );
  }
}
