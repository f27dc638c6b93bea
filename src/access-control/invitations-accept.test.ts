import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  newEmail,
  PASSWORD,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
} from "../../test/app.ts";
import { MadeInvitation, refused, tried } from "../../test/invitations.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { type Person, World } from "../../test/world.ts";

const A = "/api/access-control";

let app: TestApp;
let tenant: TestTenant;
let passwordHash: string;
let world: World;
let owner: Person;
let guest: Person;

beforeAll(async () => {
  app = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await app.createTenant();
  passwordHash = await app.services.passwords.hash(PASSWORD);
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, passwordHash);
  owner = await world.person("owner");
  guest = await world.person("other company");
});

async function invite(email = guest.email, role?: number, at = world, by = owner) {
  const { status, body } = await at.as(by).post(`${A}/invitations/`, {
    email,
    company: at.company,
    role: role ?? (await at.role(["members.view"])),
  });
  expect(status).toBe(201);
  return MadeInvitation.parse(body);
}

const accept = (token: unknown, person: Pick<Person, "token"> = guest) =>
  world.as(person).post(`${A}/invitations/accept/`, { token });

/** The guest's live memberships of the company, each with its roles. */
const memberships = (user = guest.id, company = world.company) => tenant.sql`
  select m.is_active, array_agg(ur.role) as roles
    from user_companies m
    left join user_company_roles ur on ur.user_company = m.id and ur.deleted_at is null
   where m."user" = ${user} and m.company = ${company} and m.deleted_at is null
   group by m.id`;
const statusOf = async (id: number) => {
  const [row] = await tenant.sql<{ status: string }[]>`
    select status from invitations where id = ${id}`;
  return row?.status;
};
const countOf = (answers: readonly TestResponse[], status: number) =>
  answers.filter((answer) => answer.status === status).length;

describe("POST /api/access-control/invitations/accept/", () => {
  test("membership, role, status, the inviter's notification and three entries come together", async () => {
    const { id, token, role } = await invite();

    expect(await accept(token)).toMatchObject({ status: 200, body: { company: world.company } });

    expect(await memberships()).toEqual([{ is_active: true, roles: [role] }]);
    expect(await statusOf(id)).toBe("accepted");
    expect(
      await tenant.sql`
        select entity_type, action from activity_logs
         where user_id = ${guest.id} and company_id = ${world.company} order by id`,
    ).toEqual([
      { entity_type: "UserCompany", action: "CREATE" },
      { entity_type: "UserCompanyRole", action: "CREATE" },
      { entity_type: "Invitation", action: "ACCEPT" },
    ]);
    expect(
      await tenant.sql<{ message: string }[]>`
        select message from notifications where user_id = ${owner.id}`,
    ).toEqual([{ message: expect.stringContaining(guest.email) }]);
    const { body } = await world.as(guest).get(`${A}/my-permissions/?company=${world.company}`);
    expect(body).toMatchObject({ permissions: ["members.view"] });
  });

  test.each(["user_companies", "user_company_roles", "notifications", "activity_logs"])(
    "when %s cannot be written, nothing is",
    async (table) => {
      const { token } = await invite();
      await tenant.sql`
        alter table ${tenant.sql(table)} add constraint broken check (false) not valid`;
      try {
        expect(await tried(tenant, () => accept(token))).toEqual(refused(500, "internal_error"));
      } finally {
        await tenant.sql`alter table ${tenant.sql(table)} drop constraint broken`;
      }
      expect((await accept(token)).status).toBe(200);
    },
  );

  test("only who has the invited address accepts", async () => {
    const { token } = await invite();
    for (const person of [owner, await world.person("tenant admin")]) {
      expect(await tried(tenant, () => accept(token, person))).toEqual(
        refused(403, "permission_denied"),
      );
    }
    expect(await tried(tenant, () => accept(token, { token: undefined }))).toEqual(
      refused(401, "authentication_required"),
    );
    expect((await accept(token)).status).toBe(200);
  });

  test("the address must be verified", async () => {
    const { token } = await invite();
    await tenant.sql`update users set email_verified_at = null where id = ${guest.id}`;
    expect(await tried(tenant, () => accept(token))).toEqual(refused(403, "permission_denied"));
    await tenant.sql`update users set email_verified_at = now() where id = ${guest.id}`;
    expect((await accept(token)).status).toBe(200);
  });

  test("somebody else is not told whether it is still pending", async () => {
    const { id, token } = await invite();
    const stranger = await world.person("other company");
    const details = async () => ({
      ...((await accept(token, stranger)).body as object),
      request_id: "",
    });
    const pending = await details();
    await world.as(owner).post(`${A}/invitations/${id}/revoke/`);
    expect(await details()).toEqual(pending);
  });

  test.each([
    { what: "an unknown token", token: "A".repeat(43), status: 400, code: "invalid_token" },
    { what: "a NUL", token: "A\0".repeat(20), status: 400, code: "invalid_token" },
    { what: "a lone surrogate", token: "\uD800", status: 400, code: "invalid_token" },
    { what: "nothing", token: "", status: 400, code: "validation_error" },
    { what: "a number", token: 7, status: 400, code: "validation_error" },
    { what: "a list", token: ["x"], status: 400, code: "validation_error" },
    { what: "a very long text", token: "x".repeat(5_000), status: 400, code: "validation_error" },
  ])("$what is no token", async ({ token, status, code }) => {
    expect(await tried(tenant, () => accept(token))).toEqual(refused(status, code));
  });

  test.each(["revoked", "accepted", "expired", "run out"])(
    "one that is %s stays so",
    async (how) => {
      const { id, token } = await invite();
      await (how === "run out"
        ? tenant.sql`update invitations set expires_at = now() - interval '1 second' where id = ${id}`
        : tenant.sql`update invitations set status = ${how} where id = ${id}`);
      expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));
    },
  );

  test("a deleted one, and one of a deleted company, is no invitation", async () => {
    const { id, token } = await invite();
    await world.as(owner).delete(`${A}/invitations/${id}/`);
    expect(await tried(tenant, () => accept(token))).toEqual(refused(400, "invalid_token"));

    const second = await invite();
    await tenant.sql`
      update companies set deleted_at = now(), status = 'deleted' where id = ${world.company}`;
    expect(await tried(tenant, () => accept(second.token))).toEqual(refused(400, "invalid_token"));
  });

  test("a company that is not active takes nobody in", async () => {
    const { token } = await invite();
    await tenant.sql`update companies set status = 'deactivated' where id = ${world.company}`;
    expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));
    await tenant.sql`update companies set status = 'active' where id = ${world.company}`;
    expect((await accept(token)).status).toBe(200);
  });

  test("the older link dies when it is sent again; the newer one works", async () => {
    const { id, token } = await invite();
    expect((await world.as(owner).post(`${A}/invitations/${id}/resend/`)).status).toBe(200);
    expect(await tried(tenant, () => accept(token))).toEqual(refused(400, "invalid_token"));
    expect(await statusOf(id)).toBe("pending");
  });

  test("a member gets the role in addition, once", async () => {
    const { token, role } = await invite();
    const membership = await world.member(guest.id, world.company, []);
    await world.assign(membership, role);
    expect((await accept(token)).status).toBe(200);
    expect(await memberships()).toEqual([{ is_active: true, roles: [role] }]);
  });
});

describe("tenants", () => {
  test("the token of another tenant's invitation, or user, is none here", async () => {
    const foreign = await app.createTenant();
    const there = await World.create(app, foreign, passwordHash);
    const boss = await there.person("owner");
    const twin = await there.person("other company");
    await foreign.sql`update users set email = ${guest.email} where id = ${twin.id}`;
    const ofForeign = await invite(guest.email, undefined, there, boss);
    const { token } = await invite();

    expect(await tried(tenant, () => accept(ofForeign.token))).toEqual(
      refused(400, "invalid_token"),
    );
    expect(await tried(tenant, () => accept(token, twin))).toEqual(
      refused(401, "token_tenant_mismatch"),
    );
    expect(await there.as(twin).post(`${A}/invitations/accept/`, { token })).toMatchObject({
      status: 400,
      body: { code: "invalid_token" },
    });
    expect(
      (await there.as(twin).post(`${A}/invitations/accept/`, { token: ofForeign.token })).status,
    ).toBe(200);
    expect((await accept(token)).status).toBe(200);
  });
});

describe("who was removed or deactivated", () => {
  /** A member with an invitation from before. */
  async function memberWithLink() {
    const { id, token, role } = await invite();
    const membership = await world.member(guest.id, world.company, ["Member"]);
    return { id, token, role, membership };
  }
  const remove = (membership: number) =>
    world.as(owner).delete(`${A}/user-companies/${membership}/`);

  test("does not come back by an older link, but by a new invitation", async () => {
    const { id, token, membership } = await memberWithLink();
    expect((await remove(membership)).status).toBe(204);
    expect(await statusOf(id)).toBe("revoked");
    expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));

    expect((await accept((await invite()).token)).status).toBe(200);
    expect(await memberships()).toHaveLength(1);
  });

  test("does not come back by one to an address that they took on again afterwards", async () => {
    const { id, token, membership } = await memberWithLink();
    const email = newEmail();
    await tenant.sql`update users set email = ${email} where id = ${guest.id}`;
    expect((await remove(membership)).status).toBe(204);
    await tenant.sql`update users set email = ${guest.email} where id = ${guest.id}`;
    expect(await statusOf(id)).toBe("pending");

    expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));
  });

  test("does not become active by an older link, or by a newer one", async () => {
    const { id, token, membership } = await memberWithLink();
    const put = await world.as(owner).put(`${A}/user-companies/${membership}/`, {
      user: guest.id,
      company: world.company,
      is_primary_company: false,
      is_active: false,
    });
    expect(put.status).toBe(200);
    expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));
    await tenant.sql`update invitations set status = 'pending' where id = ${id}`;
    expect(await tried(tenant, () => accept(token))).toEqual(refused(409, "conflict"));
  });
});

describe("at the same time", () => {
  test("of twenty that accept, one does; there is one membership", async () => {
    const { token, role } = await invite();
    const answers = await Promise.all(Array.from({ length: 20 }, () => accept(token)));
    expect([countOf(answers, 200), countOf(answers, 409)]).toEqual([1, 19]);
    expect(await memberships()).toEqual([{ is_active: true, roles: [role] }]);
  });

  test("invitations to two companies are both accepted; one of them is the primary", async () => {
    const other = await World.create(app, tenant, passwordHash);
    const boss = await other.person("owner");
    const [here, there] = [await invite(), await invite(guest.email, undefined, other, boss)];

    const answers = await Promise.all([accept(here.token), accept(there.token)]);

    expect(countOf(answers, 200)).toBe(2);
    expect(await memberships()).toHaveLength(1);
    expect(await memberships(guest.id, other.company)).toHaveLength(1);
    expect(
      await tenant.sql`
        select 1 from user_companies
         where "user" = ${guest.id} and is_primary_company and deleted_at is null`,
    ).toHaveLength(1);
  });

  test.each(["revoke", "delete", "resend", "role", "company", "deactivate"] as const)(
    "accepting and %s: one of the two orders is what is there",
    async (rival) => {
      for (let round = 0; round < 4; round += 1) {
        world = await World.create(app, tenant, passwordHash);
        owner = await world.person("owner");
        guest = await world.person("other company");
        const { id, token, role } = await invite();
        const as = world.as(owner);
        const company = `/api/company/${world.company}/`;
        const rivals = {
          revoke: () => as.post(`${A}/invitations/${id}/revoke/`),
          delete: () => as.delete(`${A}/invitations/${id}/`),
          resend: () => as.post(`${A}/invitations/${id}/resend/`),
          role: () => as.delete(`${A}/roles/${role}/`),
          company: () => as.delete(company),
          deactivate: () => as.patch(company, { status: "deactivated" }),
        };
        const run =
          round % 2 === 0
            ? Promise.all([accept(token), rivals[rival]()])
            : Promise.all([rivals[rival](), accept(token)]).then(([b, a]) => [a, b] as const);
        const [accepted, other] = await run;

        expect([200, 400, 409]).toContain(accepted.status);
        expect([200, 204, 409]).toContain(other.status);
        const isIn = accepted.status === 200;
        expect(await memberships()).toEqual(isIn ? [{ is_active: true, roles: [role] }] : []);
        const status = await statusOf(id);
        expect(status === "accepted").toBe(isIn);
        // Which of the two was first, as far as the rival's answer tells: a role is pending or held here,
        // and never deleted.
        const isTold = ["revoke", "resend", "role"].includes(rival);
        expect(isTold && other.status !== 409).toBe(isTold && !isIn);
        expect(rival === "role" && !isIn).toBe(false);
      }
    },
  );
});
