import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { codeIn, PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { hasChromium, startBrowser, type TestBrowser } from "../../test/browser.ts";
import { findPort } from "../../test/ports.ts";
import { productionConfig } from "../../test/production.ts";
import { secondFactorCalls } from "../../test/second-factor.ts";
import type { Config } from "../config.ts";

/** Swagger UI lays out over a hundred operations, on a machine that is busy with other tests. */
const SHOWN_WITHIN = { timeout: 100_000 };
const TEST_MS = 240_000;

/** A part of the page that says what went on. */
const STATUS = "#login-status";

interface Place {
  readonly app: TestApp;
  readonly tenant: TestTenant;
  readonly url: string;
}

/** The service on a port: of local use, or with what production says to a browser. */
async function startPlace(mode: "local" | "production"): Promise<Place> {
  const port = await findPort();
  const url = `http://127.0.0.1:${port}`;
  const production: Partial<Config> = {
    ...productionConfig("http://127.0.0.1:1"),
    allowedHosts: ["127.0.0.1"],
    trustedProxies: [],
    // There, this origin would be https.
    csrfTrustedOrigins: [url],
  };
  // The browser's tests of other files may keep this process waiting: it is not to refuse for that.
  const config = { ...(mode === "production" ? production : {}), eventLoopLagMs: 0 };
  const app = await startTestApp({ config });
  const tenant = await app.createTenant();
  await app.app.listen({ port, host: "127.0.0.1" });
  return { app, tenant, url };
}

/** Fills in a field of the log-in. */
async function fill(page: Page, label: string, text: string): Promise<void> {
  await page.getByLabel(label, { exact: true }).fill(text);
}

async function expectStatus(page: Page, text: string): Promise<void> {
  await page.locator(STATUS, { hasText: text }).waitFor(SHOWN_WITHIN);
}

/** Opens Swagger UI, in which every tag is closed, and waits for its tags. */
async function openSwagger(page: Page): Promise<void> {
  await page.goto("/swagger/");
  await page.locator(".opblock-tag").first().waitFor(SHOWN_WITHIN);
}

/** Opens an operation of Swagger UI, sends it, and gives the status and the body that it shows. */
async function callOperation(
  page: Page,
  tag: string,
  id: string,
): Promise<{ status: string; body: string }> {
  // As Swagger UI names the parts of its page.
  const heading = page.locator(`[id="operations-tag-${tag}"]`);
  if ((await heading.getAttribute("data-is-open")) !== "true") await heading.click();
  const operation = page.locator(`[id="operations-${tag}-${id}"]`);
  await operation.locator(".opblock-summary-control").click();
  await operation.locator("button.execute").click(SHOWN_WITHIN);
  const answer = operation.locator(".live-responses-table .response");
  await answer.waitFor(SHOWN_WITHIN);
  const status = await answer.locator(".response-col_status").innerText();
  const body = await answer.locator(".response-col_description pre").first().innerText();
  return { status: status.trim(), body };
}

describe.runIf(hasChromium).each(["local", "production"] as const)(
  "in a browser, with what %s sends,",
  (mode) => {
    let place: Place;
    let browser: TestBrowser;
    beforeAll(async () => {
      place = await startPlace(mode);
      browser = await startBrowser();
    }, TEST_MS);
    afterAll(async () => {
      await browser.close();
      await place.app.close();
    });

    test(
      "Swagger UI logs in, calls as who is logged in, and logs out",
      async () => {
        const { tenant, url } = place;
        const watched = await browser.open([url]);
        const { page } = watched;
        await openSwagger(page);
        const box = page.getByLabel("Tenant", { exact: true });
        expect(await box.inputValue()).toBe(mode === "local" ? "demo" : "");

        await box.fill(tenant.subdomain);
        await fill(page, "E-mail, phone or username", tenant.owner.email);
        await fill(page, "Password", PASSWORD);
        // As a person does who has no mouse.
        await page.getByLabel("Password", { exact: true }).press("Enter");
        await expectStatus(page, "Logged in as Olive Owner.");
        expect(await page.getByLabel("Password", { exact: true }).inputValue()).toBe("");
        await watched.screenshot(`swagger-${mode}-logged-in`);

        const profile = await callOperation(page, "Account", "getProfile");
        expect(profile.status).toContain("200");
        expect(JSON.parse(profile.body)).toMatchObject({ email: tenant.owner.email });
        await page.locator('[id="operations-Account-getProfile"]').scrollIntoViewIfNeeded();
        await watched.screenshot(`swagger-${mode}-called`);

        // A list, as it is offered: no filter is filled in.
        const users = await callOperation(page, "Account", "listUsers");
        expect(users.status).toContain("200");
        expect(JSON.parse(users.body)).toMatchObject({ count: 1 });

        await page.locator("#login").getByRole("button", { name: "Log out" }).click();
        await expectStatus(page, "Logged out.");
        const stored = await page.evaluate("JSON.stringify([localStorage, sessionStorage])");
        expect(stored).toBe("[{},{}]");
        expect(watched.troubles()).toEqual([]);

        // What failed is an answer, which the console tells of, too.
        const operation = page.locator('[id="operations-Account-getProfile"]');
        await operation.locator("button.execute").click();
        await operation
          .locator(".live-responses-table .response-col_status", { hasText: "401" })
          .waitFor(SHOWN_WITHIN);
      },
      TEST_MS,
    );

    test(
      "ReDoc shows every operation",
      async () => {
        const watched = await browser.open([place.url], {
          viewport: { width: 1600, height: 1000 },
        });
        const { page } = watched;
        await page.goto("/redoc/");
        // As ReDoc names the parts of its page; the last tag is there once all are.
        await page
          .locator('[data-section-id="tag/Service/operation/getReadiness"]')
          .waitFor({ state: "attached", ...SHOWN_WITHIN });
        await watched.screenshot(`redoc-${mode}`);
        await page.goto("/redoc/#tag/Authentication/operation/logIn");
        await page
          .locator('[data-section-id="tag/Authentication/operation/logIn"]')
          .scrollIntoViewIfNeeded();
        await watched.screenshot(`redoc-${mode}-login`);
        // Its search runs in a worker.
        await page.getByRole("textbox", { name: "Search" }).fill("invitation");
        await page.locator("[role=search] li").first().waitFor(SHOWN_WITHIN);
        expect(watched.troubles()).toEqual([]);
      },
      TEST_MS,
    );
  },
);

describe.runIf(hasChromium)("the log-in of Swagger UI", () => {
  let place: Place;
  let browser: TestBrowser;
  beforeAll(async () => {
    place = await startPlace("local");
    browser = await startBrowser();
  }, TEST_MS);
  afterAll(async () => {
    await browser.close();
    await place.app.close();
  });

  test(
    "asks for the code of a second factor, and tells of a wrong password",
    async () => {
      const { app, tenant, url } = place;
      const user = await secondFactorCalls(app, tenant).smsUser();
      const { page } = await browser.open([url]);
      await openSwagger(page);
      await fill(page, "Tenant", tenant.subdomain);
      await fill(page, "E-mail, phone or username", user.user.username);

      await fill(page, "Password", "a wrong one");
      await page.locator("#login").getByRole("button", { name: "Log in" }).click();
      await page
        .locator(`${STATUS}.failed`, { hasText: "The identifier or the password is not right." })
        .waitFor(SHOWN_WITHIN);

      await fill(page, "Password", PASSWORD);
      await page.locator("#login").getByRole("button", { name: "Log in" }).click();
      await expectStatus(page, "A code was sent by SMS.");
      expect(await page.getByLabel("Password", { exact: true }).isVisible()).toBe(false);
      await fill(
        page,
        "Code of the second factor",
        codeIn(await app.nextSms(user.user.primary_mobile)),
      );
      await page.getByRole("button", { name: "Send the code" }).click();
      await expectStatus(page, "Logged in as");
      expect((await callOperation(page, "Account", "testSession")).status).toContain("200");
    },
    TEST_MS,
  );
});
