import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { PERMISSION_CODES } from "../access-control/catalogue.ts";
import { type Guard, guardEnforcementPlugin, guardPlugin } from "./guards.ts";

/** A service with one route for each of these guards. */
async function boot(guards: readonly unknown[], permissions: readonly string[]): Promise<void> {
  const fastify = Fastify();
  await fastify.register(guardPlugin, { permissions });
  guards.forEach((guard, index) => {
    // What the types forbid is what the boot is to find.
    const config = guard === undefined ? {} : { guard: guard as Guard };
    fastify.get(`/${index}/`, { config }, () => ({}));
  });
  try {
    await fastify.ready();
  } finally {
    await fastify.close();
  }
}

describe("the boot", () => {
  test("goes through when every route has a guard and every permission a route", async () => {
    await expect(
      boot(["public", "authenticated", "tenant-admin", "roles.manage"], ["roles.manage"]),
    ).resolves.toBeUndefined();
  });

  test("stops at a route without a guard", async () => {
    await expect(boot([undefined], [])).rejects.toThrow("Routes without a known guard");
  });

  test.each(["roles.mange", "", "Public", null, 1, "toString"])(
    "stops at a route that names %j, which nobody declared",
    async (guard) => {
      await expect(boot([guard, "roles.manage"], ["roles.manage"])).rejects.toThrow("GET /0/");
    },
  );

  test("stops at a permission that no route asks for, and names it", async () => {
    await expect(boot(["roles.manage"], ["roles.manage", "audit.view"])).rejects.toThrow(
      "Permissions that no route asks for: audit.view",
    );
  });

  test("of the whole service stops at a route that a plugin registers later", async () => {
    await expect(
      startTestApp({ prepare: (fastify) => void fastify.get("/late/", () => ({})) }),
    ).rejects.toThrow("GET /late/ (undefined)");
  });
});

describe("in a tenant", () => {
  let app: TestApp;
  let tenant: TestTenant;

  beforeAll(async () => {
    app = await startTestApp();
    tenant = await app.createTenant();
  });
  afterAll(async () => {
    await app.close();
  });

  test("a built-in permission is neither changed nor deleted nor made again", async () => {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;
    const client = app.client(tenant);
    const path = "/api/access-control/permissions/";

    expect((await client.patch(`${path}1/`, { module: "x" }, { token })).status).toBe(409);
    expect((await client.delete(`${path}1/`, { token })).status).toBe(409);
    expect((await client.post(path, { code: "audit.view", module: "x" }, { token })).status).toBe(
      409,
    );
    expect(
      (await client.post(path, { code: "x", module: "x", is_built_in: true }, { token })).status,
    ).toBe(400);
    const rows = await tenant.sql`select 1 from permissions`;
    expect(rows).toHaveLength(PERMISSION_CODES.length);
  });

  test("a permission of the tenant's own ends with what roles say of it, and its code is free", async () => {
    const token = (await app.logIn(tenant, tenant.owner.email)).access;
    const client = app.client(tenant);
    const path = "/api/access-control/permissions/";
    const make = async () => {
      const { body } = await client.post(path, { code: "reports.export", module: "r" }, { token });
      return (body as { id: number }).id;
    };
    const { body: company } = await client.post("/api/company/", { name: "Acme" }, { token });
    const companyId = (company as { id: number }).id;
    const { body: role } = await client.post(
      "/api/access-control/roles/",
      { role: "Clerk", company: companyId },
      { token },
    );
    const first = await make();
    await client.post(
      "/api/access-control/role-permissions/",
      { role: (role as { id: number }).id, permission: first },
      { token },
    );

    await client.delete(`${path}${first}/`, { token });
    const second = await make();

    expect(second).not.toBe(first);
    const { body } = await client.get("/api/access-control/role-permissions/", { token });
    expect(body).toMatchObject({ count: 0 });
  });

  test("a route whose function never asks for its permission answers 500, not its data", async () => {
    const forgetful = Fastify();
    // What the plugin needs of the rest: a caller who is logged in, and no limits.
    forgetful.decorate("authenticate", async (request) => {
      request.principal = { userId: 1, sessionId: 1, isTenantAdmin: false };
    });
    forgetful.decorateRequest("principal");
    const count = async () => undefined;
    forgetful.decorate("limits", { countAnonymous: count, countUser: count } as never);
    await forgetful.register(guardEnforcementPlugin);
    forgetful.get("/forgot/", { config: { guard: "audit.view" } }, () => "secret");
    forgetful.get("/asked/", { config: { guard: "audit.view" } }, (request) => {
      request.actor.asked.add("audit.view");
      return "data";
    });

    const [forgot, asked] = [await forgetful.inject("/forgot/"), await forgetful.inject("/asked/")];

    expect(forgot.statusCode).toBe(500);
    expect(forgot.body).not.toContain("secret");
    expect(asked.body).toBe("data");
  });
});
