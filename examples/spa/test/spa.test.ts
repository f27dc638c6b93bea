import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Page } from "playwright-core";
import { build, preview, type PreviewServer } from "vite";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { codeIn, PASSWORD } from "../../../test/app.ts";
import {
  hasChromium,
  startBrowser,
  type TestBrowser,
  type WatchedPage,
} from "../../../test/browser.ts";
import { findPort } from "../../../test/ports.ts";
import { createRegistry, type TestRegistry } from "../../../test/registry.ts";
import { totpCode } from "../../../test/second-factor.ts";
import { type ServerProcess, startServer } from "../../../test/server-process.ts";

/** A bundler, a browser, a database and a server. */
const SETUP_TIMEOUT_MS = 180_000;

const PHONE_SCREEN = { viewport: { width: 390, height: 844 } };

/** A message, as `/dev/outbox/` shows it. */
interface Message {
  readonly to: string;
  readonly body: string;
}

describe.skipIf(!hasChromium)("the example application", () => {
  let registry: TestRegistry;
  let server: ServerProcess;
  let pages: PreviewServer;
  let origin: string;
  let browser: TestBrowser;
  let ada: WatchedPage;
  let charles: WatchedPage;
  let dataDir: string;
  let builtDir: string;

  beforeAll(async () => {
    dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-spa-"));
    builtDir = await mkdtemp(path.join(tmpdir(), "ouvira-spa-built-"));
    registry = await createRegistry();
    const port = await findPort();
    origin = `http://localhost:${port}`;
    server = await startServer({
      ...registry.environment(dataDir),
      FRONTEND_URL: origin,
      BCRYPT_COST: "4",
    });
    pages = await servePages(server.url, builtDir, port);
    browser = await startBrowser();
    ada = await browser.open([origin, server.url]);
    charles = await browser.open([origin, server.url], PHONE_SCREEN);
  }, SETUP_TIMEOUT_MS);
  afterAll(async () => {
    await browser.close();
    await pages.close();
    await server.stop();
    await registry.close();
    await rm(dataDir, { recursive: true, force: true });
    await rm(builtDir, { recursive: true, force: true });
  });

  /** The newest message to somebody that says this, waited for. */
  const messageTo = (to: string, says: RegExp): Promise<string> =>
    vi.waitFor(
      async () => {
        const answer = await fetch(`${server.url}/dev/outbox/`);
        // As the route's schema has it.
        const messages = (await answer.json()) as readonly Message[];
        const found = messages.find((message) => message.to === to && says.test(message.body));
        if (!found) throw new Error(`${to} got no message with ${String(says)}`);
        return found.body;
      },
      { timeout: 10_000, interval: 20 },
    );

  /** The address in an e-mail that leads to a page of the application. */
  const linkTo = async (address: string, page: string): Promise<string> => {
    const body = await messageTo(address, new RegExp(`/${page}\\?`));
    return /http:\/\/\S+/.exec(body)?.[0] ?? "";
  };

  async function signUp(page: Page, name: string, phone: string, email: string): Promise<void> {
    await page.getByLabel("Your name").fill(name);
    await page.getByLabel("Mobile number").fill(phone);
    await page.getByRole("button", { name: "Send me a code" }).click();
    await page.getByLabel("The code sent to").fill(codeIn(await messageTo(phone, /sign-up code/)));
    await page.getByRole("button", { name: "Verify" }).click();
    await page.getByLabel("E-mail address").fill(email);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Make my account" }).click();
  }

  const heading = (page: Page, name: string) => page.getByRole("heading", { level: 1, name });

  test("signs Ada up with the code of an SMS", async () => {
    const { page } = ada;
    await page.goto("/sign-up");
    await ada.screenshot("spa-1-sign-up");

    await signUp(page, "Ada Lovelace", "+201001234501", "ada@corp.example");

    await heading(page, "Companies").waitFor();
    await page.getByText("None yet").waitFor();
    expect(ada.troubles()).toEqual([]);
  });

  test("makes a company and invites a colleague", async () => {
    const { page } = ada;
    await page.getByLabel("Name of the company").fill("Analytical Engines");
    await page.getByRole("button", { name: "Make a company" }).click();
    await heading(page, "Analytical Engines").waitFor();

    await page.getByLabel("E-mail address of a colleague").fill("charles@corp.example");
    await page.getByLabel("Role").selectOption("Member");
    await page.getByRole("button", { name: "Invite" }).click();

    await page.getByText("charles@corp.example is invited.").waitFor();
    await page.getByRole("listitem").filter({ hasText: "charles@corp.example" }).waitFor();
    await ada.screenshot("spa-2-invite");
    await page.getByRole("link", { name: "Companies", exact: true }).click();
    await page.getByRole("link", { name: "Analytical Engines" }).waitFor();
    await ada.screenshot("spa-3-companies");
    expect(ada.troubles()).toEqual([]);
  });

  test("turns a second factor on, and logs in with it", async () => {
    const { page } = ada;
    await page.getByRole("link", { name: "Account" }).click();
    await page.getByLabel("Your password").fill(PASSWORD);
    await page.getByRole("button", { name: "Turn it on" }).click();
    const secret = (await page.locator("#totp-secret").textContent()) ?? "";
    await ada.screenshot("spa-4-second-factor");
    await page.getByLabel("A code, to show that it works").fill(totpCode(secret));
    await page.getByRole("button", { name: "Confirm" }).click();
    await page.getByText("Two-factor login is on.").waitFor();

    await page.getByRole("button", { name: "Log out" }).click();
    await heading(page, "Log in").waitFor();
    await ada.screenshot("spa-5-log-in");
    await page.getByLabel("E-mail address or mobile number").fill("ada@corp.example");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    // That of now was used to confirm, and each is taken once.
    await page.getByLabel("The code your app shows").fill(totpCode(secret, 1));
    await page.getByRole("button", { name: "Go on" }).click();

    await heading(page, "Companies").waitFor();
    expect(ada.troubles()).toEqual([]);
  });

  test("lets the colleague follow the link, sign up and accept", async () => {
    const { page } = charles;
    const email = "charles@corp.example";
    await page.goto(await linkTo(email, "accept-invitation"));
    await heading(page, "You are invited").waitFor();
    await charles.screenshot("spa-6-invited");
    expect(page.url()).toBe(`${origin}/accept-invitation`);

    await page.getByRole("link", { name: "Sign up" }).first().click();
    await signUp(page, "Charles Babbage", "+201001234502", email);
    await page.getByText("We have sent a link").waitFor();
    await charles.screenshot("spa-7-verify");
    // On another device: it needs no login.
    const elsewhere = await browser.open([origin, server.url]);
    await elsewhere.page.goto(await linkTo(email, "verify-email"));
    await elsewhere.page.getByText("Your e-mail address is verified.").waitFor();
    await page.getByRole("button", { name: "I have opened it" }).click();
    await page.getByRole("button", { name: "Accept the invitation" }).click();

    await heading(page, "Analytical Engines").waitFor();
    await page.getByText("Inviting is up to its admins.").waitFor();
    await charles.screenshot("spa-8-member");
    expect([...charles.troubles(), ...elsewhere.troubles()]).toEqual([]);
  });

  test("sets a password that was forgotten", async () => {
    const { page } = charles;
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("link", { name: "Forgot your password?" }).click();
    await page.getByLabel("E-mail address or mobile number").fill("charles@corp.example");
    await page.getByRole("button", { name: "Send me a link" }).click();
    await page.goto(await linkTo("charles@corp.example", "reset-password"));
    await page.getByLabel("New password").fill("difference engine no. 2");
    await page.getByRole("button", { name: "Set the password" }).click();
    await page.getByRole("main").getByRole("link", { name: "Log in" }).click();
    await page.getByLabel("E-mail address or mobile number").fill("charles@corp.example");
    await page.getByLabel("Password").fill("difference engine no. 2");
    await page.getByRole("button", { name: "Log in" }).click();

    await page.getByRole("link", { name: "Analytical Engines" }).waitFor();
    expect(charles.troubles()).toEqual([]);
  });

  test("tells at its field what the service refuses, and works with the keyboard alone", async () => {
    const watched = await browser.open([origin, server.url], PHONE_SCREEN);
    const { page } = watched;
    await page.goto("/sign-up");
    await heading(page, "Sign up").waitFor();
    const name = page.getByLabel("Your name");
    for (let tabs = 0; tabs < 10 && !(await isFocused(page, "full_name")); tabs += 1) {
      await page.keyboard.press("Tab");
    }
    await page.keyboard.type("Eve");
    await page.keyboard.press("Tab");
    await page.keyboard.type("12");
    await page.keyboard.press("Enter");

    const phone = page.getByLabel("Mobile number");
    await expect.poll(() => phone.getAttribute("aria-invalid")).toBe("true");
    await page.getByText("international format").waitFor();
    expect(await name.inputValue()).toBe("Eve");
    expect(await isFocused(page, "primary_mobile")).toBe(true);
    await watched.screenshot("spa-9-refused");
    // A browser writes every refusal to its console.
    expect(watched.troubles()).toEqual([expect.stringContaining("status of 400")]);
  });

  test("shows the login in every tab when somebody logs out in one", async () => {
    const { page } = charles;
    const other = await page.context().newPage();
    await other.goto("/account");
    await other.getByRole("button", { name: "Log out" }).click();

    await heading(page, "Log in").waitFor();
    expect(charles.troubles()).toEqual([]);
  });
});

/** The application built for an API, served as it is by a web server of its own. */
async function servePages(apiUrl: string, outDir: string, port: number): Promise<PreviewServer> {
  const root = path.join(import.meta.dirname, "..");
  process.env["VITE_API_URL"] = apiUrl;
  const common = { root, logLevel: "error", build: { outDir, emptyOutDir: true } } as const;
  await build(common);
  return preview({ ...common, preview: { port, strictPort: true, host: "localhost" } });
}

async function isFocused(page: Page, name: string): Promise<boolean> {
  return (await page.locator(`[name=${name}]:focus`).count()) === 1;
}
