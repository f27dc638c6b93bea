import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import type { Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestTenant } from "../../../test/app.ts";
import {
  hasChromium,
  startBrowser,
  type TestBrowser,
  type WatchedPage,
} from "../../../test/browser.ts";
import type { KeyValueStorage, Tokens } from "../src/client.ts";
import { type Service, startService } from "./service.ts";

/** A compiler, a bundler, a browser and a database. */
const SETUP_TIMEOUT_MS = 180_000;

const CLIENT_DIR = path.join(import.meta.dirname, "..");

/** What the page under test has besides what every page has. */
interface PageGlobals {
  readonly client: typeof import("../src/client.ts");
  readonly localStorage: KeyValueStorage;
  /** Codes of `onLoggedOut`, in order. */
  readonly loggedOut: string[];
}

/** How a page makes its client. */
interface Settings {
  readonly baseUrl: string;
  readonly tenant: string;
}

describe.skipIf(!hasChromium)("the built client in a browser, from another origin", () => {
  let service: Service;
  let pages: Server;
  let browser: TestBrowser;
  let tenant: TestTenant;
  let watched: WatchedPage;
  let settings: Settings;

  beforeAll(async () => {
    service = await startService();
    tenant = await service.api.createTenant();
    pages = await servePage(await bundle());
    browser = await startBrowser();
  }, SETUP_TIMEOUT_MS);
  afterAll(async () => {
    await browser.close();
    pages.closeAllConnections();
    pages.close();
    await service.close();
  });
  beforeEach(async () => {
    settings = { baseUrl: service.url, tenant: tenant.subdomain };
    watched = await browser.open([originOf(pages), service.url]);
    await watched.page.goto("/");
    service.countAnew();
  });

  /** Tokens of the tenant's owner, in the storage of all tabs. */
  const keep = (page: Page, tokens: Tokens) =>
    page.evaluate(
      async ({ tenant: name, baseUrl, tokens: begun }) => {
        // What the page's script has set.
        const { client, localStorage } = globalThis as unknown as PageGlobals;
        const store = client.tokensInStorage(localStorage, name);
        await client.createOuvira({ baseUrl, tenant: name, tokens: store }).keepTokens(begun);
      },
      { ...settings, tokens },
    );

  /** Makes 10 calls at once; gives what each answered, or was refused with. */
  const callTenTimes = (page: Page) =>
    page.evaluate(async ({ tenant: name, baseUrl }) => {
      // As above.
      const { client, localStorage, loggedOut } = globalThis as unknown as PageGlobals;
      const tokens = client.tokensInStorage(localStorage, name);
      const onLoggedOut = ({ code }: { code: string }) => void loggedOut.push(code);
      const ouvira = client.createOuvira({ baseUrl, tenant: name, tokens, onLoggedOut });
      const calls = Array.from({ length: 10 }, () =>
        ouvira.GET("/api/account/profile/").then(
          ({ email }) => email,
          (error: unknown) => (error instanceof client.OuviraError ? error.code : String(error)),
        ),
      );
      return {
        answers: await Promise.all(calls),
        loggedOut,
        isLoggedIn: await ouvira.isLoggedIn(),
      };
    }, settings);

  const tenTimes = (answer: string) => Array.from({ length: 10 }, () => answer);

  /** A browser writes each refusal to its console; anything else there is trouble. */
  const troubles = () => watched.troubles().filter((line) => !/status of 40[01] /.test(line));

  test("two tabs whose access token has expired rotate it once, and no call is refused", async () => {
    const { page } = watched;
    await keep(page, { ...(await service.expiredLogin(tenant)), expires_in: 0 });
    const second = await page.context().newPage();
    await second.goto("/");

    const tabs = await Promise.all([callTenTimes(page), callTenTimes(second)]);

    const { email } = tenant.owner;
    expect(tabs.map(({ answers }) => answers)).toEqual([tenTimes(email), tenTimes(email)]);
    // One, or one for each tab: the second may not see yet what the first has put into the storage.
    expect([1, 2]).toContain(service.count("POST /api/auth/token/refresh/"));
    expect(
      await tenant.sql`
        select refresh_counter, ended_because from login_sessions order by id desc limit 1`,
    ).toEqual([{ refresh_counter: 1, ended_because: null }]);
    expect(service.count("GET /api/account/profile/")).toBe(20);
    expect(watched.troubles()).toEqual([]);
  });

  test("calls that are refused as expired wait for one exchange and are sent again", async () => {
    await keep(watched.page, await service.expiredLogin(tenant));

    const { answers } = await callTenTimes(watched.page);

    expect(answers).toEqual(tenTimes(tenant.owner.email));
    expect(service.count("POST /api/auth/token/refresh/")).toBe(1);
    expect(service.count("GET /api/account/profile/")).toBe(20);
    expect(troubles()).toEqual([]);
  });

  test("a refused exchange ends the login once, in storage too", async () => {
    await keep(watched.page, await service.expiredLogin(tenant));
    await tenant.sql`update login_sessions set ended_at = now(), ended_because = 'revoked'`;

    const outcome = await callTenTimes(watched.page);

    expect(outcome).toEqual({
      answers: tenTimes("token_expired"),
      loggedOut: ["token_revoked"],
      isLoggedIn: false,
    });
    expect(troubles()).toEqual([]);
  });

  test("a refusal has its fields and its id", async () => {
    const refusal = await watched.page.evaluate(async (options) => {
      // As above.
      const { client } = globalThis as unknown as PageGlobals;
      const ouvira = client.createOuvira(options);
      const body = { full_name: "Ada", primary_mobile: "12" };
      return ouvira.POST("/api/auth/signup/", { body }).then(
        () => undefined,
        (error: unknown) =>
          error instanceof client.OuviraError
            ? { code: error.code, errors: error.errors, requestId: error.requestId }
            : String(error),
      );
    }, settings);

    expect(refusal).toEqual({
      code: "validation_error",
      errors: { primary_mobile: [expect.any(String)] },
      requestId: expect.stringMatching(/^req-/),
    });
    expect(troubles()).toEqual([]);
  });
});

/** The package as it is published, and what it needs, as one script. */
async function bundle(): Promise<string> {
  const compiled = spawnSync("npm", ["run", "-s", "build"], { cwd: CLIENT_DIR, encoding: "utf8" });
  expect(`${compiled.stdout}${compiled.stderr}`).toBe("");
  const built = await build({
    configFile: false,
    root: CLIENT_DIR,
    logLevel: "error",
    build: {
      write: false,
      lib: { entry: path.join(CLIENT_DIR, "dist/client.js"), formats: ["es"] },
    },
  });
  const [output] = Array.isArray(built) ? built : [];
  const [chunk] = output?.output ?? [];
  if (chunk?.type !== "chunk") throw new Error("Nothing was built");
  return chunk.code;
}

const PAGE = `<!doctype html><html lang="en"><title>Client</title><link rel="icon" href="data:,">
<script type="module">
  import * as client from "/client.js";
  globalThis.client = client;
  globalThis.loggedOut = [];
</script></html>`;

async function servePage(script: string): Promise<Server> {
  const server = createServer(({ url }, response) => {
    const isScript = url === "/client.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : PAGE);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return server;
}

function originOf(server: Server): string {
  // It listens at an address and a port.
  const { port } = server.address() as AddressInfo;
  return `http://127.0.0.1:${port}`;
}
