import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { ROOT_DIR } from "../src/paths.ts";
import { findProgram } from "./programs.ts";

const CHROMIUM = findProgram("chromium");

/** Whether this machine has Debian's Chromium. Tests that drive one are skipped where it does not. */
export const hasChromium: boolean = CHROMIUM !== undefined;

/** Where pictures of what a person sees are kept for whoever reads a run. */
const SCREENSHOTS_DIR = path.join(ROOT_DIR, "test-output", "screenshots");

/** A browser without what it would ask of its maker's servers. */
const ARGUMENTS = [
  // As root there is no other way; what is shown is ours alone.
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A page, and what went wrong on it that a person would not see. */
export interface WatchedPage {
  readonly page: Page;
  /**
   * Errors of the console and of scripts, and requests to another origin than the allowed, so far.
   * A test ends with `expect(watched.troubles()).toEqual([])`.
   */
  troubles(): readonly string[];
  /** Keeps a picture of the page as `test-output/screenshots/<name>.png`. */
  screenshot(name: string): Promise<void>;
}

export interface TestBrowser {
  /**
   * A page in a context of its own: nothing is remembered from one to the next.
   *
   * @param origins from which the page may ask anything, the first being where its addresses begin
   */
  open(origins: readonly string[], options?: BrowserContextOptions): Promise<WatchedPage>;
  close(): Promise<void>;
}

/** Starts Chromium with an empty profile. */
export async function startBrowser(): Promise<TestBrowser> {
  if (CHROMIUM === undefined) throw new Error("There is no chromium on this machine");
  const profile = await mkdtemp(path.join(tmpdir(), "ouvira-browser-"));
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ARGUMENTS,
    env: { ...process.env, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
  });
  return {
    async open(origins, options = {}) {
      const [baseURL] = origins;
      const context = await browser.newContext({
        ...(baseURL === undefined ? {} : { baseURL }),
        ...options,
      });
      const page = await context.newPage();
      const troubles: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") troubles.push(`console: ${message.text()}`);
      });
      page.on("pageerror", (error) => troubles.push(`script: ${error.message}`));
      context.on("request", (request) => {
        const url = new URL(request.url());
        // data: and blob: are made by the page itself.
        if (url.protocol.startsWith("http") && !origins.includes(url.origin)) {
          troubles.push(`request to ${url.origin}: ${request.url()}`);
        }
      });
      return {
        page,
        troubles: () => troubles,
        async screenshot(name) {
          await mkdir(SCREENSHOTS_DIR, { recursive: true });
          await page.screenshot({ path: path.join(SCREENSHOTS_DIR, `${name}.png`) });
        },
      };
    },
    async close() {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
