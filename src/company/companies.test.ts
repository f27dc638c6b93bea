import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, unique, World } from "../../test/world.ts";
import type { Company } from "./schemas.ts";

let app: TestApp;
let tenant: TestTenant;
let passwordHash: string;
let world: World;
let owner: Person;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
  passwordHash = await app.services.passwords.hash(PASSWORD);
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, passwordHash);
  owner = await world.person("owner");
});

function as(person: Person) {
  return world.as(person);
}

async function make(person: Person, fields: object = {}): Promise<Company> {
  const { status, body } = await as(person).post("/api/company/", { name: unique(), ...fields });
  if (status !== 201) throw new Error(`${status}: ${JSON.stringify(body)}`);
  // What the contract says a 201 is; the tests below look at it.
  return body as Company;
}

async function entriesOf(company: number) {
  return tenant.sql`
    select entity_type, action, old_values, new_values, user_id
      from activity_logs where company_id = ${company} order by id`;
}

describe("POST /api/company/", () => {
  test("makes an active company with settings, whose creator is Owner, and logs it", async () => {
    const name = unique();
    const { status, body } = await as(owner).post("/api/company/", { name });

    expect(status).toBe(201);
    expect(body).toMatchObject({
      name,
      logo: null,
      description: "",
      address: "",
      status: "active",
      create_by: owner.id,
      parent_company: null,
      is_parent_company: false,
      settings: {
        default_language: "en",
        default_currency: "USD",
        timezone: "UTC",
        fiscal_year_start_month: 1,
        feature_flags: {},
      },
      deleted_at: null,
      is_deleted: false,
    });
    const { id } = body as Company;
    const roles = await tenant.sql`
      select r.role, m.is_active
        from user_companies m
        join user_company_roles ur on ur.user_company = m.id
        join roles r on r.id = ur.role
       where m.company = ${id} and m."user" = ${owner.id}`;
    expect(roles).toEqual([{ role: "Owner", is_active: true }]);
    expect(await entriesOf(id)).toMatchObject([
      { entity_type: "Company", action: "CREATE", old_values: {}, user_id: owner.id },
    ]);
  });

  test("writes nothing at all when its log entry cannot be written", async () => {
    const other = await app.createTenant();
    const { access } = await app.logIn(other, other.owner.email);
    await other.sql.unsafe(`revoke insert on activity_logs from t_${other.id}`);

    const { status } = await app
      .client(other)
      .post("/api/company/", { name: "Acme" }, { token: access });

    expect(status).toBe(500);
    expect(await other.sql`select id from companies`).toEqual([]);
    expect(await other.sql`select id from user_companies`).toEqual([]);
  });

  test("twenty times at once of one name makes one company", async () => {
    const name = unique();

    const answers = await Promise.all(
      Array.from({ length: 20 }, () => as(owner).post("/api/company/", { name })),
    );

    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
    expect(await tenant.sql`select id from companies where name = ${name}`).toHaveLength(1);
  });

  test("refuses a name that differs in case alone, and takes it once the other is deleted", async () => {
    const { id, name } = await make(owner);

    const taken = await as(owner).post("/api/company/", { name: name.toUpperCase() });
    await as(owner).delete(`/api/company/${id}/`);
    const free = await as(owner).post("/api/company/", { name: name.toUpperCase() });

    expect([taken.status, free.status]).toEqual([409, 201]);
  });

  test("of two companies made at once by one user, one is the primary", async () => {
    const person = await world.person("other company");
    await tenant.sql`delete from user_company_roles where user_company in (
      select id from user_companies where "user" = ${person.id})`;
    await tenant.sql`delete from user_companies where "user" = ${person.id}`;

    await Promise.all([make(person), make(person), make(person)]);

    const primary = await tenant.sql`
      select id from user_companies where "user" = ${person.id} and is_primary_company`;
    expect(primary).toHaveLength(1);
  });

  test.each([
    ["no name", {}, "name"],
    ["an empty name", { name: "  " }, "name"],
    ["a name of 201 characters", { name: "x".repeat(201) }, "name"],
    ["a name with a NUL", { name: "A\u0000" }, "name"],
    ["a name with half a character", { name: "A\ud800" }, "name"],
    ["a name that is a number", { name: 1 }, "name"],
    ["an id of its own", { name: "x", id: 1 }, "id"],
    ["another creator", { name: "x", create_by: 1 }, "create_by"],
    ["a status", { name: "x", status: "deleted" }, "status"],
    ["settings", { name: "x", settings: {} }, "settings"],
    ["is_deleted", { name: "x", is_deleted: true }, "is_deleted"],
    ["a parent that is a text", { name: "x", parent_company: "1" }, "parent_company"],
    ["a parent past bigint", { name: "x", parent_company: 2 ** 63 }, "parent_company"],
  ])("refuses %s, and makes nothing", async (_, body, field) => {
    const before = await tenant.sql`select count(*) from companies`;

    const answer = await as(owner).post("/api/company/", body);

    expect(answer).toMatchObject({ status: 400, body: { errors: { [field]: expect.anything() } } });
    expect(await tenant.sql`select count(*) from companies`).toEqual(before);
  });
});

describe("GET /api/company/", () => {
  test("lists the caller's companies in the order asked for, page by page", async () => {
    const person = await world.person("nobody");
    expect((await as(person).get("/api/company/")).status).toBe(401);
    const prefix = unique();
    const mine = [
      await make(owner, { name: `${prefix} b` }),
      await make(owner, { name: `${prefix} A` }),
    ];
    await make(await world.person("other company"), { name: `${prefix} c` });

    const names = async (query: string) => {
      const { body } = await as(owner).get(`/api/company/?search=${prefix}&${query}`);
      return (body as { results: Company[] }).results.map(({ name }) => name.slice(-1));
    };

    expect(await names("ordering=name")).toEqual(["A", "b"]);
    expect(await names("ordering=-name")).toEqual(["b", "A"]);
    expect(await names("ordering=created_at")).toEqual(["b", "A"]);
    expect(await names("ordering=-created_at")).toEqual(["A", "b"]);
    expect(await names("page_size=1&page=2")).toEqual(["b"]);
    expect(mine).toHaveLength(2);
  });

  test.each([["%"], ["_"], ["\\"]])("searches for a %s as it is", async (sign) => {
    const name = `${unique()}${sign}end`;
    await make(owner, { name });
    await make(owner, { name: name.replace(sign, "-") });

    const { body } = await as(owner).get(
      `/api/company/?search=${encodeURIComponent(name.slice(-6))}`,
    );

    expect(body).toMatchObject({ count: 1, results: [{ name }] });
  });

  test("gives what is directly below a company", async () => {
    const parent = await make(owner);
    const child = await make(owner, { parent_company: parent.id });
    await make(owner, { parent_company: child.id });

    const { body } = await as(owner).get(`/api/company/?parent=${parent.id}`);

    expect(body).toMatchObject({ count: 1, results: [{ id: child.id }] });
  });

  test.each([["ordering=id"], ["page=0"], ["page_size=101"], ["parent=x"], ["colour=red"]])(
    "refuses ?%s",
    async (query) => {
      expect((await as(owner).get(`/api/company/?${query}`)).status).toBe(400);
    },
  );

  test("has no page past the end", async () => {
    expect((await as(owner).get("/api/company/?page=999")).status).toBe(404);
  });
});

describe("PATCH and PUT /api/company/{id}/", () => {
  test("PATCH changes what was sent, and logs these fields alone, old and new", async () => {
    const { id, name } = await make(owner, { description: "Old" });

    const { status, body } = await as(owner).patch(`/api/company/${id}/`, { description: "New" });

    expect({ status, body }).toMatchObject({ status: 200, body: { name, description: "New" } });
    expect((await entriesOf(id))[1]).toMatchObject({
      action: "UPDATE",
      old_values: { description: "Old" },
      new_values: { description: "New" },
    });
  });

  test("a change of nothing leaves no entry", async () => {
    const { id, name } = await make(owner);

    await as(owner).patch(`/api/company/${id}/`, { name });
    await as(owner).patch(`/api/company/${id}/`, {});

    expect(await entriesOf(id)).toHaveLength(1);
  });

  test("PUT needs every field, and replaces them all", async () => {
    const { id } = await make(owner, { description: "Old", address: "Old" });
    const all = {
      name: unique(),
      description: "",
      address: "",
      parent_company: null,
      is_parent_company: true,
      status: "active",
    };

    const partial = await as(owner).put(`/api/company/${id}/`, { name: unique() });
    const whole = await as(owner).put(`/api/company/${id}/`, all);

    expect(partial.status).toBe(400);
    expect(whole).toMatchObject({ status: 200, body: all });
  });

  test("a status goes from active to deactivated and back, and no other way", async () => {
    const { id } = await make(owner);
    const become = async (status: string) =>
      (await as(owner).patch(`/api/company/${id}/`, { status })).status;

    expect(await become("deleted")).toBe(409);
    expect(await become("deactivated")).toBe(200);
    expect(await become("active")).toBe(200);
    expect(await become("archived")).toBe(400);
    expect(await become("deactivated")).toBe(200);
    expect(await become("deleted")).toBe(200);
    expect(await become("active")).toBe(404);
    expect((await entriesOf(id)).map(({ action }) => action as string)).toEqual([
      "CREATE",
      "UPDATE",
      "UPDATE",
      "UPDATE",
      "DELETE",
    ]);
  });

  test("of twenty parallel changes each is logged with what it found", async () => {
    const { id, description } = await make(owner);

    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        as(owner).patch(`/api/company/${id}/`, { description: `change ${n}` }),
      ),
    );

    const changes = (await entriesOf(id)).slice(1);
    expect(changes).toHaveLength(20);
    let before = description;
    for (const { old_values: old, new_values: now } of changes) {
      expect(old).toEqual({ description: before });
      before = (now as { description: string }).description;
    }
  });

  test("refuses the token of another tenant, where the id is one as well", async () => {
    const other = await app.createTenant();
    const { access } = await app.logIn(other, other.owner.email);
    const { id, name } = await make(owner);

    const { status, body } = await app
      .client(tenant)
      .patch(`/api/company/${id}/`, { name: "Taken over" }, { token: access });

    expect({ status, body }).toMatchObject({
      status: 401,
      body: { code: "token_tenant_mismatch" },
    });
    const [row] = await tenant.sql`select name from companies where id = ${id}`;
    expect(row).toEqual({ name });
  });
});

describe("DELETE /api/company/{id}/", () => {
  test("ends it for every route, and its rows stay", async () => {
    const { id } = await make(owner);
    const [membership] = await tenant.sql<{ id: number }[]>`
      select id from user_companies where company = ${id}`;

    const { status } = await as(owner).delete(`/api/company/${id}/`);

    expect(status).toBe(204);
    for (const path of [
      `/api/company/${id}/`,
      `/api/company/${id}/settings/`,
      `/api/company/${id}/subsidiaries/`,
      `/api/company/${id}/logo/`,
      `/api/access-control/user-companies/${membership?.id}/`,
      `/api/access-control/my-permissions/?company=${id}`,
      `/api/access-control/invitations/?company=${id}`,
      `/api/account/users/?company=${id}`,
      `/api/audit/activity-logs/?company=${id}`,
    ]) {
      expect({ path, status: (await as(owner).get(path)).status }).toEqual({ path, status: 404 });
    }
    expect((await as(owner).delete(`/api/company/${id}/`)).status).toBe(404);
    const [row] = await tenant.sql`select status, is_deleted from companies where id = ${id}`;
    expect(row).toEqual({ status: "deleted", is_deleted: true });
  });

  test("waits until there is nothing below it", async () => {
    const parent = await make(owner);
    const child = await make(owner, { parent_company: parent.id });

    const refused = await as(owner).delete(`/api/company/${parent.id}/`);
    await as(owner).delete(`/api/company/${child.id}/`);
    const deleted = await as(owner).delete(`/api/company/${parent.id}/`);

    expect([refused.status, deleted.status]).toEqual([409, 204]);
  });

  test("racing with a company that is put below it leaves none below a deleted one", async () => {
    for (let round = 0; round < 10; round += 1) {
      const parent = await make(owner);
      await Promise.all([
        as(owner).delete(`/api/company/${parent.id}/`),
        as(owner).post("/api/company/", { name: unique(), parent_company: parent.id }),
      ]);
    }

    const orphans = await tenant.sql`
      select c.id from companies c join companies p on p.id = c.parent_company
       where c.deleted_at is null and p.deleted_at is not null`;
    expect(orphans).toEqual([]);
  });
});
