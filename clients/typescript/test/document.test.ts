import { readFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { codeIn, newEmail, newPhone, PASSWORD, type TestTenant } from "../../../test/app.ts";
import { NO_LIMITS, times } from "../../../test/limits.ts";
import { totpCode } from "../../../test/second-factor.ts";
import type { KeyValueStorage } from "../src/client.ts";
import * as shown from "./document.ts";
import { type Service, startService } from "./service.ts";

const DOCUMENTS = ["../../../docs/SPA.md", "../README.md"].map((name) =>
  path.join(import.meta.dirname, name),
);
const CODE = path.join(import.meta.dirname, "document.ts");

test("docs/SPA.md and README.md show the code that is compiled and run here, and no other", async () => {
  const code = await readFile(CODE, "utf8");
  const regions = [
    ...code.matchAll(/^(?<indent> *)\/\/ #region (?<name>\S+)\n(?<body>[^]*?)^ *\/\/ #endregion/gm),
  ].map(({ groups: { indent = "", name = "", body = "" } = {} }) => ({
    name,
    body: body.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  }));
  const texts = await Promise.all(DOCUMENTS.map((file) => readFile(file, "utf8")));
  const document = texts.join("\n");
  const pieces = [
    ...document.matchAll(/<!-- (?<name>[\w-]+) -->\n\n```ts\n(?<body>[^]*?)```/g),
  ].map(({ groups: { name = "", body = "" } = {} }) => ({ name, body }));

  const byName = (one: { name: string }, other: { name: string }) =>
    one.name < other.name ? -1 : 1;
  expect(pieces.toSorted(byName)).toEqual(regions.toSorted(byName));
  expect(document.split("```ts")).toHaveLength(pieces.length + 1);
});

describe("the code that the documents show", () => {
  let service: Service;
  let tenant: TestTenant;
  let page: shown.PageParts;
  /** What the page was told, in order. */
  let told: unknown[];

  beforeAll(async () => {
    service = await startService();
    tenant = await service.api.createTenant();
    told = [];
    page = {
      localStorage: storage(),
      showLogin: () => void told.push("login"),
      showRemaining: (requests) => void told.push(requests),
      baseUrl: service.url,
      tenant: tenant.subdomain,
    };
  });
  afterAll(() => service.close());

  const asking = (answers: Record<string, () => string | Promise<string>>) => {
    return async (question: string): Promise<string> => {
      const answer = answers[question];
      if (!answer) throw new Error(`Nobody expected to be asked for: ${question}`);
      return answer();
    };
  };

  test("signs up, turns a second factor on and logs in with it", async () => {
    const email = newEmail();
    const phone = newPhone();
    let secret = "";
    let codes: readonly string[] = [];
    const person = {
      name: () => "Ada Lovelace",
      "mobile number": () => phone,
      "code of the SMS": async () => codeIn(await service.api.nextSms(phone)),
      "e-mail": () => email,
      password: () => PASSWORD,
    };
    const ouvira = shown.create(page);

    await shown.signUp(ouvira, asking(person));
    await shown.turnSecondFactorOn(
      ouvira,
      asking({ ...person, "code by totp": () => totpCode(secret) }),
      (qrCode, backupCodes) => {
        secret = new URL(qrCode ?? "").searchParams.get("secret") ?? "";
        codes = backupCodes;
      },
    );
    await ouvira.logOut();
    // That of now was used to confirm, and each is taken once.
    await shown.logIn(ouvira, asking({ ...person, "code by totp": () => totpCode(secret, 1) }));

    expect(await ouvira.GET("/api/account/profile/")).toMatchObject({
      email,
      is_2fa_enabled: true,
    });
    expect(codes).toHaveLength(10);
    // The same login, as another tab finds it.
    expect(await shown.create(page).isLoggedIn()).toBe(true);
  });

  const owner = () => asking({ "e-mail": () => tenant.owner.email, password: () => PASSWORD });

  test("makes companies, tells what is refused, and lists, uploads and asks what is allowed", async () => {
    const ouvira = shown.create(page);
    await shown.logIn(ouvira, owner());
    const makeCompany = (name: string) =>
      shown.makeCompany(
        ouvira,
        asking({ company: () => name }),
        (field) => void told.push(field),
        (sentence) => void told.push(sentence),
      );
    told = [];

    for (const name of times(3, (index) => `Engine ${index}`)) await makeCompany(name);
    expect(told).toEqual([]);
    await makeCompany("");
    await makeCompany("Engine 1");

    expect(told).toEqual(["name", "There is a company of this name."]);
    expect(await shown.findCompanies(ouvira)).toEqual(["Engine 2", "Engine 1", "Engine 0"]);
    expect(await shown.readLog(ouvira)).toBeGreaterThanOrEqual(3);
    const [company] = await tenant.sql<{ id: number }[]>`select id from companies limit 1`;
    const id = company?.id ?? 0;
    expect(await shown.mayInvite(ouvira, id)).toBe(true);
    const logo = await shown.uploadLogo(ouvira, id, PNG);
    expect(logo).toMatchObject({ type: "image/png", size: PNG.size });
  });

  test("goes through the client's README", async () => {
    const said = vi.spyOn(console, "log").mockReturnValue();

    await shown.overview(page.baseUrl, page.tenant, tenant.owner.email, PASSWORD);

    expect(said).toHaveBeenCalledExactlyOnceWith({ name: [expect.any(String)] });
    said.mockRestore();
  });

  test("sees how many requests are left", async () => {
    const limits = { ...NO_LIMITS, authenticated: { count: 10, windowMs: 60_000 } };
    const { app } = await service.api.startReplica({ config: { rateLimits: limits } });
    const baseUrl = await app.listen({ host: "127.0.0.1", port: 0 });
    const ouvira = shown.createWatching({ ...page, baseUrl });
    await shown.logIn(ouvira, owner());
    told = [];

    await ouvira.GET("/api/account/profile/");
    await ouvira.GET("/api/account/profile/");

    expect(told).toEqual([9, 8]);
  });

  test("reads a link, and takes its token out of the address", () => {
    const addresses: string[] = [];

    const parts = shown.linkParts(
      {
        href: "http://localhost:5173/verify-email?tenant=acme#token=abc",
        pathname: "/verify-email",
      },
      { replaceState: (_state, _unused, url) => void addresses.push(url) },
    );

    expect(parts).toEqual({ tenant: "acme", token: "abc" });
    expect(addresses).toEqual(["/verify-email"]);
  });
});

/** What a browser has and Node has not. */
function storage(): KeyValueStorage {
  const kept = new Map<string, string>();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

/** A picture of one pixel. */
const PNG = new Blob(
  [
    Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      "base64",
    ),
  ],
  { type: "image/png" },
);
