import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { newEmail, PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { MadeInvitation, refused, tried } from "../../test/invitations.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { type Person, World } from "../../test/world.ts";
import { sha256 } from "../keys.ts";

const A = "/api/access-control";
const DAY_MS = 86_400_000;

const Listed = z.object({ results: z.array(z.object({ id: z.int() })) });

let app: TestApp;
let tenant: TestTenant;
let world: World;
let owner: Person;

beforeAll(async () => {
  app = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await app.createTenant();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
  owner = await world.person("owner");
});

const create = (person: Person, fields: object) =>
  world.as(person).post(`${A}/invitations/`, {
    email: newEmail(),
    company: world.company,
    ...fields,
  });

/** An invitation that the owner made. */
async function invite(fields: object = {}) {
  const role = await world.role();
  const { status, body } = await create(owner, { role, ...fields });
  expect(status).toBe(201);
  return MadeInvitation.parse(body);
}

const runOut = (id: number) => tenant.sql`
  update invitations set expires_at = now() - interval '1 second' where id = ${id}`;
const inDays = (days: number, seconds = 0) =>
  new Date(Date.now() + days * DAY_MS + seconds * 1_000).toISOString();
const statusesIn = async () =>
  (
    await tenant.sql<{ status: string }[]>`
      select status from invitations where company = ${world.company} order by id`
  ).map(({ status }) => status);

describe("POST /api/access-control/invitations/", () => {
  test("an owner invites an address, for seven days, with one entry in the log", async () => {
    const role = await world.systemRole("Member");
    const { id, email, expires_at: end, status } = await invite({ role });

    expect(status).toBe("pending");
    expect((end.getTime() - Date.now()) / DAY_MS).toBeCloseTo(7, 2);
    expect(
      await tenant.sql`
        select action, entity_id, user_id, old_values, new_values - 'expires_at' - 'id' as new_values
          from activity_logs
         where company_id = ${world.company} and entity_type = 'Invitation'`,
    ).toEqual([
      {
        action: "CREATE",
        entity_id: id,
        user_id: owner.id,
        old_values: {},
        new_values: {
          email,
          company: world.company,
          role,
          status: "pending",
          invited_by: owner.id,
        },
      },
    ]);
  });

  test("an address is kept in lower case, and is the same however it is written", async () => {
    const email = newEmail();
    expect((await invite({ email: ` ${email.toUpperCase()} ` })).email).toBe(email);

    const role = await world.role();
    expect(await tried(tenant, () => create(owner, { email: email.toUpperCase(), role }))).toEqual(
      refused(409, "conflict"),
    );
  });

  test.each([
    { ends: "in a minute", at: () => inDays(0, 60) },
    { ends: "just before ninety days are over", at: () => inDays(90, -60) },
    {
      ends: "at a time of another zone",
      at: () => inDays(1).replace(/\.\d+Z$/, "+14:00"),
    },
    // RFC 3339 allows it, PostgreSQL does not.
    { ends: "at a time nearly a day off", at: () => inDays(3).replace("Z", "+23:59") },
  ])("it may end $ends", async ({ at }) => {
    const expiresAt = at();
    expect((await invite({ expires_at: expiresAt })).expires_at).toEqual(new Date(expiresAt));
  });

  test.each([
    { ends: "a minute ago", at: () => inDays(0, -60) },
    { ends: "a minute after ninety days", at: () => inDays(90, 60) },
    { ends: "at a time that is past in its zone", at: () => inDays(0.5).replace("Z", "+14:00") },
    { ends: "in the year 0", at: () => "0000-01-01T00:00:00Z" },
    { ends: "in the year 9999", at: () => "9999-12-31T23:59:59-23:59" },
    { ends: "on a day that there is not", at: () => "2027-02-30T00:00:00Z" },
    { ends: "without a zone", at: () => inDays(3).replace("Z", "") },
    { ends: "with a very long fraction", at: () => `2020-01-01T00:00:00.${"1".repeat(500)}Z` },
    { ends: "at null", at: () => null },
    { ends: "at a number", at: () => Date.now() + DAY_MS },
    { ends: "with a NUL", at: () => `${inDays(3)}\0` },
  ])("it may not end $ends", async ({ at }) => {
    const role = await world.role();
    expect(await tried(tenant, () => create(owner, { role, expires_at: at() }))).toEqual(
      refused(400, "validation_error"),
    );
  });

  test.each([
    { what: "no address", fields: { email: undefined } },
    { what: "something that is no address", fields: { email: "ada" } },
    { what: "an address with a NUL", fields: { email: "a\0da@corp.test" } },
    { what: "an address with a lone surrogate", fields: { email: "a\uD800da@corp.test" } },
    { what: "an address with a second line", fields: { email: "ada@corp.test\nbcc: x@corp.test" } },
    { what: "two addresses", fields: { email: "ada@corp.test,bob@corp.test" } },
    { what: "a very long address", fields: { email: `${"a".repeat(250)}@corp.test` } },
    { what: "a role that there is not", fields: { role: 2 ** 40 } },
    { what: "a role beyond what is counted", fields: { role: 2 ** 53 } },
    { what: "a role as text", fields: { role: "1" } },
    { what: "a status", fields: { status: "accepted" } },
    { what: "a token", fields: { token: "x".repeat(43) } },
    { what: "an inviter", fields: { invited_by: 1 } },
  ])("with $what it is refused", async ({ fields }) => {
    const role = await world.role();
    expect(await tried(tenant, () => create(owner, { role, ...fields }))).toEqual(
      refused(400, "validation_error"),
    );
  });

  test("a role of another company is none of this one", async () => {
    const other = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
    const role = await other.role();
    expect(await tried(tenant, () => create(owner, { role }))).toEqual(
      refused(400, "validation_error"),
    );
  });

  test("of twenty that invite one address at once, one does", async () => {
    const role = await world.role();
    const email = newEmail();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => create(owner, { email, role })),
    );

    const made = answers.filter(({ status }) => status === 201);
    expect(made).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
    expect(await statusesIn()).toEqual(["pending"]);
  });

  test("who belongs to the company is not invited, active or not; who left it is", async () => {
    const member = await world.person("member without");
    const role = await world.role();
    const again = () => create(owner, { email: member.email, role });
    expect(await tried(tenant, again)).toEqual(refused(409, "conflict"));
    await tenant.sql`
      update user_companies set is_active = false where "user" = ${member.id}`;
    expect(await tried(tenant, again)).toEqual(refused(409, "conflict"));

    await tenant.sql`
      update user_companies set deleted_at = now() where "user" = ${member.id}`;
    expect((await again()).status).toBe(201);
  });

  test("one that ran out makes way for the next", async () => {
    const first = await invite();
    await runOut(first.id);

    await invite({ email: first.email });

    expect(await statusesIn()).toEqual(["expired", "pending"]);
  });

  test("a company that is not active invites nobody", async () => {
    const role = await world.role();
    await tenant.sql`update companies set status = 'deactivated' where id = ${world.company}`;
    expect(await tried(tenant, () => create(owner, { role }))).toEqual(refused(409, "conflict"));
    await tenant.sql`update companies set status = 'active' where id = ${world.company}`;
    expect((await create(owner, { role })).status).toBe(201);
  });

  test("a company has 500 pending ones at most; those that ran out do not count", async () => {
    const role = await world.role();
    const { company } = world;
    await tenant.sql`
      insert into invitations (email, company, role, token_hash, invited_by, expires_at)
      select ${company}::text || '-' || n || '@corp.test', ${company}, ${role},
             sha256(convert_to(${company}::text || '-' || n, 'UTF8')), ${owner.id},
             now() + interval '1 day'
        from generate_series(1, 500) as n`;
    expect(await tried(tenant, () => create(owner, { role }))).toEqual(refused(409, "conflict"));

    await runOut((await pendingIds())[0] ?? 0);
    expect((await create(owner, { role })).status).toBe(201);
    expect(await tried(tenant, () => create(owner, { role }))).toEqual(refused(409, "conflict"));
  });
});

const pendingIds = async () =>
  (
    await tenant.sql<{ id: number }[]>`
      select id from invitations where company = ${world.company} and status = 'pending'`
  ).map(({ id }) => id);

describe("nobody invites to more than they hold", () => {
  test("a member who may invite does so to what they hold, and to no role beyond", async () => {
    const inviter = await world.memberHolding(["invitations.manage", "members.view"]);
    const within = await world.role(["members.view"]);
    const beyond = await world.role(["members.view", "audit.view"]);
    expect((await create(inviter, { role: within })).status).toBe(201);
    for (const role of [beyond, await world.systemRole("Admin"), await world.systemRole("Owner")]) {
      expect(await tried(tenant, () => create(inviter, { role }))).toEqual(
        refused(403, "permission_denied"),
      );
    }
  });

  test("an admin invites admins, not owners", async () => {
    const admin = await world.person("admin");
    expect((await create(admin, { role: await world.systemRole("Admin") })).status).toBe(201);
    const role = await world.systemRole("Owner");
    expect(await tried(tenant, () => create(admin, { role }))).toEqual(
      refused(403, "permission_denied"),
    );
  });

  test("an invitation is not changed to more, nor sent again or prolonged by who holds less", async () => {
    const inviter = await world.memberHolding(["invitations.manage"]);
    const strong = await world.systemRole("Admin");
    const { id, email, role } = await invite();
    const put = (at: number, fields: object) =>
      world.as(inviter).put(`${A}/invitations/${at}/`, {
        email,
        company: world.company,
        ...fields,
      });
    expect((await put(id, { role })).status).toBe(200);
    expect(await tried(tenant, () => put(id, { role: strong }))).toEqual(
      refused(403, "permission_denied"),
    );

    await tenant.sql`update invitations set role = ${strong} where id = ${id}`;
    const resend = (person: Person) => world.as(person).post(`${A}/invitations/${id}/resend/`);
    expect(await tried(tenant, () => resend(inviter))).toEqual(refused(403, "permission_denied"));
    expect(await tried(tenant, () => put(id, { role: strong }))).toEqual(
      refused(403, "permission_denied"),
    );
    expect((await resend(owner)).status).toBe(200);
  });
});

describe("GET /api/access-control/invitations/", () => {
  const list = async (query: string) => {
    const { status, body } = await world
      .as(owner)
      .get(`${A}/invitations/?company=${world.company}${query}`);
    expect(status).toBe(200);
    expect(JSON.stringify(body)).not.toMatch(/token/);
    return Listed.parse(body).results;
  };

  test("newest first, by status as it reads now, without tokens", async () => {
    const [first, second, third] = [await invite(), await invite(), await invite()];
    await runOut(first.id);
    await world.as(owner).post(`${A}/invitations/${second.id}/revoke/`);

    const ids = async (query: string) => (await list(query)).map(({ id }) => id);
    expect(await ids("")).toEqual([third.id, second.id, first.id]);
    expect(await ids("&status=pending")).toEqual([third.id]);
    expect(await ids("&status=expired")).toEqual([first.id]);
    expect(await ids("&status=revoked")).toEqual([second.id]);
    expect(await ids("&status=accepted")).toEqual([]);
    const { body } = await world.as(owner).get(`${A}/invitations/${first.id}/`);
    expect(body).toMatchObject({ status: "expired" });
    expect(body).not.toHaveProperty("token");
  });

  test.each([
    { query: "&status=gone", status: 400 },
    { query: "&page=2", status: 404 },
    { query: "&page=0", status: 400 },
    { query: "&company=2", status: 400 },
    { query: "&token=x", status: 400 },
  ])("with $query it answers $status", async ({ query, status }) => {
    const answer = await world.as(owner).get(`${A}/invitations/?company=${world.company}${query}`);
    expect(answer.status).toBe(status);
  });
});

describe("PUT /api/access-control/invitations/{id}/", () => {
  const put = (id: number, fields: object) =>
    world.as(owner).put(`${A}/invitations/${id}/`, { company: world.company, ...fields });

  test("role and end of a pending one change, in the log too; its link stays good", async () => {
    const { id, email, token } = await invite();
    const role = await world.systemRole("Member");
    const end = inDays(30);
    expect(await put(id, { email, role, expires_at: end })).toMatchObject({
      status: 200,
      body: { role, expires_at: end, status: "pending" },
    });
    expect(
      await tenant.sql`
        select new_values from activity_logs
         where entity_type = 'Invitation' and entity_id = ${id} and action = 'UPDATE'`,
    ).toEqual([{ new_values: { role, expires_at: end } }]);
    const [row] = await tenant.sql`
      select 1 from invitations where id = ${id} and token_hash = ${sha256(token)}`;
    expect(row).toBeDefined();
  });

  test("address and company stay", async () => {
    const { id, email, role } = await invite();
    expect(await tried(tenant, () => put(id, { email: newEmail(), role }))).toEqual(
      refused(409, "conflict"),
    );
    const company = world.otherCompany;
    expect(await tried(tenant, () => put(id, { email, role, company }))).toEqual(
      refused(409, "conflict"),
    );
    expect((await put(id, { email: email.toUpperCase(), role })).status).toBe(200);
  });

  test("without a role, an end that is past, or anything unknown, it is refused", async () => {
    const { id, email, role } = await invite();
    for (const fields of [
      { email },
      { email, role, expires_at: inDays(-1) },
      { email, role, expires_at: inDays(91) },
      { email, role, status: "accepted" },
    ]) {
      expect(await tried(tenant, () => put(id, fields))).toEqual(refused(400, "validation_error"));
    }
  });
});

describe("what is not pending", () => {
  const ends = {
    revoked: ({ id }: { id: number }) => world.as(owner).post(`${A}/invitations/${id}/revoke/`),
    expired: ({ id }: { id: number }) => runOut(id),
    accepted: ({ id }: { id: number }) =>
      tenant.sql`update invitations set status = 'accepted' where id = ${id}`,
  };

  test.each(Object.entries(ends))(
    "%s: it is not changed, revoked or sent again, but deleted",
    async (status, end) => {
      const made = await invite();
      const { id, email, role } = made;
      await end(made);
      const at = `${A}/invitations/${id}/`;
      const as = world.as(owner);
      expect((await as.get(at)).body).toMatchObject({ status });

      const put = () => as.put(at, { email, company: world.company, role });
      expect(await tried(tenant, put)).toEqual(refused(409, "conflict"));
      expect(await tried(tenant, () => as.post(`${at}revoke/`))).toEqual(refused(409, "conflict"));
      expect(await tried(tenant, () => as.post(`${at}resend/`))).toEqual(refused(409, "conflict"));
      expect((await as.delete(at)).status).toBe(204);
      expect(await tried(tenant, () => as.get(at))).toEqual(refused(404, "not_found"));
      expect(await tried(tenant, () => as.delete(at))).toEqual(refused(404, "not_found"));
    },
  );

  test("a deleted one makes way for the next", async () => {
    const { id, email } = await invite();
    expect((await world.as(owner).delete(`${A}/invitations/${id}/`)).status).toBe(204);
    await invite({ email });
    expect(await statusesIn()).toEqual(["revoked", "pending"]);
  });

  test("revoking and deleting leave an entry each", async () => {
    const [first, second] = [await invite(), await invite()];
    await world.as(owner).post(`${A}/invitations/${first.id}/revoke/`);
    await world.as(owner).delete(`${A}/invitations/${second.id}/`);
    expect(
      await tenant.sql`
        select entity_id, action, new_values from activity_logs
         where entity_type = 'Invitation' and company_id = ${world.company} and action <> 'CREATE'
         order by id`,
    ).toEqual([
      { entity_id: first.id, action: "REVOKE", new_values: { status: "revoked" } },
      { entity_id: second.id, action: "DELETE", new_values: {} },
    ]);
  });
});
