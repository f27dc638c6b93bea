/**
 * Runs one benchmark: `npm run bench -- tenant-query --quick`. Without a name it lists what there is.
 * Exit code 1 when a target is missed.
 */
interface Bench {
  readonly summary: string;
  readonly load: () => Promise<{ run: (args: readonly string[]) => Promise<boolean> }>;
}

const BENCHES: Readonly<Record<string, Bench>> = {
  "tenant-query": {
    summary:
      "what reaching a tenant's tables costs against one bare schema (docs/benchmarks/tenant-query.md)",
    load: () => import("./tenant-query.ts"),
  },
  "rate-limits": {
    summary:
      "what counting requests costs, in memory and in Redis (docs/benchmarks/rate-limits.md)",
    load: () => import("./rate-limits.ts"),
  },
  "message-discovery": {
    summary:
      "what finding queued messages over thousands of schemas costs (docs/benchmarks/message-discovery.md)",
    load: () => import("./message-discovery.ts"),
  },
  "log-pages": {
    summary:
      "whether a deep page of a log costs more than the first (docs/benchmarks/log-pages.md)",
    load: () => import("./log-pages.ts"),
  },
  fleet: {
    summary:
      "what creating and migrating 1,000 tenants costs, and what requests notice (docs/benchmarks/fleet.md)",
    load: () => import("./fleet.ts"),
  },
  growth: {
    summary: "what grows with tenants: catalogs, disk, memory (docs/benchmarks/growth.md)",
    load: () => import("./growth.ts"),
  },
  http: {
    summary:
      "what the service answers a second against a bare Fastify and postgres.js (docs/PERFORMANCE.md)",
    load: () => import("./http.ts"),
  },
  fairness: {
    summary:
      "what others notice of a loud tenant and of a flood of logins (docs/benchmarks/fairness.md)",
    load: () => import("./fairness.ts"),
  },
  sameness: {
    summary: "whether the time of an answer tells who has an account (docs/benchmarks/sameness.md)",
    load: () => import("./sameness.ts"),
  },
};

const [name, ...args] = process.argv.slice(2);
const bench = name === undefined ? undefined : BENCHES[name];
if (bench) {
  const { run } = await bench.load();
  if (!(await run(args))) process.exitCode = 1;
} else {
  if (name !== undefined) console.error(`There is no benchmark named ${name}.`);
  console.log("npm run bench -- <name> [options]\n");
  for (const [key, { summary }] of Object.entries(BENCHES)) console.log(`  ${key}  ${summary}`);
  if (name !== undefined) process.exitCode = 1;
}
