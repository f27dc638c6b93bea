import { Counter, Gauge, Registry } from "prom-client";
import type { FleetGroup } from "./tenants/fleet-status.ts";

/** What is asked at each reading how much it has to do. */
export interface Loads {
  /** Hashes under way and waiting. */
  readonly passwords: { readonly load: number };
  /** Transactions on their way and waiting, by shared connection. */
  readonly database: { lanes(): readonly { readonly load: number }[] };
}

/** What this process counts for monitors, in Prometheus' terms. One per process, so that tests do not share. */
export class Metrics {
  readonly registry = new Registry();

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

  /** Adds what is under way at the moment of a reading. Called once. */
  watchLoad({ passwords, database }: Loads): void {
    this.registry.registerMetric(
      new Gauge({
        name: "ouvira_password_hashes_pending",
        help: "Password hashes under way and waiting; past the queue's end logins answer 503.",
        registers: [],
        collect() {
          this.set(passwords.load);
        },
      }),
    );
    this.registry.registerMetric(
      new Gauge({
        name: "ouvira_database_lane_transactions_pending",
        help: "Transactions on their way and waiting on each connection that tenants share.",
        labelNames: ["lane"],
        registers: [],
        collect() {
          database.lanes().forEach(({ load }, lane) => this.set({ lane }, load));
        },
      }),
    );
  }

  /**
   * Adds how far the tenants' schemas are, asked of the registry at each reading. While that does not answer
   * the other figures are told all the same. Called once.
   */
  watchFleet(groups: () => Promise<readonly FleetGroup[]>): void {
    this.registry.registerMetric(
      new Gauge({
        name: "ouvira_tenants",
        help: "Tenants by the newest migration of their schema and the state of their migration.",
        labelNames: ["version", "state"],
        registers: [],
        async collect() {
          this.reset();
          try {
            for (const { version, state, tenants } of await groups()) {
              this.set({ version, state }, tenants);
            }
          } catch {
            // No sample says that it is not known.
          }
        },
      }),
    );
  }
}
