import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { withAdmin } from "../db/admin.ts";
import { eraseTenant, listDueErasures, scheduleErasure } from "./erasure.ts";
import { setTenantStatus } from "./life-cycle.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.close());

const schedule = (tenant: TestTenant, days?: number) =>
  withAdmin(app.ownerUrl, (admin) => scheduleErasure(admin.query, tenant.subdomain, days));
const erase = (subdomain: string) =>
  withAdmin(app.ownerUrl, (admin) => eraseTenant(admin, subdomain));
const profile = (tenant: TestTenant, token: string) =>
  app.client(tenant).get("/api/account/profile/", { token });

/** Everything that is there of a tenant. */
async function stateOf({ id }: TestTenant): Promise<unknown> {
  const [row] = await app.registry`
    select (select to_jsonb(t) - 'updated_at' from public.tenants t where t.id = ${id}) as tenant,
           (select count(*)::int from pg_roles where rolname = ${`t_${id}`}) as roles,
           (select count(*)::int from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = ${`t_${id}`}) as relations`;
  return row;
}

describe("scheduleErasure", () => {
  test("suspends the tenant and deletes nothing; activating takes it back", async () => {
    const tenant = await app.createTenant();
    const { access } = await app.signUp(tenant);

    const scheduled = await schedule(tenant);
    await vi.waitFor(async () => expect((await profile(tenant, access)).status).toBe(403));
    const days = ((scheduled.delete_after?.getTime() ?? 0) - Date.now()) / 86_400_000;
    const back = await withAdmin(app.ownerUrl, (admin) =>
      setTenantStatus(admin.query, tenant.subdomain, "active"),
    );

    expect(scheduled.status).toBe("suspended");
    expect(days).toBeGreaterThan(29.9);
    expect(days).toBeLessThan(30.1);
    expect(back).toMatchObject({ status: "active", delete_after: null });
    await vi.waitFor(async () => expect((await profile(tenant, access)).status).toBe(200));
  });

  test("suspending again does not take it back", async () => {
    const tenant = await app.createTenant();
    await schedule(tenant);

    const suspended = await withAdmin(app.ownerUrl, (admin) =>
      setTenantStatus(admin.query, tenant.subdomain, "suspended"),
    );

    expect(suspended.delete_after).not.toBeNull();
  });
});

describe("eraseTenant", () => {
  test("leaves nothing in the catalog and the registry, of this tenant alone, and a receipt", async () => {
    const [tenant, neighbour] = [await app.createTenant(), await app.createTenant()];
    const { access } = await app.signUp(tenant);
    const { access: neighbours } = await app.signUp(neighbour);
    await app.registry`
      insert into public.tenant_domains (tenant_id, domain, verified_at)
      values (${tenant.id}, 'erased.test', now())`;
    await app.registry`
      insert into public.log_receipts (tenant_id, log, through_number, digest, entries, cutoff, is_forced)
      values (${tenant.id}, 'activity', 1, ${Buffer.alloc(32)}, 1, now(), false)`;
    const before = await stateOf(neighbour);
    await schedule(tenant, 0);

    const receipt = await erase(tenant.subdomain);

    expect(receipt).toMatchObject({ tenant_id: tenant.id, subdomain: tenant.subdomain });
    expect(receipt.after.map(({ place }) => place)).toEqual([
      "schemas",
      "relations",
      "roles",
      "role_memberships",
      "tenants",
      ...[
        "log_checkpoints",
        "log_receipts",
        "message_queues",
        "support_sessions",
        "tenant_domains",
        "tenant_migrations",
      ].map((name) => `public.${name}`),
    ]);
    expect(receipt.after.filter(({ found }) => found > 0)).toEqual([]);
    const had = new Map(receipt.before.map(({ place, found }) => [place, found]));
    expect(had.get("schemas")).toBe(1);
    expect(had.get("relations")).toBeGreaterThan(50);
    expect(had.get("public.tenant_domains")).toBe(1);
    expect(had.get("public.log_receipts")).toBe(1);
    expect(await stateOf(tenant)).toEqual({ tenant: null, roles: 0, relations: 0 });
    const kept = await app.registry`
      select receipt::text from public.erased_tenants where tenant_id = ${tenant.id}`;
    expect(kept).toHaveLength(1);
    expect(String(kept[0]?.["receipt"])).not.toContain(tenant.subdomain);
    // Every process forgets it; the neighbour goes on.
    await vi.waitFor(async () =>
      expect(await profile(tenant, access)).toMatchObject({
        status: 404,
        body: { code: "tenant_not_found" },
      }),
    );
    expect((await profile(neighbour, neighbours)).status).toBe(200);
    expect(await stateOf(neighbour)).toEqual(before);
  });

  test("gives its id to nobody, its subdomain to whoever comes next, who reads nothing of it", async () => {
    const tenant = await app.createTenant();
    const { access } = await app.signUp(tenant);
    await schedule(tenant, 0);
    await erase(tenant.subdomain);

    const next = await app.createTenant(tenant.subdomain);

    expect(next.id).toBeGreaterThan(tenant.id);
    await vi.waitFor(async () =>
      expect(await profile(next, access)).toMatchObject({
        status: 401,
        body: { code: "token_tenant_mismatch" },
      }),
    );
  });

  test.each([
    ["was not said to be deleted", undefined, "was not said to be deleted"],
    ["has days of grace left", 1, "is not over yet"],
  ])("refuses a tenant that %s", async (_, days, sentence) => {
    const tenant = await app.createTenant();
    if (days !== undefined) await schedule(tenant, days);
    const before = await stateOf(tenant);

    await expect(erase(tenant.subdomain)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(sentence),
    });
    expect(await stateOf(tenant)).toEqual(before);
  });

  test("fails whole while something of it is in use, and is done afterwards", async () => {
    const tenant = await app.createTenant();
    await schedule(tenant, 0);
    const before = await stateOf(tenant);
    await withAdmin(app.ownerUrl, async (holder) => {
      await holder.execute(`begin; lock table t_${tenant.id}.users in access share mode`);

      await expect(
        withAdmin(app.ownerUrl, (admin) => eraseTenant(admin, tenant.subdomain), {
          lockTimeoutMs: 100,
        }),
      ).rejects.toMatchObject({ code: "conflict", message: expect.stringContaining("in use") });
      expect(await stateOf(tenant)).toEqual(before);
      await holder.execute("rollback");
    });

    await erase(tenant.subdomain);
    expect(await stateOf(tenant)).toEqual({ tenant: null, roles: 0, relations: 0 });
  });

  test("of two at once one erases, the other is told", async () => {
    const tenant = await app.createTenant();
    await schedule(tenant, 0);

    const outcomes = await Promise.allSettled([erase(tenant.subdomain), erase(tenant.subdomain)]);

    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(outcomes.find(({ status }) => status === "rejected")).toMatchObject({
      reason: { code: "tenant_not_found" },
    });
  });
});

describe("listDueErasures", () => {
  test("names those whose grace is over", async () => {
    const [due, waiting] = [await app.createTenant(), await app.createTenant()];
    await schedule(due, 0);
    await schedule(waiting, 1);

    const names = await withAdmin(app.ownerUrl, (admin) => listDueErasures(admin.query));

    expect(names).toContain(due.subdomain);
    expect(names).not.toContain(waiting.subdomain);
  });
});
