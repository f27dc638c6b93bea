import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { ROOT_DIR } from "../src/paths.ts";
import {
  CONCURRENCY,
  type MeasuredLogins,
  type MeasuredRead,
  type MeasuredStarts,
} from "./http-measure.ts";
import { ratio, spread } from "./load.ts";
import { latencyText, ratioText, tableOf, whole } from "./report.ts";

/** What a run has measured: the parts that were asked for. */
export interface Figures {
  readonly machine: string;
  readonly sizes: readonly number[];
  readonly timing: { readonly rounds: number; readonly seconds: number };
  readonly lanes: number;
  reads?: MeasuredRead[];
  memory?: { readonly serviceMegabytes: number; readonly backendMegabytes: number };
  logins?: MeasuredLogins;
  starts?: MeasuredStarts;
}

/** Least share of the bound, most megabytes, most times the bound. */
const TARGETS = {
  getProfile: 0.6,
  listCompanies: 0.45,
  getMyPermissions: 0.45,
  mix: 0.4,
  serviceMegabytes: 250,
  backendMegabytes: 200,
  logins: 0.9,
  starts: 2,
} as const;

const LABELS: Readonly<Record<string, string>> = {
  getProfile: "own profile",
  listCompanies: "20 companies",
  getMyPermissions: "own permissions in a company",
  mix: "mix of ten reads",
};

interface Judgement {
  readonly name: string;
  readonly figure: string;
  readonly target: string;
  readonly isMet: boolean;
}

/** Every target that the run has something to say about. */
export function judge({ reads = [], memory, logins, starts }: Figures): Judgement[] {
  const least = (name: string, share: ReturnType<typeof ratio>, target: number) => ({
    name,
    figure: ratioText(share),
    target: `≥ ${target.toFixed(2)}`,
    isMet: share.median >= target,
  });
  const most = (name: string, figure: number, target: number, unit: string) => ({
    name,
    figure: `${unit === "×" ? figure.toFixed(2) : whole(figure)} ${unit}`,
    target: `≤ ${target} ${unit}`,
    isMet: figure <= target,
  });
  return [
    ...reads.map((read) =>
      least(
        labelOf(read),
        ratio(read.ours.perSecond, read.bound.perSecond),
        TARGETS[read.name as "mix"],
      ),
    ),
    ...(memory
      ? [
          most("memory of the service", memory.serviceMegabytes, TARGETS.serviceMegabytes, "MB"),
          most("greatest backend", memory.backendMegabytes, TARGETS.backendMegabytes, "MB"),
        ]
      : []),
    ...(logins
      ? [least("logins, of bare bcrypt", ratio(logins.ours, logins.bound), TARGETS.logins)]
      : []),
    ...(starts
      ? [
          most(
            "start to the first 200, of the bare server's",
            ratio(starts.ours, starts.bound).median,
            TARGETS.starts,
            "×",
          ),
        ]
      : []),
  ];
}

/** Prints the tables, and gives them as Markdown. */
export function printReport(figures: Figures): string {
  const { machine, sizes, timing, lanes, reads, logins, starts } = figures;
  const parts = [
    `${machine}, ${new Date().toISOString().slice(0, 10)}. ${whole(Math.max(...sizes))} tenants, ` +
      `${CONCURRENCY} requests at once, ${lanes} lanes, ${timing.rounds} rounds of ${timing.seconds} s ` +
      `in turn after one that is not counted; medians.`,
    tableOf(
      "Targets",
      ["", "measured (least–greatest round)", "target", ""],
      judge(figures).map(({ name, figure, target, isMet }) => [
        name,
        figure,
        target,
        isMet ? "met" : "missed",
      ]),
    ),
  ];
  if (reads) {
    parts.push(
      tableOf(
        "Reads",
        [
          "",
          "requests/s",
          "bound/s",
          "node µs",
          "bound",
          "PostgreSQL µs",
          "bound",
          "p50 / p99 ms",
          "bound",
        ],
        reads.map((read) => {
          const { ours, bound } = read;
          return [
            labelOf(read),
            whole(spread(ours.perSecond).median),
            whole(spread(bound.perSecond).median),
            whole(spread(ours.nodeMicroseconds).median),
            whole(spread(bound.nodeMicroseconds).median),
            whole(spread(ours.postgresMicroseconds).median),
            whole(spread(bound.postgresMicroseconds).median),
            latencyText(ours.latency),
            latencyText(bound.latency),
          ];
        }),
      ),
    );
  }
  if (logins) {
    parts.push(
      `Logins at bcrypt's cost ${logins.cost}: ${spread(logins.ours).median.toFixed(1)} a second, bare bcrypt ` +
        `${spread(logins.bound).median.toFixed(1)}. CPU of a login: ` +
        `${spread(logins.nodeMilliseconds).median.toFixed(1)} ms of node, its hash included, and ` +
        `${spread(logins.postgresMilliseconds).median.toFixed(1)} ms of PostgreSQL; a bare hash takes ` +
        `${(2_000 / spread(logins.bound).median).toFixed(1)} ms.`,
    );
  }
  if (starts) {
    parts.push(
      `From the start of the process to the first 200: ${whole(spread(starts.ours).median)} ms, the bare server ` +
        `${whole(spread(starts.bound).median)} ms.`,
    );
  }
  const report = parts.join("\n\n");
  console.log(report);
  return report;
}

function labelOf({ name, tenants, draw }: MeasuredRead): string {
  const how = draw === "zipf" ? ", Zipf" : "";
  return `${LABELS[name] ?? name}, ${whole(tenants)} tenants${how}`;
}

const PAGE = path.join(ROOT_DIR, "docs", "PERFORMANCE.md");
const BEGIN = "<!-- what the benchmark has written -->";
const END = "<!-- the end of what the benchmark has written -->";

/** Puts the tables into the page, in place of those of the run before. */
export async function writePage(report: string): Promise<void> {
  const page = await readFile(PAGE, "utf8");
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`${PAGE} has no place for it`);
  await writeFile(PAGE, `${before}${BEGIN}\n\n${report}\n\n${END}${after}`);
}
