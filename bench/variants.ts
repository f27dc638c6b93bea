import net from "node:net";
import postgres from "postgres";
import { beginText } from "../src/db/connection.ts";
import { PreparedStatements } from "../src/db/prepared-statements.ts";
import { tenantSchema } from "../src/db/tenant-database.ts";
import type { Run } from "./fixture.ts";
import { openOurs, type Subject, type SubjectOptions } from "./subject.ts";

/** A way to do it that was tried beside the product's. */
export interface Variant {
  readonly name: string;
  open(): Promise<Subject>;
}

/** What was tried: in each, one thing differs from `options`, which are the product's. */
export function variantsOf(options: SubjectOptions): readonly Variant[] {
  const { url, lanes } = options;
  return [
    { name: "as it is", open: () => openOurs(options) },
    { name: "never prepared", open: () => withNext(options, () => undefined) },
    {
      name: "prepared at first sight",
      open: () => withNext(options, (next, tag, text) => next(tag, text) ?? next(tag, text)),
    },
    ...[500, 1_000, 2_000, 10_000]
      .filter((preparedMax) => preparedMax !== options.preparedMax)
      .map((preparedMax) => ({
        name: `at most ${preparedMax} prepared a lane`,
        open: () => openOurs({ ...options, preparedMax }),
      })),
    {
      name: "plan_cache_mode = auto",
      open: () => openOurs({ ...options, url: withParameter(url, "plan_cache_mode", "auto") }),
    },
    ...[1, 2, 4, 8, 10]
      .filter((count) => count !== lanes)
      .map((count) => ({
        name: `${count} ${count === 1 ? "lane" : "lanes"}, as many prepared in all`,
        open: () =>
          openOurs({
            ...options,
            lanes: count,
            preparedMax: Math.ceil((options.preparedMax * lanes) / count),
          }),
      })),
    { name: "types asked for first", open: () => openDescribing(options) },
    { name: "noDelay off", open: () => openDelaying(options) },
  ];
}

type Next = PreparedStatements["next"];

/** The product's lanes with another choice of what to prepare, while this subject is open. */
async function withNext(
  options: SubjectOptions,
  choose: (next: Next, tag: string, text: string) => ReturnType<Next>,
): Promise<Subject> {
  // Called below with its own `this`.
  // oxlint-disable-next-line typescript/unbound-method
  const original = PreparedStatements.prototype.next;
  PreparedStatements.prototype.next = function (this: PreparedStatements, tag, text) {
    return choose((...args) => original.apply(this, args), tag, text);
  };
  const subject = await openOurs(options);
  return {
    ...subject,
    async close() {
      await subject.close();
      PreparedStatements.prototype.next = original;
    },
  };
}

/** The product's lanes on sockets with Nagle's algorithm. */
async function openDelaying(options: SubjectOptions): Promise<Subject> {
  const original = net.connect;
  const connect = (target: net.NetConnectOpts) => original({ ...target, noDelay: false });
  Object.assign(net, { connect });
  const subject = await openOurs(options);
  return {
    ...subject,
    async close() {
      await subject.close();
      Object.assign(net, { connect: original });
    },
  };
}

/**
 * Transactions as the driver sends them when values are handed to `unsafe`: it asks the server for
 * their types before it binds them, and sends nothing else meanwhile.
 */
async function openDescribing({ url, lanes, preparedMax }: SubjectOptions): Promise<Subject> {
  const all = await Promise.all(
    Array.from({ length: lanes }, async () => {
      const client = postgres(url, {
        max: 1,
        max_lifetime: null,
        fetch_types: false,
        types: { bigint: { to: 20, from: [20], serialize: String, parse: Number } },
        connection: { search_path: "", plan_cache_mode: "force_generic_plan", jit: "off" },
      } as postgres.Options<Record<string, postgres.PostgresType>>);
      const [row] = await client<{ pid: number }[]>`select pg_backend_pid() as pid`;
      return {
        client,
        pid: row?.pid,
        prepared: new PreparedStatements(preparedMax),
        // What the driver calls them.
        names: new Map<string, string>(),
      };
    }),
  );
  return {
    runOf(tenant): Run {
      const schema = tenantSchema(tenant);
      return async (strings, ...values) => {
        const lane = all[tenant % lanes];
        if (!lane) throw new RangeError("No lane");
        const text = strings.reduce((before, piece, index) => `${before}$${index}${piece}`);
        const use = lane.prepared.next(schema, text);
        // The name makes it a text of its own to the driver when it was given up before.
        const statement = `/*${schema} ${use?.name ?? ""}*/ ${text}`;
        const [, rows] = await Promise.all([
          lane.client.unsafe(beginText({ role: schema, schema })),
          lane.client.unsafe(statement, values, { prepare: use !== undefined }),
          lane.client.unsafe("commit"),
        ]);
        if (use) lane.names.set(use.name, rows.statement.name);
        const surplus = lane.prepared.takeSurplus(64);
        if (surplus.length > 0) {
          const names = surplus.map((name) => lane.names.get(name)).filter(Boolean);
          await lane.client.unsafe(names.map((name) => `deallocate "${name}"`).join("; "));
        }
        return rows;
      };
    },
    backends: () => all.map(({ pid, prepared }) => ({ pid, prepared: prepared.size })),
    async close() {
      await Promise.all(all.map(({ client }) => client.end()));
    },
  };
}

/** postgres.js sends parameters of the URL to the server, in place of those of its options. */
function withParameter(url: string, name: string, value: string): string {
  const changed = new URL(url);
  changed.searchParams.set(name, value);
  return changed.href;
}
