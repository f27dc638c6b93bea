import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, World } from "../../test/world.ts";

let app: TestApp;
let tenant: TestTenant;
let world: World;
let owner: Person;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
  owner = await world.person("owner");
});

function change(body: object) {
  return app
    .client(tenant)
    .patch(`/api/company/${world.company}/settings/`, body, { token: owner.token ?? "" });
}

/** As a text, since what is too deep cannot be written out here either. */
async function changeFlags(flags: string): Promise<number> {
  const { statusCode } = await app.app.inject({
    method: "PATCH",
    url: `/api/company/${world.company}/settings/`,
    headers: {
      "x-tenant": tenant.subdomain,
      authorization: `Bearer ${owner.token}`,
      "content-type": "application/json",
    },
    body: `{"feature_flags":${flags}}`,
  });
  return statusCode;
}

async function stored(): Promise<unknown> {
  return tenant.sql`
    select default_language, default_currency, timezone, fiscal_year_start_month, feature_flags
      from company_settings where company = ${world.company}`;
}

describe("PATCH /api/company/{id}/settings/", () => {
  test("changes what was sent, logs it, and notifies the other members alone", async () => {
    const member = await world.person("member without");
    const gone = await world.person("member without");
    await tenant.sql`update user_companies set is_active = false where "user" = ${gone.id}`;

    const { status, body } = await change({ timezone: "Africa/Cairo", fiscal_year_start_month: 7 });

    expect({ status, body }).toMatchObject({
      status: 200,
      body: { timezone: "Africa/Cairo", fiscal_year_start_month: 7, default_currency: "USD" },
    });
    const entries = await tenant.sql`
      select entity_type, action, old_values, new_values from activity_logs
       where company_id = ${world.company}`;
    expect(entries).toEqual([
      {
        entity_type: "CompanySettings",
        action: "UPDATE",
        old_values: { timezone: "UTC", fiscal_year_start_month: 1 },
        new_values: { timezone: "Africa/Cairo", fiscal_year_start_month: 7 },
      },
    ]);
    const told = await tenant.sql`
      select user_id from notifications
       where user_id in (${owner.id}, ${member.id}, ${gone.id}) and message like 'The settings of %'`;
    expect(told).toEqual([{ user_id: member.id }]);
  });

  test("a change of nothing is neither logged nor told", async () => {
    const member = await world.person("member without");

    await change({ timezone: "UTC" });

    expect(
      await tenant.sql`select 1 from activity_logs where company_id = ${world.company}`,
    ).toEqual([]);
    expect(await tenant.sql`select 1 from notifications where user_id = ${member.id}`).toEqual([]);
  });

  test.each([
    ["default_language", "en-us", "en-US"],
    ["default_language", "zh-Hant-TW", "zh-Hant-TW"],
    ["default_currency", "EGP", "EGP"],
    ["timezone", "Asia/Calcutta", "Asia/Calcutta"],
    ["feature_flags", { a: { b: [1, null] } }, { a: { b: [1, null] } }],
  ])("takes %s %o", async (field, value, kept) => {
    expect(await change({ [field]: value })).toMatchObject({
      status: 200,
      body: { [field]: kept },
    });
  });

  test.each([
    ["default_language", "xx"],
    ["default_language", "en_US"],
    ["default_language", "en-ZY"],
    ["default_language", ""],
    ["default_language", "en-u-ca-gregory-nu-latn-hc-h23-ka-shifted"],
    ["default_currency", "egp"],
    ["default_currency", "DEM"],
    ["default_currency", "HRK"],
    ["timezone", "Cairo"],
    ["timezone", "+02:00"],
    ["timezone", "PST"],
    ["timezone", "Africa/Cairo\u0000"],
    ["fiscal_year_start_month", 0],
    ["fiscal_year_start_month", 13],
    ["fiscal_year_start_month", 1.5],
    ["fiscal_year_start_month", "1"],
    ["feature_flags", []],
    ["feature_flags", null],
    ["feature_flags", "on"],
    ["feature_flags", { a: "\u0000" }],
    ["feature_flags", { a: "\ud800" }],
    ["feature_flags", { "\ud800": 1 }],
    ["feature_flags", { a: "x".repeat(16_384) }],
    ["company", 1],
  ])("refuses %s %j, and changes nothing", async (field, value) => {
    const before = await stored();

    const answer = await change({ [field]: value });

    expect(answer).toMatchObject({ status: 400, body: { code: "validation_error" } });
    expect(await stored()).toEqual(before);
  });

  test("takes feature flags of 16 KB and of 20 levels, and refuses more", async () => {
    const ofBytes = (bytes: number) => `{"a":"${"x".repeat(bytes - '{"a":""}'.length)}"}`;
    const ofLevels = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;

    expect(await changeFlags(ofBytes(16_384))).toBe(200);
    expect(await changeFlags(ofBytes(16_385))).toBe(400);
    expect(await changeFlags(ofLevels(20))).toBe(200);
    expect(await changeFlags(ofLevels(21))).toBe(400);
    expect(await changeFlags(`{"a":${"[".repeat(10_000)}${"]".repeat(10_000)}}`)).toBe(400);
  });

  test("keeps a flag called __proto__ out of objects", async () => {
    const status = await changeFlags('{"__proto__":{"polluted":true}}');

    expect(status).toBe(400);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });
});

describe("PUT /api/company/{id}/settings/", () => {
  test("needs every field", async () => {
    const before = await stored();

    const { status } = await app
      .client(tenant)
      .put(
        `/api/company/${world.company}/settings/`,
        { timezone: "UTC" },
        { token: owner.token ?? "" },
      );

    expect(status).toBe(400);
    expect(await stored()).toEqual(before);
  });
});
