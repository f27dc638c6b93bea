import type { ConsoleBuildState } from "./console-build.ts";

/** How soon the page asks again, in seconds. */
const RELOAD_SECONDS = 2;

/** What is shown while the console is being built, or when that failed. It reloads itself, without a script. */
export function waitingPage(
  state: Exclude<ConsoleBuildState, { name: "ready" }>,
  nonce: string,
): string {
  const isFailed = state.name === "failed";
  return [
    "<!doctype html>",
    `<html lang="en">`,
    "<head>",
    `<meta charset="utf-8">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<meta http-equiv="refresh" content="${RELOAD_SECONDS}">`,
    `<link rel="icon" href="data:,">`,
    `<title>Ouvira console</title>`,
    `<style nonce="${nonce}">body { font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 60rem; padding: 0 1rem; } pre { white-space: pre-wrap; background: #f3f4f6; padding: 1rem; }</style>`,
    "</head>",
    "<body>",
    isFailed
      ? "<h1>The console could not be built</h1><p>It is tried again when one of its files is changed. This is what Vite said:</p>"
      : "<h1>The console is being built</h1><p>This takes some seconds, once. The page shows it by itself.</p>",
    isFailed ? `<pre>${escaped(state.output)}</pre>` : "",
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (character) => ENTITIES[character] ?? "");
}
