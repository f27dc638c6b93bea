import { readFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  codeIn,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
  tokenIn,
} from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { ROOT_DIR } from "../paths.ts";

const FRONTEND = "https://app.example";
const INVITED = "charles@corp.example";
const PHONE = "+201001234567";

const text = await readFile(path.join(ROOT_DIR, "docs/INVITATIONS.md"), "utf8");

/** A request that the document shows, with the answer that it promises. */
interface Example {
  readonly method: string;
  readonly path: string;
  /** What stands for the access token. */
  readonly bearer: string | undefined;
  readonly body: string | undefined;
  readonly status: number;
  readonly answer: unknown;
}

const EXAMPLE =
  /```http\n(?<method>[A-Z]+) (?<path>\S+)\n(?:Authorization: Bearer (?<bearer><\w+>)\n)?\n(?:(?<body>\{.*\})\n\n)?(?<status>\d{3})\n(?<answer>\{.*\})\n```/g;

function examplesIn(heading: string): Example[] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  const found = [...section.matchAll(EXAMPLE)];
  expect(found).toHaveLength(section.split("```http").length - 1);
  return found.map(({ groups = {} }) => ({
    method: groups["method"] ?? "",
    path: groups["path"] ?? "",
    bearer: groups["bearer"],
    body: groups["body"],
    status: Number(groups["status"]),
    answer: JSON.parse(groups["answer"] ?? "") as unknown,
  }));
}

let api: TestApp;
let tenant: TestTenant;
/** What stands for the document's `<…>`. */
let known: Map<string, string>;
const sent: Example[] = [];

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS, frontendUrl: FRONTEND } });
});
afterAll(() => api.close());
beforeEach(async () => {
  tenant = await api.createTenant();
  known = new Map();
});

const fill = (shown: string) =>
  shown.replace(/<(\w+)>/g, (_, name: string) => {
    const value = known.get(name);
    if (value === undefined) throw new Error(`Nothing has said <${name}> yet`);
    return value;
  });

/** Sends it; the answer has the status and the fields that are shown, numbers and addresses alike. */
async function send(example: Example): Promise<void> {
  sent.push(example);
  const { method, path: url, bearer, body, status, answer } = example;
  const response = await api.app.inject({
    method: method === "GET" ? "GET" : "POST",
    url,
    headers: {
      "x-tenant": tenant.subdomain,
      ...(bearer === undefined ? {} : { authorization: `Bearer ${fill(bearer)}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { payload: fill(body) }),
  });
  expect({ url, status: response.statusCode }).toEqual({ url, status });
  const received = response.json<unknown>();
  expect(received).toMatchObject(likeShown(answer));
  learn(received);
}

/** Shown texts that are shortened or change with the day match any text; the rest must be the same. */
function likeShown(shown: unknown): object {
  const loosen = (value: unknown): unknown => {
    if (typeof value === "string" && (value.includes("…") || /^\d{4}-/.test(value))) {
      return expect.any(String);
    }
    if (Array.isArray(value)) return value.map(loosen);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, loosen(item)]));
  };
  // An answer is an object, and stays one.
  return loosen(shown) as object;
}

/** What an answer says, for the requests after it. */
function learn(value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  for (const [name, item] of Object.entries(value)) {
    if (typeof item === "string") known.set(name, item);
    else learn(item);
  }
}

async function sendAll(heading: string): Promise<void> {
  for (const example of examplesIn(heading)) await send(example);
}

/** A company of somebody who may invite, on a tenant where nothing else is yet. */
async function company(): Promise<void> {
  const { access } = await api.signUp(tenant);
  known.set("inviter", access);
  const made: TestResponse = await api
    .client(tenant)
    .post("/api/company/", { name: "Analytical Engines" }, { token: access });
  expect(made).toMatchObject({ status: 201, body: { id: 1 } });
}

/** The token of the link in the invitation's e-mail, which leads where the document says. */
async function openInvitation(): Promise<void> {
  const mail = await api.nextEmail(INVITED);
  const token = tokenIn(mail);
  expect(mail).toContain(
    `${FRONTEND}/accept-invitation?tenant=${tenant.subdomain}#token=${token}\n`,
  );
  known.set("invitation", token);
}

/** Gives the e-mails to other mails on the way. */
async function signUpAsShown(): Promise<string[]> {
  const mails: string[] = [];
  const [signup, ...rest] = examplesIn("Without an account");
  if (!signup) throw new Error("The document shows no sign-up");
  await send(signup);
  known.set("otp", codeIn(await api.nextSms(PHONE)));
  for (const example of rest) {
    if (example.path === "/api/account/email/verify/") {
      const mail = await api.nextEmail(INVITED);
      known.set("verification", tokenIn(mail));
      mails.push(mail);
    }
    await send(example);
  }
  return mails;
}

const joined = () => tenant.sql`
  select i.status, u.email, r.role
    from invitations i
    join users u on u.id = i.accepted_by
    join user_companies m on m."user" = u.id and m.company = i.company
    join user_company_roles ur on ur.user_company = m.id
    join roles r on r.id = ur.role`;

describe("docs/INVITATIONS.md", () => {
  test("somebody without an account signs up, verifies the address and accepts", async () => {
    await company();
    await sendAll("Invite");
    await openInvitation();
    const mails = await signUpAsShown();
    await sendAll("Accept");

    expect(mails).toEqual([
      expect.stringContaining(`${FRONTEND}/verify-email?tenant=${tenant.subdomain}#token=`),
    ]);

    expect(await joined()).toEqual([{ status: "accepted", email: INVITED, role: "Member" }]);
  });

  test("somebody with an account logs in, finds a notification, and accepts", async () => {
    await api.signUp(tenant, INVITED);
    await api.verifyEmail(tenant, INVITED);
    await company();
    const login = examplesIn("With an account").map((example) => ({
      ...example,
      // Here this person came before the inviter.
      answer: { tokens: { expires_in: 3600 }, user: { email: INVITED } },
    }));
    await sendAll("Invite");
    await openInvitation();
    for (const example of login) await send(example);
    const { body } = await api
      .client(tenant)
      .get("/api/audit/notifications/", { token: fill("<access>") });
    expect(body).toMatchObject({
      results: [{ message: expect.stringContaining("You are invited to Analytical Engines") }],
    });
    expect(JSON.stringify(body)).not.toContain(fill("<invitation>"));
    await sendAll("Accept");

    expect(await joined()).toEqual([{ status: "accepted", email: INVITED, role: "Member" }]);
  });

  test("every request that it shows was sent", () => {
    expect(new Set(sent.map(({ path: url }) => url)).size).toBeGreaterThan(6);
    const shown = text.split("```http").length - 1;
    expect(new Set(sent.map((example) => JSON.stringify(example))).size).toBeGreaterThanOrEqual(
      shown,
    );
  });
});
