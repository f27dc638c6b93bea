import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { runScript } from "../../test/process.ts";
import { withAdmin } from "../db/admin.ts";
import { renameTenant, setTenantStatus } from "./life-cycle.ts";

let app: TestApp;
let tenant: TestTenant;
let token: string;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  tenant = await app.createTenant();
  token = (await app.logIn(tenant, tenant.owner.email)).access;
});

function run(...args: string[]) {
  return runScript("tenant.ts", args, {
    APP_ENV: "local",
    DATA_DIR: app.config.dataDir,
    DATABASE_URL: app.config.databaseUrl ?? "",
    DATABASE_MIGRATION_URL: app.ownerUrl,
  });
}

function read(client = app) {
  return client.client(tenant).get("/api/account/profile/", { token });
}
function change(client = app) {
  return client.client(tenant).patch("/api/account/profile/", { full_name: "Changed" }, { token });
}

describe("npm run tenant -- suspend, read-only, activate", () => {
  test("refuse and allow again, on every process within a second", async () => {
    const replica = await app.startReplica();
    expect([(await read()).status, (await read(replica)).status]).toEqual([200, 200]);

    const suspended = await run("suspend", tenant.subdomain);
    const startedAt = Date.now();
    for (const process of [app, replica]) {
      await vi.waitFor(async () => {
        expect(await read(process)).toMatchObject({
          status: 403,
          body: { code: "tenant_suspended" },
        });
      });
    }
    expect(Date.now() - startedAt).toBeLessThan(1_000);
    const readOnly = await run("read-only", tenant.subdomain);
    await vi.waitFor(async () => {
      expect((await read(replica)).status).toBe(200);
    });
    const refused = await change(replica);
    const active = await run("activate", tenant.subdomain, "--json");
    await vi.waitFor(async () => {
      expect((await change(replica)).status).toBe(200);
    });

    expect(suspended).toMatchObject({ exitCode: 0, stdout: `${tenant.subdomain} is suspended.\n` });
    expect(readOnly).toMatchObject({
      exitCode: 0,
      stdout: `${tenant.subdomain} can be read, not changed.\n`,
    });
    expect(refused).toMatchObject({ status: 403, body: { code: "tenant_read_only" } });
    expect(JSON.parse(active.stdout)).toMatchObject({
      subdomain: tenant.subdomain,
      status: "active",
    });
  });

  test("of a tenant that there is not fail, and change no other", async () => {
    const { exitCode, stderr } = await run("suspend", "nobody");

    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: 'tenant_not_found: There is no tenant "nobody".\n',
    });
    expect((await read()).status).toBe(200);
  });

  test.each([["suspend"], ["suspend", "a", "b"], ["rename", "acme"], ["domain", "add", "acme"]])(
    "%s %s say how they are used",
    async (...args) => {
      const { exitCode, stderr } = await run(...args);

      expect(exitCode).toBe(2);
      expect(stderr).toContain("npm run tenant -- ");
    },
  );

  test("suspending holds with the database alone, the notifications cut", async () => {
    await app.services.notifications.close();
    try {
      await withAdmin(app.ownerUrl, (admin) =>
        setTenantStatus(admin.query, tenant.subdomain, "suspended"),
      );
      await vi.waitFor(
        async () => {
          expect((await read()).status).toBe(403);
        },
        { timeout: 1_000 },
      );
    } finally {
      await app.services.notifications.open();
    }
  });
});

describe("renaming a tenant", () => {
  test("leads the new name to it and the old one nowhere, logins and rows as they were", async () => {
    const renamed = `${tenant.subdomain}-two`;

    const { exitCode, stdout } = await run("rename", tenant.subdomain, renamed);

    expect({ exitCode, stdout }).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining(`is ${renamed} now (id ${tenant.id}, schema t_${tenant.id})`),
    });
    await vi.waitFor(async () => {
      expect(await read()).toMatchObject({ status: 404, body: { code: "tenant_not_found" } });
    });
    const answer = await app
      .client({ ...tenant, subdomain: renamed })
      .get("/api/account/profile/", {
        token,
      });
    expect(answer.status).toBe(200);
  });

  test.each([
    ["a reserved name", "admin", "validation_error"],
    ["a malformed one", "a_b", "validation_error"],
  ])("refuses %s", async (_, name, code) => {
    await expect(
      withAdmin(app.ownerUrl, (admin) => renameTenant(admin.query, tenant.subdomain, name)),
    ).rejects.toMatchObject({ code });
    expect((await read()).status).toBe(200);
  });

  test("refuses another tenant's name, also when both ask at the same time", async () => {
    const other = await app.createTenant();
    await expect(
      withAdmin(app.ownerUrl, (admin) =>
        renameTenant(admin.query, tenant.subdomain, other.subdomain),
      ),
    ).rejects.toMatchObject({ code: "conflict" });
    const wanted = `${tenant.subdomain}-wanted`;

    const results = await Promise.allSettled(
      [tenant, other].map(({ subdomain }) =>
        withAdmin(app.ownerUrl, (admin) => renameTenant(admin.query, subdomain, wanted)),
      ),
    );

    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });
});
