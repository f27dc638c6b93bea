import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { PERMISSION_CODES, PERMISSIONS } from "../access-control/catalogue.ts";
import { guardPlugin } from "./guards.ts";

describe("the catalogue of permissions", () => {
  test("stops the boot when no route asks for one of them", async () => {
    const app = Fastify();
    await app.register(guardPlugin, { permissions: ["audit.view", "members.view"] });
    app.get("/", { config: { guard: "audit.view" } }, () => "ok");

    await expect(async () => app.ready()).rejects.toThrow(
      "Permissions that no route asks for: members.view",
    );
  });

  test("stops it when a route asks for one that is not declared", async () => {
    const app = Fastify();
    await app.register(guardPlugin, { permissions: ["audit.view"] });
    app.get("/", { config: { guard: "audit.view" } }, () => "ok");
    app.get("/new/", { config: { guard: "members.view" } }, () => "ok");

    await expect(async () => app.ready()).rejects.toThrow("GET /new/ (members.view)");
  });

  test("lets it go on when every one is asked for, and nothing else", async () => {
    const app = Fastify();
    await app.register(guardPlugin, { permissions: ["audit.view"] });
    app.get("/", { config: { guard: "audit.view" } }, () => "ok");

    await app.ready();
    expect((await app.inject("/")).body).toBe("ok");
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

  test("the catalogue is the one in the code, all of it built in", async () => {
    const rows = await tenant.sql`
      select code, module, description, is_built_in from permissions order by id`;

    expect(rows).toEqual(
      Object.entries(PERMISSIONS).map(([code, permission]) => ({
        code,
        ...permission,
        is_built_in: true,
      })),
    );
    expect(PERMISSION_CODES).toHaveLength(rows.length);
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
    const { guardEnforcementPlugin } = await import("./guards.ts");
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
