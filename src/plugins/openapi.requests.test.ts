import type { InjectOptions } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newSubdomain, PASSWORD, startTestApp, type TestApp } from "../../test/app.ts";
import { Contract } from "../../test/fuzz-answers.ts";
import { requestOf, type Target, targetsOf } from "../../test/fuzz-requests.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import {
  type MadeRequest,
  makeRequest,
  OPERATION_NAMES,
  type RequestGround,
} from "../../test/valid-requests.ts";
import { unique } from "../../test/world.ts";
import type { MediaType } from "./openapi-document.ts";
import { type SharedDocument, withOwnFailures } from "./openapi-failures.ts";

/** Why a field of an example is not sent as it is written. */
const REASONS = {
  code: "was sent to somebody a moment ago, or is the app's of this half minute",
  token: "is made at random when it is asked for",
  id: "is counted by the database",
  person: "has to be somebody's who is there",
  stays: "has to be what the row has",
  taken: "is unique in the tenant, and another example has it",
  soon: "has to lie in the next 90 days",
} as const;

/** By operation, the fields of the example that are replaced; every other is sent as it is written. */
const REPLACED: Readonly<Record<string, Readonly<Record<string, keyof typeof REASONS>>>> = {
  verifyOtp: { primary_mobile: "person", otp: "code" },
  finalizeSignUp: { primary_mobile: "person", verification_token: "token" },
  logIn: { identifier: "person" },
  verifyLoginCode: { session_id: "token", code: "code" },
  verifyLoginBackupCode: { session_id: "token", backup_code: "code" },
  resendLoginCode: { session_id: "token" },
  refreshTokens: { refresh: "token" },
  logOut: { refresh: "token" },
  confirmSecondFactor: { code: "code" },
  disableSecondFactor: { code: "code" },
  resetPassword: { token: "token" },
  verifyEmail: { token: "token" },
  replaceCompany: { name: "taken" },
  changeCompany: { name: "taken" },
  replacePermission: { code: "taken" },
  changePermission: { code: "taken" },
  createRole: { company: "id" },
  replaceRole: { company: "stays" },
  changeRole: { company: "stays" },
  createRolePermission: { role: "id", permission: "id" },
  createMembership: { user: "id", company: "id" },
  replaceMembership: { user: "stays", company: "stays" },
  createMembershipRole: { user_company: "id", role: "id" },
  createInvitation: { company: "id", role: "id", expires_at: "soon" },
  replaceInvitation: { email: "stays", company: "stays", role: "id", expires_at: "soon" },
  acceptInvitation: { token: "token" },
  markNotificationsRead: { notification_id: "id" },
  logInOperator: { email: "person" },
  verifyOperatorLoginCode: { session_id: "token", code: "code" },
  refreshOperatorTokens: { refresh: "token" },
  confirmOperatorSecondFactor: { code: "code" },
  changeTenant: { subdomain: "taken" },
};

/** Parameters of which only one can be sent: each is sent in a request of its own. */
const ALTERNATIVES: readonly (readonly string[])[] = [
  ["page", "cursor"],
  ["user", "all"],
];

/** As many as there are in `APP_ENV=local`, or more: none gets lost. */
const OPERATIONS_MIN = 108;

let app: TestApp;
let ground: RequestGround;
let targets: Target[];
let contract: Contract;

/** Operations whose example was sent, and taken. */
const sent = new Set<string>();

beforeAll(async () => {
  const records = new Map<string, string>();
  app = await startTestApp({
    config: { rateLimits: NO_LIMITS, logLevel: "error" },
    resolveTxt: (name) => Promise.resolve([[records.get(name) ?? "nothing"]]),
  });
  ground = {
    app,
    tenant: await app.createTenant(),
    platform: { app, tenant: await app.createTenant(), records },
    passwordHash: await app.services.passwords.hash(PASSWORD),
  };
  // The two describe the same document; ours names what this service puts into one.
  const document = withOwnFailures(app.app.swagger() as SharedDocument);
  targets = targetsOf(document);
  contract = new Contract(document);
});
afterAll(() => app.close());

/** What there is at run time only, where the recipe of the operation does not send the field. */
async function valueOf(field: string, { call, rows }: MadeRequest): Promise<unknown> {
  if (field === "expires_at") return new Date(Date.now() + 86_400_000).toISOString();
  if (field === "subdomain") return newSubdomain();
  if (call.body && field in call.body)
    return Object.entries(call.body).find(([name]) => name === field)?.[1];
  if (field === "code" || field === "name") return unique();
  if (field === "company") return rows?.world.company;
  if (field === "notification_id" && rows) {
    const { world, person } = rows;
    const [row] = await world.tenant.sql<{ id: number }[]>`
      insert into notifications (user_id, message) values (${person.id}, 'Look here.') returning id`;
    return row?.id;
  }
  throw new Error(`Nobody says what is sent as ${field}`);
}

/** The example of a body, with what cannot be written in it. */
async function bodyOf({ operation }: Target, made: MadeRequest): Promise<object | undefined> {
  const example = operation.requestBody?.content["application/json"]?.example;
  if (typeof example !== "object" || example === null) return undefined;
  const replaced = REPLACED[operation.operationId ?? ""] ?? {};
  const left = Object.keys(replaced).filter((field) => !(field in example));
  if (left.length > 0) throw new Error(`${left.join(", ")}: the example has no such field`);
  const body: Record<string, unknown> = { ...example };
  for (const field of Object.keys(replaced)) body[field] = await valueOf(field, made);
  return body;
}

/** Ids that a list is filtered by, of rows that are there. */
async function idFor(name: string, { rows }: MadeRequest): Promise<number | undefined> {
  if (!rows) return undefined;
  const { world, person } = rows;
  switch (name) {
    case "company":
    case "parent":
      return world.company;
    case "user":
      return person.id;
    case "role":
      return world.role();
    case "user_company":
      return world.member(await world.user(), world.company, ["Member"]);
    default:
      return undefined;
  }
}

/** The examples of all parameters in one query, or in two where some exclude each other. */
async function queriesOf({ operation }: Target, made: MadeRequest): Promise<string[]> {
  const parameters = (operation.parameters ?? []).flatMap((one) =>
    "in" in one && one.in === "query" ? [one] : [],
  );
  const pairs: [string, string][] = [];
  for (const { name, example } of parameters) {
    pairs.push([name, String((await idFor(name, made)) ?? example)]);
  }
  const names = new Set(parameters.map(({ name }) => name));
  const isDivided = ALTERNATIVES.some((group) => group.every((name) => names.has(name)));
  const versions = isDivided ? [0, 1] : [undefined];
  return versions.map((version) => {
    const kept = pairs.filter(([name]) =>
      ALTERNATIVES.every(
        (group) =>
          !group.every((one) => names.has(one)) ||
          !group.includes(name) ||
          group[version ?? 0] === name,
      ),
    );
    return new URLSearchParams(kept).toString();
  });
}

/** The examples of an operation as requests, each on rows of its own. */
async function requestsOf(target: Target): Promise<InjectOptions[]> {
  const made = await makeRequest(ground, target);
  const body = await bodyOf(target, made);
  const [path = ""] = made.call.path.split("?");
  const queries = await queriesOf(target, made);
  return queries.map((query) => {
    const call = {
      path: query === "" ? path : `${path}?${query}`,
      ...(body ? { body } : {}),
      ...(made.call.image ? { image: made.call.image } : {}),
    };
    const { headers, ...options } = requestOf(target, { ...made, call }, {});
    const { token } = made;
    return {
      ...options,
      headers: { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    };
  });
}

/** The success that an operation declares; 304 is one of who has the answer already. */
function successOf({ operation }: Target): { status: number; media: MediaType | undefined } {
  const [[status, answer] = []] = Object.entries(operation.responses).filter(
    ([code]) => Number(code) < 300,
  );
  return { status: Number(status), media: answer?.content?.["application/json"] };
}

test("there are as many operations as there were, each with a way to send its example", () => {
  expect(targets.map(({ name }) => name).toSorted()).toEqual(OPERATION_NAMES.toSorted());
  expect(targets.length).toBeGreaterThanOrEqual(OPERATIONS_MIN);
  const ids = targets.map(({ operation }) => operation.operationId);
  expect(Object.keys(REPLACED).filter((id) => !ids.includes(id))).toEqual([]);
});

describe("the example of a request is taken, and the answer is what is declared:", () => {
  test.each(OPERATION_NAMES)("%s", async (name) => {
    const target = targets.find((one) => one.name === name);
    if (!target) throw new Error(`There is no operation ${name}`);
    const { status, media } = successOf(target);
    const requests = await requestsOf(target);

    for (const options of requests) {
      const answer = await app.app.inject(options);

      expect({ status: answer.statusCode, body: answer.body, url: options.url }).toMatchObject({
        status,
      });
      expect(contract.faultOf(target, answer)).toBeUndefined();
      // A sentence for people is the one that is answered.
      const { message } = (media?.example ?? {}) as { message?: string };
      const said = message === undefined ? undefined : answer.json<{ message: unknown }>().message;
      expect(said).toBe(message);
    }
    expect(requests.length).toBeGreaterThan(0);
    sent.add(name);
  });

  test("none was left out", () => {
    expect(targets.map(({ name }) => name).filter((name) => !sent.has(name))).toEqual([]);
  });
});
