import * as fc from "fast-check";
import type { InjectOptions, LightMyRequestResponse as InjectResponse } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../test/app.ts";
import { Contract } from "../test/fuzz-answers.ts";
import { changedTables, Digest } from "../test/fuzz-database.ts";
import {
  operatorBase,
  PLATFORM_RECIPES,
  type PlatformGround,
  supportToken,
} from "../test/fuzz-platform.ts";
import {
  type Base,
  bodyOf,
  type Case,
  casesOf,
  certainCasesOf,
  requestOf,
  type Sender,
  type Target,
  targetsOf,
} from "../test/fuzz-requests.ts";
import { NO_LIMITS } from "../test/limits.ts";
import { makeRequest, OPERATION_NAMES } from "../test/valid-requests.ts";
import { World } from "../test/world.ts";
import type { Document } from "./plugins/openapi-document.ts";
import { type SharedDocument, withOwnFailures } from "./plugins/openapi-failures.ts";

/** Requests of each operation besides those that are certain: with 5, 1,550 take half a minute on two cores. */
const SIZE = Number(process.env["SIZE"] ?? 5);

/** Always the same unless it is set: a change is tested, not the luck of whoever makes the next one. */
const SEED = Number(process.env["SEED"] ?? 1);

/** Requests for which one valid request is changed in turn before the next is made, unless it was used up. */
const REQUESTS_PER_BASE = 12;

/** The longest that one operation may take, with the search for the simplest request that fails. */
const TIMEOUT_MS = 60_000 + SIZE * 1_000;

/** How much of a body or of a line of the log is shown. */
const SHOWN_LENGTH_MAX = 1_000;

/** Statuses of failures that are announced: not now, not this server. */
const OUTAGES: ReadonlySet<number> = new Set([502, 503]);

let app: TestApp;
let tenant: TestTenant;
let ground: PlatformGround;
let document: Document;
let contract: Contract;
/** Of what operators change, and of what users do. */
let digests: { readonly platform: Digest; readonly tenant: Digest };
let passwordHash: string;
/** By kind of sender, what they show. */
let otherTokens: { readonly operator: string; readonly owner: string; readonly support: string };

/** How often each class of status was answered, by operation. */
const counts = new Map<string, { requests: number; "2xx": number; "4xx": number; "5xx": number }>();

const records = new Map<string, string>();

beforeAll(async () => {
  // Without limits: what is sent is to be looked at.
  app = await startTestApp({
    config: { rateLimits: NO_LIMITS, logLevel: "error" },
    resolveTxt: (name) => Promise.resolve([[records.get(name) ?? "nothing"]]),
  });
  tenant = await app.createTenant();
  ground = { app, tenant: await app.createTenant(), records };
  // The two describe the same document; ours names what this service puts into one.
  document = withOwnFailures(app.app.swagger() as SharedDocument);
  contract = new Contract(document);
  const digestOf = ({ id }: TestTenant) =>
    Digest.of(app.registry, [`t_${id}`, "public", "platform"]);
  digests = { platform: await digestOf(ground.tenant), tenant: await digestOf(tenant) };
  passwordHash = await app.services.passwords.hash(PASSWORD);
  otherTokens = {
    operator: (await operatorBase(ground, "GET /api/platform/tenants/")).token,
    owner: (await app.logIn(tenant, tenant.owner.email)).access,
    support: await supportToken(app, tenant),
  };
});
afterAll(async () => {
  const rows = [...counts].map(([name, { requests, ...byClass }]) =>
    [name.padEnd(60), requests, ...Object.values(byClass)].join("\t"),
  );
  const heading = ["operation".padEnd(60), "requests", "2xx", "4xx", "5xx"].join("\t");
  process.stdout.write(`\nSEED=${SEED} SIZE=${SIZE}\n${[heading, ...rows].join("\n")}\n`);
  await app.close();
});

/** A valid request, for whoever may send it, on rows of its own. */
function makeBase(target: Target): Promise<Base> {
  return makeRequest({ app, tenant, platform: ground, passwordHash }, target);
}

/** What a sender puts into `Authorization`. */
async function credentialsOf(
  sender: Sender | undefined,
  { url }: Target,
  { token }: Base,
): Promise<string | undefined> {
  const isOperators = url.startsWith("/api/platform/");
  switch (sender?.kind) {
    case "nonsense":
      return sender.credentials;
    case "nobody":
      return undefined;
    case "stranger": {
      const world = await World.create(app, tenant, passwordHash);
      const person = await world.person("other company");
      return `Bearer ${person.token}`;
    }
    case "reading operator":
      return `Bearer ${otherTokens.support}`;
    case "other kind of token":
      return `Bearer ${isOperators ? otherTokens.owner : otherTokens.operator}`;
    default:
      return token === undefined ? undefined : `Bearer ${token}`;
  }
}

let sent = 0;

/** What is sent, each time from an address of its own: what is counted by address is not to end it. */
async function optionsFor(target: Target, base: Base, given: Case): Promise<InjectOptions> {
  const options = requestOf(target, base, given);
  const authorization = await credentialsOf(given.sender, target, base);
  sent += 1;
  return {
    ...options,
    headers: { ...options.headers, ...(authorization === undefined ? {} : { authorization }) },
    remoteAddress: `10.${sent >> 16}.${(sent >> 8) & 255}.${sent & 255}`,
  };
}

/** Sends a request; gives the status of an answer that keeps every promise. */
async function check(target: Target, base: Base, given: Case): Promise<number> {
  const options = await optionsFor(target, base, given);
  const digest = target.name in PLATFORM_RECIPES ? digests.platform : digests.tenant;
  const before = await digest.read();
  const answer = await app.app.inject(options);
  const { statusCode: status } = answer;
  count(target, status);
  const faults = [contract.faultOf(target, answer)];
  if (status >= 500 && !OUTAGES.has(status)) faults.push(`${status} was answered`);
  if (status >= 400) {
    const changed = changedTables(target.url, before, await digest.read());
    if (changed.length > 0) faults.push(`refused, and changed ${changed.join(", ")}`);
  } else {
    const body = bodyOf(options);
    const fault = body === undefined ? undefined : contract.bodyFaultOf(target, body);
    if (fault !== undefined) faults.push(`accepted, though ${fault}`);
    if (isHalved(options.payload) && answer.body.includes("\ufffd")) {
      faults.push("half of a character was accepted, and became another");
    }
  }
  const found = faults.filter((fault) => fault !== undefined);
  if (found.length > 0) throw new Error([...found, ...shown(options, answer)].join("\n"));
  return status;
}

/** Whether a body has half of a character, and none that has lost its other half before. */
function isHalved(payload: InjectOptions["payload"]): boolean {
  return typeof payload === "string" && /\\ud[89a-f]/i.test(payload) && !/\ufffd/.test(payload);
}

/** A request and its answer, for whoever looks for the cause; the last line of the log tells of a 500. */
function shown({ method, url, headers, payload }: InjectOptions, answer: InjectResponse): string[] {
  return [
    `${method} ${JSON.stringify(url)} ${JSON.stringify(headers)}`,
    (Buffer.isBuffer(payload) ? payload.toString() : JSON.stringify(payload ?? null)).slice(
      0,
      SHOWN_LENGTH_MAX,
    ),
    `→ ${answer.statusCode} ${answer.body.slice(0, SHOWN_LENGTH_MAX)}`,
    app.logLines.at(-1)?.slice(0, SHOWN_LENGTH_MAX) ?? "",
  ];
}

function count({ name }: Target, status: number): void {
  const row = counts.get(name) ?? { requests: 0, "2xx": 0, "4xx": 0, "5xx": 0 };
  row.requests += 1;
  if (status < 300) row["2xx"] += 1;
  else if (status >= 500) row["5xx"] += 1;
  else if (status >= 400) row["4xx"] += 1;
  counts.set(name, row);
}

/** Sends what is generated for an operation, the valid request first. */
async function fuzz(target: Target): Promise<void> {
  let base: { readonly made: Base; uses: number } | undefined;
  const property = fc.asyncProperty(casesOf(target, document), async (given) => {
    base ??= { made: await makeBase(target), uses: 0 };
    const { made } = base;
    base.uses += 1;
    const isWorn = base.uses >= REQUESTS_PER_BASE;
    let status: number | undefined;
    try {
      status = await check(target, made, given);
    } finally {
      // What is changed or failed is no valid request any more.
      const isUsedUp = status === undefined || (status < 300 && target.method !== "GET");
      if (isUsedUp || isWorn) base = undefined;
    }
  });
  const certain = certainCasesOf(target, document);
  await fc.assert(property, {
    // Of each operation another: or all of them would meet the same cases.
    seed: SEED * 1_000 + OPERATION_NAMES.indexOf(target.name),
    numRuns: SIZE + certain.length,
    examples: certain.map((given): [Case] => [given]),
    interruptAfterTimeLimit: TIMEOUT_MS - 10_000,
  });
}

test("every operation of the OpenAPI document has a recipe, and no other", () => {
  expect(OPERATION_NAMES.toSorted()).toEqual(
    targetsOf(document)
      .map(({ name }) => name)
      .toSorted(),
  );
});

describe("whatever is sent, the answer is declared, no 5xx, and a refusal changes nothing:", () => {
  test.each(OPERATION_NAMES)(
    "%s",
    async (name) => {
      const target = targetsOf(document).find((one) => one.name === name);
      if (!target) throw new Error(`There is no operation ${name}`);
      await fuzz(target).catch((error: unknown) => {
        const again = `SEED=${SEED} SIZE=${SIZE} npx vitest run src/fuzz.test.ts -t '${name}'`;
        throw new Error(`again: ${again}`, { cause: error });
      });

      expect(counts.get(name)).toMatchObject({ "2xx": expect.toSatisfy((n: number) => n > 0) });
    },
    TIMEOUT_MS,
  );
});
