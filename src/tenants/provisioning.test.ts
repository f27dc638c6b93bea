import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistry, type TestRegistry } from "../../test/registry.ts";
import { withAdmin } from "../db/admin.ts";
import { TenantDatabase } from "../db/tenant-database.ts";
import { loadTenantMigrations, type TenantMigration } from "../db/tenant-migrations.ts";
import { sha256 } from "../keys.ts";
import { createTenant, type NewTenant } from "./provisioning.ts";

let registry: TestRegistry;
let migrations: readonly TenantMigration[];

beforeAll(async () => {
  registry = await createRegistry();
  migrations = await loadTenantMigrations();
});
afterAll(() => registry.close());

function newTenant(subdomain: string, more: Partial<NewTenant> = {}): NewTenant {
  return {
    name: `Tenant ${subdomain}`,
    subdomain,
    owner: { fullName: "Ada", email: `owner@${subdomain}.test`, phone: "+201001234567" },
    ...more,
  };
}

function create(tenant: NewTenant, with_: readonly TenantMigration[] = migrations) {
  return withAdmin(registry.url, (admin) => createTenant(admin, with_, registry.apiRole, tenant));
}

/** Everything a tenant leaves in the catalogs, to see that a refusal left nothing. */
async function countTraces() {
  const [counts] = await registry.sql`
    select
      (select count(*) from public.tenants)                                       as tenants,
      (select count(*) from public.tenant_migrations)                             as ledger,
      (select count(*) from public.tenant_domains)                                as domains,
      (select count(*) from pg_namespace where nspname ~ '^t_[0-9]+$')            as schemas,
      (select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member
        where r.rolname = ${registry.apiRole})                                    as roles`;
  return counts;
}

describe("createTenant", () => {
  test("makes registry row, ledger, schema, role, tables, grants and the owner", async () => {
    const created = await create(newTenant("whole"));

    const [row] = await registry.sql`
      select t.subdomain, t.status, m.version, m.state, m.attempts
        from public.tenants t join public.tenant_migrations m on m.tenant_id = t.id
       where t.id = ${created.id}`;
    expect(row).toEqual({
      subdomain: "whole",
      status: "active",
      version: migrations.at(-1)?.name,
      state: "applied",
      attempts: 1,
    });
    const applied = await registry.sql.unsafe(
      `select name from ${created.schema}.pgmigrations order by id`,
    );
    expect(applied.map(({ name }) => name)).toEqual(migrations.map(({ name }) => name));
    const owners = await registry.sql.unsafe(
      `select email, is_tenant_admin, email_verified_at is not null as verified, password_hash from ${created.schema}.users`,
    );
    expect([...owners]).toEqual([
      { email: "owner@whole.test", is_tenant_admin: true, verified: true, password_hash: null },
    ]);
  });

  test("gives a link's token when there is no password, kept as its hash alone", async () => {
    const created = await create(newTenant("linked"));

    const resets = await registry.sql.unsafe(
      `select token_hash from ${created.schema}.password_resets`,
    );
    expect(created.passwordToken).toMatch(/^[\w-]{43}$/);
    expect(resets.map(({ token_hash: hash }) => Buffer.from(hash))).toEqual([
      sha256(created.passwordToken ?? ""),
    ]);
  });

  test("gives no token when there is a password", async () => {
    const owner = { ...newTenant("worded").owner, passwordHash: "p1$2b$04$xxxxxxxx" };
    const created = await create(newTenant("worded", { owner }));

    expect(created.passwordToken).toBeUndefined();
    expect(
      await registry.sql.unsafe(`select id from ${created.schema}.password_resets`),
    ).toHaveLength(0);
  });

  test("refuses a taken subdomain with `conflict` and leaves nothing", async () => {
    await create(newTenant("taken"));
    const before = await countTraces();

    await expect(create(newTenant("taken"))).rejects.toMatchObject({ code: "conflict" });
    expect(await countTraces()).toEqual(before);
  });

  test("refuses a domain that another tenant holds and leaves nothing", async () => {
    await create(newTenant("holder", { domain: "app.holder.test" }));
    const before = await countTraces();

    await expect(create(newTenant("rival", { domain: "app.holder.test" }))).rejects.toMatchObject({
      code: "conflict",
    });
    expect(await countTraces()).toEqual(before);
  });

  test("makes one tenant of 8 creates of one subdomain at once", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => create(newTenant("raced"))),
    );

    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const reasons: unknown[] = results.flatMap((result) =>
      result.status === "rejected" ? [result.reason] : [],
    );
    for (const reason of reasons) expect(reason).toMatchObject({ code: "conflict" });
    expect(
      await registry.sql`select id from public.tenants where subdomain = 'raced'`,
    ).toHaveLength(1);
  });

  test("leaves nothing when a migration fails half way", async () => {
    const broken: TenantMigration = {
      name: "1999999999999_broken",
      up: "create table half (id int); select * from nowhere",
      down: "",
    };
    const before = await countTraces();

    await expect(create(newTenant("broken"), [...migrations, broken])).rejects.toMatchObject({
      code: "42P01",
    });
    expect(await countTraces()).toEqual(before);
  });

  test("leaves nothing when the server ends its connection half way", async () => {
    const slow: TenantMigration = {
      name: "1999999999999_slow",
      up: "select pg_sleep(20)",
      down: "",
    };
    const before = await countTraces();
    const creating = create(newTenant("killed"), [...migrations, slow]);
    const failure = creating.then(
      () => "created",
      (error: unknown) => error,
    );

    await expect
      .poll(
        () => registry.sql`
          select pg_terminate_backend(pid) as killed from pg_stat_activity
           where application_name = 'ouvira admin' and wait_event = 'PgSleep' and datname = current_database()`,
        { timeout: 10_000, interval: 20 },
      )
      .toHaveLength(1);

    expect(await failure).toMatchObject({ code: "not_ready" });
    await expect.poll(countTraces).toEqual(before);
  });

  test("steps over an id whose role another database of the cluster has", async () => {
    const first = await create(newTenant("first"));
    await registry.sql.unsafe(`create role t_${first.id + 1}`);
    try {
      const second = await create(newTenant("second"));
      expect(second.id).toBeGreaterThan(first.id + 1);
    } finally {
      await registry.sql.unsafe(`drop role t_${first.id + 1}`);
    }
  });
});

describe("what a tenant's role may do", () => {
  test("a log row can be written and read, neither changed nor deleted: 42501", async () => {
    const created = await create(newTenant("logged"));
    const database = new TenantDatabase({
      url: registry.apiUrl,
      lanes: 1,
      transactionConnections: 1,
      preparedPerLaneMax: 100,
    });
    const tenant = database.tenant(created.id);
    try {
      await tenant.query`insert into security_logs (user_display, action) values ('somebody', 'LOGOUT')`;
      const before =
        await tenant.query`select id, user_display, action from security_logs order by id`;

      await expect(tenant.query`update security_logs set action = 'LOGIN'`).rejects.toMatchObject({
        code: "42501",
      });
      await expect(tenant.query`delete from security_logs`).rejects.toMatchObject({
        code: "42501",
      });
      await expect(tenant.query`truncate security_logs`).rejects.toMatchObject({ code: "42501" });
      await expect(tenant.query`create table mine (id int)`).rejects.toMatchObject({
        code: "42501",
      });
      await expect(tenant.query`create temp table mine (id int)`).rejects.toMatchObject({
        code: "42501",
      });
      await expect(tenant.query`select id from public.tenants`).rejects.toMatchObject({
        code: "42501",
      });

      expect(
        await tenant.query`select id, user_display, action from security_logs order by id`,
      ).toEqual(before);
    } finally {
      await database.close();
    }
  });
});

describe("the tables of a tenant", () => {
  test("refer to nothing outside their schema and have no trigger, as Citus needs", async () => {
    const { schema } = await create(newTenant("contained"));

    const outside = await registry.sql`
      select c.conname from pg_constraint c
       where c.connamespace = ${schema}::regnamespace and c.contype = 'f'
         and (select relnamespace from pg_class where oid = c.confrelid) <> c.connamespace`;
    const triggers = await registry.sql`
      select t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
       where c.relnamespace = ${schema}::regnamespace and not t.tgisinternal`;
    expect([...outside]).toEqual([]);
    expect([...triggers]).toEqual([]);
  });
});
