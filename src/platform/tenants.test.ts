import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { newPhone, newSubdomain, PASSWORD, startTestApp, type TestApp } from "../../test/app.ts";
import { loggedInOperator, operatorCalls, type TestOperator } from "../../test/operators.ts";
import { CreatedPlatformTenant, MigrationsPage, PlatformTenantsPage } from "./schemas.ts";

let app: TestApp;
let operator: TestOperator;
let calls: ReturnType<typeof operatorCalls>;
const records = new Map<string, string[][]>();

beforeAll(async () => {
  app = await startTestApp({
    resolveTxt: (name) => {
      const found = records.get(name);
      return found
        ? Promise.resolve(found)
        : Promise.reject(Object.assign(new Error("none"), { code: "ENOTFOUND" }));
    },
  });
  operator = await loggedInOperator(app);
  calls = operatorCalls(app);
});
afterAll(() => app.close());

const get = (path: string) => calls.get(path, operator.tokens.access);
const post = (path: string, body?: object) => calls.post(path, body, operator.tokens.access);
const patch = (path: string, body: object) => calls.patch(path, body, operator.tokens.access);
const remove = (path: string) => calls.delete(path, operator.tokens.access);

const request = (subdomain = newSubdomain()) => ({
  name: `The ${subdomain}`,
  subdomain,
  owner: { full_name: "Olive Owner", email: `o@${subdomain}.test`, phone: newPhone() },
});

/** What operators did to a tenant. */
async function actionsOn(tenantId: number): Promise<unknown[]> {
  const rows = await app.registry`
    select operator_display, action, metadata - 'user_agent' as metadata
      from platform.logs where tenant_id = ${tenantId} order by id`;
  return rows.map((row) => [row["operator_display"], row["action"], row["metadata"]]);
}

/** Everything that a refused request must leave. */
async function stateOf(): Promise<unknown> {
  const [row] = await app.registry`
    select (select jsonb_agg(t order by t.id) from public.tenants t) as tenants,
           (select jsonb_agg(d order by d.id) from public.tenant_domains d) as domains,
           (select count(*)::int from platform.logs where action not like 'LOGIN%') as log,
           (select count(*)::int from pg_namespace where nspname like 't!_%' escape '!') as schemas`;
  return row;
}

async function create(subdomain?: string) {
  const { status, body } = await post("tenants/", request(subdomain));
  expect(status).toBe(201);
  return CreatedPlatformTenant.parse({
    ...(body as object),
    created_at: new Date((body as { created_at: string }).created_at),
    delete_after: null,
  });
}

describe("POST /api/platform/tenants/", () => {
  test("makes a tenant that works at once, and says who made it", async () => {
    const body = request();
    const created = await post("tenants/", {
      ...body,
      owner: { ...body.owner, password: PASSWORD },
    });

    const tenant = created.body as { id: number };
    expect(created).toMatchObject({
      status: 201,
      body: {
        name: body.name,
        subdomain: body.subdomain,
        status: "active",
        schema: `t_${tenant.id}`,
        migration_state: "applied",
        password_link: null,
      },
    });
    const login = await app.app.inject({
      method: "POST",
      url: "/api/auth/login/",
      headers: { "x-tenant": body.subdomain },
      body: { identifier: body.owner.email, password: PASSWORD },
    });
    expect(login.statusCode).toBe(200);
    expect(await actionsOn(tenant.id)).toEqual([
      [operator.email, "TENANT_CREATED", { subdomain: body.subdomain }],
    ]);
  });

  test("without a password answers a link with which the owner sets one", async () => {
    const tenant = await create();

    const link = new URL(tenant.password_link ?? "");
    expect(link.searchParams.get("tenant")).toBe(tenant.subdomain);
    const set = await app.app.inject({
      method: "POST",
      url: "/api/auth/password/reset/",
      headers: { "x-tenant": tenant.subdomain },
      body: { token: link.hash.slice("#token=".length), password: PASSWORD },
    });
    expect(set.statusCode).toBe(200);
  });

  test("of ten parallel requests for one subdomain one succeeds", async () => {
    const subdomain = newSubdomain();

    const answers = await Promise.all(
      Array.from({ length: 10 }, () => post("tenants/", request(subdomain))),
    );

    const statuses = answers.map(({ status }) => status).sort((a, b) => a - b);
    expect(statuses).toEqual([201, ...Array.from({ length: 9 }, () => 409)]);
  });

  test.each([
    ["a reserved subdomain", { subdomain: "admin" }, 400],
    ["a subdomain that is none", { subdomain: "a b" }, 400],
    ["an unknown field", { plan: "gold" }, 400],
    ["an owner without a phone", { owner: { email: "o@x.test" } }, 400],
    [
      "a guessable password",
      { owner: { email: "o@x.test", phone: "+201001234567", password: "password1" } },
      400,
    ],
    ["a name of control characters", { name: "a\u0000b" }, 400],
  ])("refuses %s and makes nothing", async (_, change, status) => {
    const before = await stateOf();

    const refused = await post("tenants/", { ...request(), ...change });

    expect(refused).toMatchObject({ status, body: { code: "validation_error" } });
    expect(await stateOf()).toEqual(before);
  });
});

describe("GET /api/platform/tenants/", () => {
  test("lists in pages, and finds by name, subdomain, domain and status", async () => {
    const tenant = await create();
    await app.registry`
      insert into public.tenant_domains (tenant_id, domain, verified_at)
      values (${tenant.id}, ${`app.${tenant.subdomain}.test`}, now())`;

    const all = await get("tenants/?page_size=1");
    const bySubdomain = await get(`tenants/?search=${tenant.subdomain.toUpperCase()}`);
    const byDomain = await get(`tenants/?search=app.${tenant.subdomain}`);
    const suspended = await get(`tenants/?search=${tenant.subdomain}&status=suspended`);
    const wildcard = await get("tenants/?search=%25");
    const one = await get(`tenants/${tenant.id}/`);

    const pageOf = (body: unknown) => body as { count: number; results: { id: number }[] };
    expect(pageOf(all.body).results).toHaveLength(1);
    expect(pageOf(all.body).count).toBeGreaterThan(1);
    expect(pageOf(bySubdomain.body).results.map(({ id }) => id)).toEqual([tenant.id]);
    expect(pageOf(byDomain.body).results.map(({ id }) => id)).toEqual([tenant.id]);
    expect(suspended.body).toMatchObject({ count: 0, results: [] });
    expect(wildcard.body).toMatchObject({ count: 0 });
    expect(one.body).toEqual(pageOf(bySubdomain.body).results[0]);
    expect(
      PlatformTenantsPage.safeParse(all.body).error?.issues.every(
        ({ path }) => path.at(-1) === "created_at",
      ),
    ).toBe(true);
  });

  test.each(["tenants/999999999999/", "tenants/9007199254740993/", "tenants/x/"])(
    "%s is not there",
    async (path) => {
      const { status, body } = await get(path);

      expect([400, 404]).toContain(status);
      expect(["validation_error", "not_found"]).toContain((body as { code: string }).code);
    },
  );
});

describe("the life cycle of a tenant", () => {
  test("suspend, read-only and activate hold in every process within a second", async () => {
    const tenant = await create();
    const replica = await app.startReplica({ isPlatform: false });
    const ask = async (method: "GET" | "POST") => {
      const response = await replica.app.inject({
        method,
        url: method === "GET" ? "/api/account/profile/" : "/api/auth/password/forgot/",
        headers: { "x-tenant": tenant.subdomain },
        ...(method === "GET" ? {} : { body: { identifier: "nobody@x.test" } }),
      });
      return response.json<{ code?: string }>().code ?? String(response.statusCode);
    };
    const soon = { timeout: 1_000, interval: 20 };
    expect(await ask("GET")).toBe("authentication_required");

    await post(`tenants/${tenant.id}/suspend/`);
    await vi.waitFor(async () => expect(await ask("GET")).toBe("tenant_suspended"), soon);
    await post(`tenants/${tenant.id}/read-only/`);
    await vi.waitFor(async () => expect(await ask("POST")).toBe("tenant_read_only"), soon);
    expect(await ask("GET")).toBe("authentication_required");
    const active = await post(`tenants/${tenant.id}/activate/`);
    await vi.waitFor(async () => expect(await ask("POST")).toBe("202"), soon);

    expect(active).toMatchObject({ status: 200, body: { status: "active" } });
    expect(await actionsOn(tenant.id)).toMatchObject([
      [operator.email, "TENANT_CREATED", {}],
      [operator.email, "TENANT_SUSPENDED", {}],
      [operator.email, "TENANT_MADE_READ_ONLY", {}],
      [operator.email, "TENANT_ACTIVATED", {}],
    ]);
  });

  test("PATCH changes what is sent, all of it or nothing", async () => {
    const [tenant, other] = [await create(), await create()];
    const subdomain = newSubdomain();

    const changed = await patch(`tenants/${tenant.id}/`, {
      name: "Renamed",
      subdomain: subdomain.toUpperCase(),
      sends_messages: false,
    });
    const before = await stateOf();
    const taken = await patch(`tenants/${tenant.id}/`, {
      name: "Not this",
      subdomain: other.subdomain,
    });

    expect(changed).toMatchObject({
      status: 200,
      body: { id: tenant.id, name: "Renamed", subdomain, sends_messages: false },
    });
    expect(taken).toMatchObject({ status: 409, body: { code: "conflict" } });
    expect(await stateOf()).toEqual(before);
  });

  test("DELETE suspends and erases nothing; activate takes it back", async () => {
    const tenant = await create();

    const deleted = await remove(`tenants/${tenant.id}/?grace_days=7`);
    const schemas = await app.registry`select 1 from pg_namespace where nspname = ${tenant.schema}`;
    const back = await post(`tenants/${tenant.id}/activate/`);

    const after = (deleted.body as { delete_after: string }).delete_after;
    expect(deleted).toMatchObject({ status: 202, body: { status: "suspended" } });
    expect(Math.round((Date.parse(after) - Date.now()) / 86_400_000)).toBe(7);
    expect(schemas).toHaveLength(1);
    expect(back).toMatchObject({ status: 200, body: { status: "active", delete_after: null } });
  });

  test.each([
    ["POST", "tenants/999999999999/suspend/"],
    ["DELETE", "tenants/999999999999/"],
    ["POST", "tenants/999999999999/domains/"],
    ["POST", "tenants/999999999999/support-token/"],
  ])("%s %s answers 404 and changes nothing", async (method, path) => {
    const before = await stateOf();

    const answer = method === "DELETE" ? await remove(path) : await post(path, bodyOf(path));

    expect(answer).toMatchObject({ status: 404, body: { code: "not_found" } });
    expect(await stateOf()).toEqual(before);
  });
});

function bodyOf(path: string): object | undefined {
  if (path.endsWith("domains/")) return { domain: "app.nobody.test" };
  return path.endsWith("support-token/") ? { reason: "a look" } : undefined;
}

describe("the domains of a tenant", () => {
  test("are noted, verified by their record, listed and removed", async () => {
    const tenant = await create();
    const domain = `app.${tenant.subdomain}.example`;
    const path = `tenants/${tenant.id}/domains/`;

    const added = await post(path, { domain: domain.toUpperCase() });
    const { id, record } = added.body as { id: number; record: { name: string; value: string } };
    const early = await post(`${path}${id}/verify/`);
    records.set(record.name, [[record.value]]);
    const verified = await post(`${path}${id}/verify/`);
    const listed = await get(path);
    const removed = await remove(`${path}${id}/`);
    const gone = await remove(`${path}${id}/`);

    expect(added).toMatchObject({ status: 201, body: { domain, verified_at: null } });
    expect(early).toMatchObject({ status: 409, body: { code: "conflict" } });
    expect(verified).toMatchObject({ status: 200, body: { is_primary: true, record: null } });
    expect(listed.body).toEqual([verified.body]);
    expect(removed.status).toBe(204);
    expect(gone.status).toBe(404);
    expect((await actionsOn(tenant.id)).slice(1)).toEqual([
      [operator.email, "DOMAIN_ADDED", { domain }],
      [operator.email, "DOMAIN_VERIFIED", { domain }],
      [operator.email, "DOMAIN_REMOVED", { domain }],
    ]);
  });

  test("of another tenant are not reached through this one", async () => {
    const [tenant, other] = [await create(), await create()];
    const added = await post(`tenants/${other.id}/domains/`, {
      domain: `x.${other.subdomain}.example`,
    });
    const { id } = added.body as { id: number };
    const before = await stateOf();

    const verified = await post(`tenants/${tenant.id}/domains/${id}/verify/`);
    const removed = await remove(`tenants/${tenant.id}/domains/${id}/`);

    expect([verified.status, removed.status]).toEqual([404, 404]);
    expect(await stateOf()).toEqual(before);
  });
});

describe("GET /api/platform/migrations/", () => {
  test("shows the ledger, failures first, and how many are behind", async () => {
    const tenant = await create();
    await app.registry`
      update public.tenant_migrations
         set state = 'failed', last_error = 'no room', version = '1_old'
       where tenant_id = ${tenant.id}`;

    const all = await get("migrations/");
    const failed = await get("migrations/?state=failed");
    const wrong = await get("migrations/?state=sideways");

    const page = all.body as { results: object[]; behind: number; release: string };
    expect(page.results[0]).toMatchObject({
      id: tenant.id,
      state: "failed",
      version: "1_old",
      last_error: "no room",
    });
    expect(page).toMatchObject({ behind: 1, release: expect.stringMatching(/^\d{13}_/) });
    expect(failed.body).toMatchObject({ count: 1, results: [{ id: tenant.id }] });
    expect(wrong.status).toBe(400);
    expect(MigrationsPage.shape.behind.parse(page.behind)).toBe(1);
  });
});
