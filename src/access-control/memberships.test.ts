import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, World } from "../../test/world.ts";

const A = "/api/access-control";

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
  // Of the two owners that C begins with, this one is left.
  await tenant.sql`
    update user_companies set deleted_at = now()
     where company = ${world.company} and "user" <> ${owner.id}`;
});

async function put(person: Person, membership: number, fields: object) {
  const [row] = await tenant.sql<{ user: number; company: number }[]>`
    select "user", company from user_companies where id = ${membership}`;
  return world.as(person).put(`${A}/user-companies/${membership}/`, {
    ...row,
    is_primary_company: false,
    is_active: true,
    ...fields,
  });
}

async function ownersOf(company: number): Promise<number> {
  const rows = await tenant.sql`
    select 1
      from user_companies m
      join user_company_roles ur on ur.user_company = m.id and ur.deleted_at is null
      join roles r on r.id = ur.role and r.is_system_role and r.role = 'Owner'
     where m.company = ${company} and m.is_active and m.deleted_at is null`;
  return rows.length;
}

describe("the last owner of a company", () => {
  test("is not removed, deactivated or demoted, by themselves or the tenant's admin", async () => {
    const membership = await world.membershipOf(owner.id);
    const [assignment] = await tenant.sql<{ id: number }[]>`
      select id from user_company_roles where user_company = ${membership}`;

    for (const person of [owner, await world.person("tenant admin")]) {
      const answers = [
        await world.as(person).delete(`${A}/user-companies/${membership}/`),
        await put(person, membership, { is_active: false }),
        await world.as(person).delete(`${A}/user-company-roles/${assignment?.id}/`),
      ];
      expect(answers.map(({ status }) => status)).toEqual([409, 409, 409]);
    }
    expect(await ownersOf(world.company)).toBe(1);
  });

  test("can go once there is another", async () => {
    const second = await world.person("owner");
    const membership = await world.membershipOf(owner.id);

    expect((await world.as(second).delete(`${A}/user-companies/${membership}/`)).status).toBe(204);
    expect(await ownersOf(world.company)).toBe(1);
  });

  test("is not somebody whose account is disabled", async () => {
    const disabled = await world.person("owner");
    await tenant.sql`update users set is_active = false where id = ${disabled.id}`;
    const membership = await world.membershipOf(owner.id);

    expect((await world.as(owner).delete(`${A}/user-companies/${membership}/`)).status).toBe(409);
  });

  test("stays when two remove each other at the same time", async () => {
    for (let round = 0; round < 12; round += 1) {
      const a = await world.person("owner");
      const b = await world.person("owner");
      await tenant.sql`
        update user_companies set deleted_at = now()
         where company = ${world.company} and deleted_at is null
           and "user" not in (${a.id}, ${b.id})`;
      const [ofA, ofB] = [await world.membershipOf(a.id), await world.membershipOf(b.id)];

      await Promise.all([
        world.as(a).delete(`${A}/user-companies/${ofB}/`),
        world.as(b).delete(`${A}/user-companies/${ofA}/`),
      ]);

      expect(await ownersOf(world.company)).toBe(1);
    }
  });
});

describe("POST /api/access-control/user-companies/", () => {
  test("takes nobody whom the caller does not see, and tells no such id from no id", async () => {
    const stranger = await world.user();
    const add = (user: number) =>
      world.as(owner).post(`${A}/user-companies/`, { user, company: world.company });

    const unseen = await add(stranger);
    const unknown = await add(2 ** 40);

    const without = (body: unknown) => ({ ...(body as object), request_id: "" });
    expect(unseen.status).toBe(400);
    expect(without(unseen.body)).toEqual(without(unknown.body));
    expect(await tenant.sql`select 1 from user_companies where "user" = ${stranger}`).toEqual([]);
  });

  test("makes a member of whom the caller sees, notifies and logs; twenty at once make one", async () => {
    const admin = await world.person("tenant admin");
    const user = await world.user();

    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        world.as(admin).post(`${A}/user-companies/`, { user, company: world.company }),
      ),
    );

    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
    const told = await tenant.sql`select message from notifications where user_id = ${user}`;
    expect(told).toMatchObject([{ message: expect.stringContaining("You were added to") }]);
    const logged = await tenant.sql`
      select user_id, entity_type, action from activity_logs
       where company_id = ${world.company} and entity_type = 'UserCompany'`;
    expect(logged).toEqual([{ user_id: admin.id, entity_type: "UserCompany", action: "CREATE" }]);
  });

  test("makes a member anew who was removed, with nothing of before", async () => {
    const admin = await world.person("tenant admin");
    const member = await world.memberHolding(["audit.view"]);
    await world.as(admin).delete(`${A}/user-companies/${await world.membershipOf(member.id)}/`);

    await world.as(admin).post(`${A}/user-companies/`, { user: member.id, company: world.company });

    const { body } = await world.as(member).get(`${A}/my-permissions/?company=${world.company}`);
    expect(body).toEqual({ company: world.company, permissions: [] });
  });
});

describe("PUT /api/access-control/user-companies/{id}/", () => {
  test("keeps the user and the company", async () => {
    const member = await world.person("member without");
    const membership = await world.membershipOf(member.id);

    expect((await put(owner, membership, { user: owner.id })).status).toBe(409);
    expect((await put(owner, membership, { company: world.otherCompany })).status).toBe(409);
    expect((await put(owner, membership, {})).status).toBe(200);
  });

  test("lets users choose their own primary company, one, and nothing else of it", async () => {
    const member = await world.person("member without");
    const inC = await world.membershipOf(member.id);
    const elsewhere = await world.member(member.id, world.otherCompany, ["Member"]);

    const statuses = await Promise.all([
      put(member, inC, { is_primary_company: true }),
      put(member, elsewhere, { is_primary_company: true }),
      put(member, inC, { is_primary_company: true }),
    ]);
    const deactivated = await put(member, inC, { is_active: false });

    expect(statuses.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(deactivated.status).toBe(403);
    const primary = await tenant.sql`
      select id from user_companies where "user" = ${member.id} and is_primary_company`;
    expect(primary).toHaveLength(1);
  });

  test("a deactivated member does not see the company any more, and is told", async () => {
    const member = await world.person("member without");

    await put(owner, await world.membershipOf(member.id), { is_active: false });

    expect((await world.as(member).get(`/api/company/${world.company}/`)).status).toBe(404);
    const told = await tenant.sql`select message from notifications where user_id = ${member.id}`;
    expect(told).toMatchObject([{ message: expect.stringContaining("was deactivated") }]);
  });
});

describe("DELETE /api/access-control/user-companies/{id}/", () => {
  test("lets users leave by themselves, and nobody else by themselves", async () => {
    const member = await world.person("member without");
    const colleague = await world.person("member without");
    const leave = (membership: number) =>
      world.as(member).delete(`${A}/user-companies/${membership}/`);

    expect((await leave(await world.membershipOf(colleague.id))).status).toBe(403);
    expect((await leave(await world.membershipOf(member.id))).status).toBe(204);
    expect((await world.as(member).get(`/api/company/${world.company}/`)).status).toBe(404);
  });

  test("ends the roles with the membership, so that lists show none of it", async () => {
    const member = await world.memberHolding(["audit.view"]);
    const membership = await world.membershipOf(member.id);

    await world.as(owner).delete(`${A}/user-companies/${membership}/`);

    const { body } = await world.as(owner).get(`${A}/user-company-roles/?user=${member.id}`);
    expect(body).toMatchObject({ count: 0 });
    expect((await world.as(owner).get(`${A}/user-companies/${membership}/`)).status).toBe(404);
  });
});

describe("roles of a member", () => {
  test("that are given and taken are logged, and told to the member, not to who did it", async () => {
    const member = await world.person("member without");
    const body = {
      user_company: await world.membershipOf(member.id),
      role: await world.systemRole("Admin"),
    };

    const given = await world.as(owner).post(`${A}/user-company-roles/`, body);
    const { id } = given.body as { id: number };
    await world.as(owner).delete(`${A}/user-company-roles/${id}/`);

    const told = await tenant.sql<{ message: string }[]>`
      select message from notifications where user_id = ${member.id} order by id`;
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^You are Admin of .+ now\.$/),
      expect.stringMatching(/^You are not Admin of .+ any more\.$/),
    ]);
    expect(await tenant.sql`select 1 from notifications where user_id = ${owner.id}`).toEqual([]);
    const logged = await tenant.sql<{ action: string; new_values: object }[]>`
      select action, user_id, new_values -> 'role' ->> 'role' as role from activity_logs
       where entity_type = 'UserCompanyRole' and entity_id = ${id} order by id`;
    expect(logged).toMatchObject([
      { action: "CREATE", user_id: owner.id, role: "Admin" },
      { action: "DELETE", user_id: owner.id },
    ]);
  });

  test("twenty times at once are one", async () => {
    const member = await world.person("member without");
    const body = { user_company: await world.membershipOf(member.id), role: await world.role() };

    const answers = await Promise.all(
      Array.from({ length: 20 }, () => world.as(owner).post(`${A}/user-company-roles/`, body)),
    );

    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
  });
});

describe("lists of memberships and roles", () => {
  test("show members their own alone, and viewers their company's alone", async () => {
    const member = await world.person("member without");
    const viewer = await world.memberHolding(["members.view"]);
    const elsewhere = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
    await elsewhere.person("member without");
    const usersIn = async (person: Person, query = "") => {
      const { body } = await world.as(person).get(`${A}/user-companies/?page_size=100&${query}`);
      return new Set((body as { results: { user: number }[] }).results.map(({ user }) => user));
    };

    expect(await usersIn(member)).toEqual(new Set([member.id]));
    expect(await usersIn(viewer)).toEqual(new Set([owner.id, member.id, viewer.id]));
    expect(await usersIn(viewer, `company=${elsewhere.company}`)).toEqual(new Set());
    expect(await usersIn(viewer, `user=${member.id}`)).toEqual(new Set([member.id]));
  });

  test("users/?company= lists its members to who may see them", async () => {
    const viewer = await world.memberHolding(["members.view"]);

    const { body } = await world
      .as(viewer)
      .get(`/api/account/users/?company=${world.company}&page_size=100`);

    const ids = (body as { results: { id: number }[] }).results.map(({ id }) => id);
    expect(new Set(ids)).toEqual(new Set([owner.id, viewer.id]));
  });
});
