import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, unique, World } from "../../test/world.ts";

const A = "/api/access-control";

let app: TestApp;
let tenant: TestTenant;
let world: World;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
});

/** What somebody may do in C, as the API says. */
async function permissionsOf(person: Person): Promise<string[]> {
  const { body } = await world.as(person).get(`${A}/my-permissions/?company=${world.company}`);
  return (body as { permissions: string[] }).permissions;
}

async function roleOf(person: Person): Promise<number> {
  const [row] = await tenant.sql<{ role: number }[]>`
    select ur.role from user_company_roles ur join user_companies m on m.id = ur.user_company
     where m."user" = ${person.id} order by ur.id desc limit 1`;
  return row?.role ?? 0;
}

describe("what somebody may do", () => {
  test("is what the roles grant together", async () => {
    const person = await world.memberHolding(["members.view"]);
    await world.assign(await world.membershipOf(person.id), await world.role(["audit.view"]));

    expect(await permissionsOf(person)).toEqual(["audit.view", "members.view"]);
  });

  test("is never what one role denies, whichever others grant it", async () => {
    const person = await world.memberHolding(["members.view", "audit.view"], ["roles.manage"]);
    const denying = await world.memberHolding(["audit.view"], []);
    const role = await roleOf(denying);
    await tenant.sql`
      insert into role_permissions (role, permission, granted)
      values (${role}, ${await world.permission("members.view")}, false)`;
    await world.assign(await world.membershipOf(person.id), role);

    expect(await permissionsOf(person)).toEqual(["audit.view"]);
    expect(
      (await world.as(person).get(`/api/account/users/?company=${world.company}`)).status,
    ).toBe(403);
  });

  test("is everything for owner, admin and the tenant's admins, also when a role denies", async () => {
    const admin = await world.person("admin");
    const denying = await world.memberHolding([], ["members.view"]);
    await world.assign(await world.membershipOf(admin.id), await roleOf(denying));

    for (const person of [admin, await world.person("owner"), await world.person("tenant admin")]) {
      expect(await permissionsOf(person)).toContain("members.view");
    }
  });

  test("ends with the membership, the role, its permission, and the company's", async () => {
    const steps: [string, (membership: number, role: number) => Promise<unknown>][] = [
      [
        "deactivated",
        (m) => tenant.sql`update user_companies set is_active = false where id = ${m}`,
      ],
      ["removed", (m) => tenant.sql`update user_companies set deleted_at = now() where id = ${m}`],
      ["role deleted", (_, r) => tenant.sql`update roles set deleted_at = now() where id = ${r}`],
      [
        "role taken",
        (m) =>
          tenant.sql`update user_company_roles set deleted_at = now() where user_company = ${m}`,
      ],
      [
        "permission taken",
        (_, r) => tenant.sql`update role_permissions set deleted_at = now() where role = ${r}`,
      ],
    ];
    for (const [name, end] of steps) {
      const person = await world.memberHolding(["members.view"]);
      const path = `/api/account/users/?company=${world.company}`;
      const before = await world.as(person).get(path);
      await end(await world.membershipOf(person.id), await roleOf(person));
      const after = await world.as(person).get(path);

      expect({ name, before: before.status }).toEqual({ name, before: 200 });
      expect([403, 404]).toContain(after.status);
    }
  });

  test("shows on the next request of another process", async () => {
    const replica = await app.startReplica();
    const owner = await world.person("owner");
    const person = await world.memberHolding(["members.view"]);
    const ask = async () => {
      const path = `/api/account/users/?company=${world.company}`;
      return (await replica.client(tenant).get(path, { token: person.token ?? "" })).status;
    };

    const before = await ask();
    const [assignment] = await tenant.sql<{ id: number }[]>`
      select ur.id from user_company_roles ur
       where ur.user_company = ${await world.membershipOf(person.id)} and ur.role = ${await roleOf(person)}`;
    await world.as(owner).delete(`${A}/user-company-roles/${assignment?.id}/`);
    const after = await ask();

    expect([before, after]).toEqual([200, 403]);
  });

  test("comes from one query that reads no big table from end to end", async () => {
    const other = await app.createTenant();
    await other.sql`
      insert into users (username, full_name, primary_mobile)
      select 'u' || n, 'U', '+2011' || lpad(n::text, 8, '0') from generate_series(1, 5000) as n`;
    await other.sql`insert into companies (name, create_by) select 'c' || n, 1 from generate_series(1, 200) n`;
    await other.sql`
      insert into user_companies ("user", company)
      select u.id, c.id from users u join companies c on (u.id + c.id) % 20 = 0`;
    await other.sql`
      insert into roles (role, company) select 'r' || n, 1 + n % 200 from generate_series(1, 10000) n`;
    await other.sql`
      insert into role_permissions (role, permission)
      select r.id, p.id from roles r, permissions p where not r.is_system_role and p.id <= 3`;
    await other.sql`
      insert into user_company_roles (user_company, role)
      select m.id, r.id from user_companies m join roles r on r.company = m.company and r.id % 7 = 0 and m.id % 5 = 0`;
    await other.sql`analyze`;
    const { accessStatement } = await import("./access.ts");
    const { text, values } = accessStatement(100, 20);
    const plan = JSON.stringify(
      await other.sql.unsafe(
        `explain (format json) ${text}`,
        values.map((value) => value ?? ""),
      ),
    );

    for (const table of [
      "users",
      "user_companies",
      "user_company_roles",
      "roles",
      "role_permissions",
    ]) {
      expect(plan).not.toMatch(new RegExp(`"Node Type":"Seq Scan"[^}]*"Relation Name":"${table}"`));
    }
    expect(plan).toContain("Index");
  });
});

describe("nobody gives more than they hold:", () => {
  test("a role's permission, to their own role or another", async () => {
    const manager = await world.memberHolding(["roles.manage"]);
    const own = await roleOf(manager);
    const give = (role: number, permission: number, granted = true) =>
      world.as(manager).post(`${A}/role-permissions/`, { role, permission, granted });
    const held = await world.permission("roles.manage");
    const other = await world.permission("company.update");

    expect((await give(own, other)).status).toBe(403);
    expect((await give(await world.role(), other)).status).toBe(403);
    expect((await give(await world.role(), other, false)).status).toBe(403);
    expect((await give(await world.role(), held)).status).toBe(201);
    expect(await permissionsOf(manager)).toEqual(["roles.manage"]);
  });

  test("by taking a denial from their own role", async () => {
    const manager = await world.memberHolding(["roles.manage", "company.update"], []);
    const role = await roleOf(manager);
    const denying = await world.memberHolding([], ["company.update"]);
    await world.assign(await world.membershipOf(manager.id), await roleOf(denying));
    const [denial] = await tenant.sql<{ id: number }[]>`
      select id from role_permissions where role = ${await roleOf(denying)}`;
    expect(role).not.toBe(await roleOf(denying));

    const { status } = await world.as(manager).delete(`${A}/role-permissions/${denial?.id}/`);

    expect(status).toBe(403);
    expect(await permissionsOf(manager)).toEqual(["roles.manage"]);
  });

  test("by taking the role that denies, or deleting it", async () => {
    const denying = await world.memberHolding([], ["company.update"]);
    const deniedRole = await roleOf(denying);
    const manager = await world.memberHolding(["members.manage", "roles.manage", "company.update"]);
    const assignment = await world.assign(await world.membershipOf(manager.id), deniedRole);

    const taken = await world.as(manager).delete(`${A}/user-company-roles/${assignment}/`);
    const deleted = await world.as(manager).delete(`${A}/roles/${deniedRole}/`);

    expect([taken.status, deleted.status]).toEqual([403, 403]);
    expect(await permissionsOf(manager)).toEqual(["members.manage", "roles.manage"]);
  });

  test("a role to themselves or to somebody else: Owner, Admin, or one that grants more", async () => {
    const manager = await world.memberHolding(["members.manage"]);
    const colleague = await world.person("member without");
    const stronger = await world.role(["members.manage", "audit.view"]);
    const equal = await world.role(["members.manage"]);
    const give = async (person: Person, role: number) =>
      (
        await world.as(manager).post(`${A}/user-company-roles/`, {
          user_company: await world.membershipOf(person.id),
          role,
        })
      ).status;

    for (const person of [manager, colleague]) {
      for (const role of [
        await world.systemRole("Owner"),
        await world.systemRole("Admin"),
        stronger,
      ]) {
        expect(await give(person, role)).toBe(403);
      }
    }
    expect(await give(colleague, equal)).toBe(201);
    expect(await permissionsOf(colleague)).toEqual(["members.manage"]);
  });

  test("an Admin makes no Owner, an Owner does", async () => {
    const role = await world.systemRole("Owner");
    const colleague = await world.person("member without");
    const body = { user_company: await world.membershipOf(colleague.id), role };

    const byAdmin = await world
      .as(await world.person("admin"))
      .post(`${A}/user-company-roles/`, body);
    const byOwner = await world
      .as(await world.person("owner"))
      .post(`${A}/user-company-roles/`, body);

    expect([byAdmin.status, byOwner.status]).toEqual([403, 201]);
  });

  test("nor changes who holds more", async () => {
    const manager = await world.memberHolding(["members.manage"]);
    const stronger = await world.memberHolding(["members.manage", "audit.view"]);
    const weaker = await world.memberHolding([]);
    const remove = async (person: Person) =>
      (
        await world
          .as(manager)
          .delete(`${A}/user-companies/${await world.membershipOf(person.id)}/`)
      ).status;

    expect(await remove(stronger)).toBe(403);
    expect(await remove(await world.person("admin"))).toBe(403);
    expect(await remove(await world.person("owner"))).toBe(403);
    expect(await remove(weaker)).toBe(204);
  });
});

describe("the company of the row decides:", () => {
  test("a role of another company cannot be given here, nor by whom it is not theirs", async () => {
    const owner = await world.person("owner");
    const colleague = await world.person("member without");
    const elsewhere = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
    const foreignRole = await elsewhere.role(["audit.view"]);
    const body = { user_company: await world.membershipOf(colleague.id), role: foreignRole };

    expect((await world.as(owner).post(`${A}/user-company-roles/`, body)).status).toBe(400);
    expect((await world.as(owner).get(`${A}/roles/${foreignRole}/`)).status).toBe(404);
    expect((await world.as(owner).patch(`${A}/roles/${foreignRole}/`, { desc: "x" })).status).toBe(
      404,
    );
    expect((await world.as(owner).delete(`${A}/roles/${foreignRole}/`)).status).toBe(404);
  });

  test("naming one's own company in a body does not help", async () => {
    const owner = await world.person("owner");
    const elsewhere = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
    const foreignRole = await elsewhere.role();

    const { status } = await world
      .as(owner)
      .put(`${A}/roles/${foreignRole}/`, { role: "x", desc: "", company: world.company });

    expect(status).toBe(404);
  });

  test("a right that is taken while the change waits is gone for the change", async () => {
    const manager = await world.memberHolding(["roles.manage"]);
    const role = await world.role();
    let commit: () => void = () => undefined;
    const mayCommit = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const membership = await world.membershipOf(manager.id);
    let hold: () => void = () => undefined;
    const holds = new Promise<void>((resolve) => {
      hold = resolve;
    });
    // Somebody else holds the company and takes the right, and has not committed yet.
    const taking = tenant.sql.begin(async (tx) => {
      await tx`select 1 from companies where id = ${world.company} for no key update`;
      await tx`update user_company_roles set deleted_at = now() where user_company = ${membership}`;
      hold();
      await mayCommit;
    });
    await holds;

    const changing = world.as(manager).patch(`${A}/roles/${role}/`, { desc: "Taken over" });
    await waitForLock();
    commit();
    await taking;

    expect((await changing).status).toBe(403);
    const [row] = await tenant.sql`select "desc" from roles where id = ${role}`;
    expect(row).toEqual({ desc: "" });
  });
});

/** Until somebody waits for a lock of this database. */
async function waitForLock(): Promise<void> {
  for (;;) {
    const waiting = await app.registry`
      select 1 from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock'`;
    if (waiting.length > 0) return;
  }
}

describe("a role's name", () => {
  test("is the company's own, and none of a system role", async () => {
    const owner = await world.person("owner");
    const name = unique();
    const make = (role: string) =>
      world.as(owner).post(`${A}/roles/`, { role, company: world.company });

    expect((await make(name)).status).toBe(201);
    expect((await make(name.toUpperCase())).status).toBe(409);
    expect((await make("owner")).status).toBe(409);
  });

  test("can be taken again once the role is deleted, which needs that nobody has it", async () => {
    const owner = await world.person("owner");
    const name = unique();
    const { body } = await world
      .as(owner)
      .post(`${A}/roles/`, { role: name, company: world.company });
    const { id } = body as { id: number };
    const colleague = await world.person("member without");
    const assignment = await world.assign(await world.membershipOf(colleague.id), id);

    const inUse = await world.as(owner).delete(`${A}/roles/${id}/`);
    await world.as(owner).delete(`${A}/user-company-roles/${assignment}/`);
    const free = await world.as(owner).delete(`${A}/roles/${id}/`);
    const again = await world.as(owner).post(`${A}/roles/`, { role: name, company: world.company });

    expect([inUse.status, free.status, again.status]).toEqual([409, 204, 201]);
  });

  test.each([
    ["is_system_role", true],
    ["id", 1],
    ["is_deleted", false],
  ])("and no %s is taken from a body", async (field, value) => {
    const owner = await world.person("owner");

    const { status } = await world
      .as(owner)
      .post(`${A}/roles/`, { role: unique(), company: world.company, [field]: value });

    expect(status).toBe(400);
  });

  test("of a system role cannot be changed, nor what it allows, not even by the tenant's admin", async () => {
    const admin = await world.person("tenant admin");
    const role = await world.systemRole("Member");
    const permission = await world.permission("audit.view");

    expect((await world.as(admin).patch(`${A}/roles/${role}/`, { role: "X" })).status).toBe(409);
    expect((await world.as(admin).delete(`${A}/roles/${role}/`)).status).toBe(409);
    expect(
      (await world.as(admin).post(`${A}/role-permissions/`, { role, permission })).status,
    ).toBe(409);
  });
});
