import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, unique, World } from "../../test/world.ts";

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

async function make(parent: number | null, person = owner): Promise<number> {
  const { status, body } = await app
    .client(tenant)
    .post(
      "/api/company/",
      { name: unique(), parent_company: parent },
      { token: person.token ?? "" },
    );
  if (status !== 201) throw new Error(`${status}: ${JSON.stringify(body)}`);
  return (body as { id: number }).id;
}

async function move(id: number, parent: number | null, person = owner): Promise<number> {
  const { status } = await app
    .client(tenant)
    .patch(`/api/company/${id}/`, { parent_company: parent }, { token: person.token ?? "" });
  return status;
}

/** Companies that are above themselves. */
async function cycles(): Promise<readonly unknown[]> {
  return tenant.sql`
    with recursive above (start, id, depth) as (
      select id, parent_company, 1 from companies where parent_company is not null
      union all
      select above.start, c.parent_company, above.depth + 1
        from above join companies c on c.id = above.id
       where c.parent_company is not null and above.depth < 200
    )
    select start from above where start = id`;
}

describe("the hierarchy of companies", () => {
  test("has no company above itself, directly or not, and stays as it was", async () => {
    const a = await make(null);
    const b = await make(a);
    const c = await make(b);

    expect(await move(a, a)).toBe(409);
    expect(await move(a, b)).toBe(409);
    expect(await move(a, c)).toBe(409);
    expect(await move(c, a)).toBe(200);
    expect(await move(c, null)).toBe(200);
    expect(await cycles()).toEqual([]);
  });

  test("gets no cycle from two moves that are each fine by themselves, at the same time", async () => {
    for (let round = 0; round < 15; round += 1) {
      const a = await make(null);
      const b = await make(null);

      const statuses = await Promise.all([move(a, b), move(b, a)]);

      expect(new Set(statuses)).toEqual(new Set([200, 409]));
    }
    expect(await cycles()).toEqual([]);
  });

  test("gets none from many random moves at the same time", async () => {
    const ids = await Promise.all(Array.from({ length: 8 }, () => make(null)));
    const pick = (n: number) => ids[n % ids.length] ?? 0;

    const statuses = await Promise.all(
      Array.from({ length: 80 }, (_, n) => move(pick(n * 7 + 3), pick(n * 5 + (n % 3)))),
    );

    expect(new Set(statuses)).toEqual(new Set([200, 409]));
    expect(await cycles()).toEqual([]);
  });

  test("is at most twenty levels deep, whichever end grows", async () => {
    let lowest: number | null = null;
    const chain: number[] = [];
    for (let level = 1; level <= 20; level += 1) {
      lowest = await make(lowest);
      chain.push(lowest);
    }
    const above = await make(null);
    const [highest = 0] = chain;

    await expect(make(lowest)).rejects.toThrow("409");
    expect(await move(highest, above)).toBe(409);
  });

  test("lets nobody put a company below one that they do not see, or may not change", async () => {
    const child = await make(null);
    const stranger = await world.person("other company");
    const hidden = await make(null, stranger);
    await world.member(owner.id, world.otherCompany, ["Member"]);

    expect(await move(child, hidden)).toBe(400);
    expect(await move(child, 2 ** 50)).toBe(400);
    expect(await move(child, world.otherCompany)).toBe(403);
    const [row] = await tenant.sql`select parent_company from companies where id = ${child}`;
    expect(row).toEqual({ parent_company: null });
  });
});

describe("GET /api/company/{id}/subsidiaries/", () => {
  test("lists what is below at any depth, nearest first, as far as the caller belongs to it", async () => {
    const top = await make(null);
    const child = await make(top);
    const grandchild = await make(child);
    const stranger = await world.person("member without");
    await world.member(stranger.id, top, ["Member"]);
    await world.member(stranger.id, grandchild, ["Member"]);
    const admin = await world.person("tenant admin");
    const below = async ({ token = "" }: Person) => {
      const { body } = await app.client(tenant).get(`/api/company/${top}/subsidiaries/`, { token });
      return (body as { results: { id: number }[] }).results.map(({ id }) => id);
    };

    expect(await below(owner)).toEqual([child, grandchild]);
    expect(await below(admin)).toEqual([child, grandchild]);
    expect(await below(stranger)).toEqual([grandchild]);
  });

  test("gives no rights below: an owner of the parent alone does not see the child", async () => {
    const stranger = await world.person("member without");
    const parent = await make(null);
    const child = await make(parent);
    await world.member(stranger.id, parent, ["Owner"]);

    const { status } = await app
      .client(tenant)
      .get(`/api/company/${child}/`, { token: stranger.token ?? "" });

    expect(status).toBe(404);
  });
});
