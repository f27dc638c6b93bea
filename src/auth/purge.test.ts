import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { newPhone, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";

let api: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
});
afterAll(async () => {
  vi.useRealTimers();
  await api.close();
});

/** Until the next login may do it again. Only this process's clock is moved. */
const aMinuteLater = () => vi.setSystemTime(Date.now() + 60_000);
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  aMinuteLater();
});

const countOf = async (table: string) => {
  const [row] = await tenant.sql<{ count: number }[]>`select count(*) from ${tenant.sql(table)}`;
  return row?.count ?? 0;
};

describe("what has run out", () => {
  test("is forgotten at the next login; what has not stays", async () => {
    const ada = await api.signUp(tenant);
    const { id } = ada.user;
    for (const age of ["2 days", "1 minute"]) {
      await tenant.sql`
        insert into signups (primary_mobile, network, full_name, otp_expires_at, updated_at)
        values (${newPhone()}, '192.0.2.1/32', 'Bob', now(), now() - ${age}::interval)`;
      await tenant.sql`
        insert into failures (subject, network, failures, updated_at)
        values (${Buffer.from(age)}, '192.0.2.1/32', 1, now() - ${age}::interval)`;
      await tenant.sql`
        insert into password_resets (user_id, token_hash, expires_at)
        values (${id}, ${Buffer.from(age)}, now() - ${age}::interval)`;
      await tenant.sql`
        insert into login_challenges (user_id, token_hash, is_remembered, expires_at)
        values (${id}, ${Buffer.from(age)}, false, now() + '1 hour'::interval - ${age}::interval)`;
      await tenant.sql`
        insert into login_sessions (user_id, refresh_salt, expires_at)
        values (${id}, '', now() - ${age}::interval * 20)`;
    }
    const verifications = await countOf("email_verifications");

    await api.logIn(tenant, ada.user.username);

    expect(await countOf("signups")).toBe(1);
    const failures = await tenant.sql`select 1 from failures where network = '192.0.2.1/32'`;
    expect(failures).toHaveLength(1);
    expect(await countOf("password_resets")).toBe(1);
    expect(await countOf("login_challenges")).toBe(1);
    expect(await countOf("email_verifications")).toBe(verifications);
    // The sign-up's own, the one of 20 minutes ago, and this one.
    expect(await countOf("login_sessions")).toBe(3);
  });

  test("is left to the next login where somebody holds it, which waits for nobody", async () => {
    const ada = await api.signUp(tenant);
    await tenant.sql`
      insert into failures (subject, network, failures, updated_at)
      values ('held', '192.0.2.2/32', 1, now() - interval '2 days')`;

    await tenant.sql.begin(async (tx) => {
      await tx`select 1 from failures where subject = 'held' for update`;
      await api.logIn(tenant, ada.user.username);
    });

    expect(await tenant.sql`select 1 from failures where subject = 'held'`).toHaveLength(1);
    aMinuteLater();
    await api.logIn(tenant, ada.user.username);
    expect(await tenant.sql`select 1 from failures where subject = 'held'`).toHaveLength(0);
  });

  test("goes 200 rows at a time, once a minute however many log in", async () => {
    const ada = await api.signUp(tenant);
    await tenant.sql`
      insert into failures (subject, network, failures, updated_at)
      select convert_to('many ' || n, 'utf8'), '192.0.2.3/32', 1, now() - interval '2 days'
        from generate_series(1, 250) as n`;
    const left = () => tenant.sql`select 1 from failures where network = '192.0.2.3/32'`;

    await api.logIn(tenant, ada.user.username);
    await api.logIn(tenant, ada.user.username);
    expect(await left()).toHaveLength(50);

    aMinuteLater();
    await api.logIn(tenant, ada.user.username);
    expect(await left()).toHaveLength(0);
  });

  test("is each tenant's own", async () => {
    const other = await api.createTenant();
    await other.sql`
      insert into failures (subject, network, failures, updated_at)
      values ('old', '192.0.2.4/32', 1, now() - interval '2 days')`;
    await api.logIn(tenant, tenant.owner.email);

    await api.logIn(other, other.owner.email);

    expect(await other.sql`select 1 from failures where subject = 'old'`).toHaveLength(0);
  });
});
