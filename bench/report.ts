import type { Latency, Spread } from "./load.ts";

/** Prints a Markdown table; the first column to the left, the others to the right. */
export function printTable(
  title: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  console.log(`\n${tableOf(title, head, rows)}`);
}

/** The same as text. */
export function tableOf(
  title: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const rule = head.map((_, index) => (index === 0 ? "---" : "---:"));
  const lines = [head, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  return [`### ${title}`, "", ...lines].join("\n");
}

/** A figure without decimals. */
export function whole(figure: number): string {
  return Number.isFinite(figure) ? Math.round(figure).toLocaleString("en-US") : "–";
}

/** `0.64 (0.61–0.66)`: the median of the rounds, the least and the greatest. */
export function ratioText({ median, min, max }: Spread): string {
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}

/** `4.1 / 12.0`: median and 99th percentile in milliseconds. */
export function latencyText({ p50, p99 }: Latency): string {
  return Number.isFinite(p50) ? `${p50.toFixed(1)} / ${p99.toFixed(1)}` : "–";
}
