import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { seal, verify, writeEntries } from "../../test/logs.ts";
import { runScript } from "../../test/process.ts";

let app: TestApp;
let tenant: TestTenant;
/** Of three links of two entries each: the first sealed 500 days ago, the second 450, the third now. */
let ids: number[];

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  tenant = await app.createTenant();
  ids = [];
  for (const days of [500, 450, 0]) {
    const written = await writeEntries(tenant, 2);
    await tenant.sql`
      update activity_logs set created_at = now() - make_interval(days => ${days})
       where id in ${tenant.sql(written)}`;
    ids.push(...written);
    await seal(app, tenant);
  }
  await tenant.sql`
    update log_seals set created_at = now() - make_interval(days => 550 - number::int * 50)
     where log = 'activity' and number < 3`;
});

function run(...args: string[]) {
  return runScript("tenant.ts", args, {
    APP_ENV: "local",
    DATA_DIR: app.config.dataDir,
    DATABASE_URL: app.config.databaseUrl ?? "",
    DATABASE_MIGRATION_URL: app.ownerUrl,
  });
}

async function entryIds(): Promise<number[]> {
  return (await tenant.sql<{ id: number }[]>`select id from activity_logs order by id`).map(
    ({ id }) => id,
  );
}

describe("npm run tenant -- prune-logs", () => {
  test("deletes what is older than the days given, and the log is still whole", async () => {
    const { exitCode, stdout } = await run("prune-logs", tenant.subdomain, "--keep-days", "400");

    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: `${tenant.subdomain}: 4 entries older than 400 days deleted\n`,
    });
    expect(await entryIds()).toEqual(ids.slice(4));
    expect(await verify(app, tenant)).toMatchObject({
      checked_entries: 2,
      is_complete: true,
      findings: [],
    });
    const receipts = await app.registry`
      select through_number, entries, is_forced from public.log_receipts where tenant_id = ${tenant.id}`;
    expect(receipts).toMatchObject([{ through_number: 2, entries: 4, is_forced: false }]);
  });

  test("goes on with the next part later, by the days that were kept", async () => {
    await run("prune-logs", tenant.subdomain, "--keep-days", "480");
    const first = await entryIds();
    await app.registry`update public.tenants set log_retention_days = 400 where id = ${tenant.id}`;

    const { exitCode } = await run("prune-logs");

    expect(first).toEqual(ids.slice(2));
    expect(exitCode).toBe(0);
    expect(await entryIds()).toEqual(ids.slice(4));
    expect((await verify(app, tenant)).findings).toEqual([]);
  });

  test("leaves tenants without a number of days alone", async () => {
    const { stdout } = await run("prune-logs", tenant.subdomain);

    expect(stdout).toBe(`${tenant.subdomain}: keeps its logs for ever\n`);
    expect(await entryIds()).toEqual(ids);
  });

  test("keeps what is not sealed, however old it is", async () => {
    const [unsealed = 0] = await writeEntries(tenant, 1);
    await tenant.sql`
      update activity_logs set created_at = now() - interval '900 days' where id = ${unsealed}`;

    await run("prune-logs", tenant.subdomain, "--keep-days", "400");

    expect(await entryIds()).toEqual([...ids.slice(4), unsealed]);
  });

  test("keeps what was written since, whatever time its seal bears", async () => {
    await tenant.sql`update log_seals set created_at = '2001-01-01' where log = 'activity'`;

    await run("prune-logs", tenant.subdomain, "--keep-days", "400");

    expect(await entryIds()).toEqual(ids.slice(4));
  });

  test("refuses to prune what is not what was sealed, and deletes nothing", async () => {
    await tenant.sql`update activity_logs set action = 'DELETE' where id = ${ids[0] ?? 0}`;

    const { exitCode, stdout } = await run("prune-logs", tenant.subdomain, "--keep-days", "400");

    expect(exitCode).toBe(1);
    expect(stdout).toContain(`Entry ${ids[0]} is not what was sealed.`);
    expect(await entryIds()).toEqual(ids);
    expect(
      await app.registry`select 1 from public.log_receipts where tenant_id = ${tenant.id}`,
    ).toEqual([]);
  });

  test("prunes it when forced, and the receipt says so", async () => {
    await tenant.sql`update activity_logs set action = 'DELETE' where id = ${ids[0] ?? 0}`;

    await run("prune-logs", tenant.subdomain, "--keep-days", "400", "--force");

    expect(await entryIds()).toEqual(ids.slice(4));
    const receipts = await app.registry`
      select is_forced from public.log_receipts where tenant_id = ${tenant.id}`;
    expect(receipts).toMatchObject([{ is_forced: true }]);
  });

  test("is told from a cut: an entry put back there, or a changed anchor, is found", async () => {
    await run("prune-logs", tenant.subdomain, "--keep-days", "400");
    await tenant.sql`
      insert into activity_logs (user_display, entity_type, entity_id, action, transaction_id)
      values ('eve', 'Company', 1, 'UPDATE', '3')`;
    const [put] = await tenant.sql`select max(id) as id from activity_logs`;
    const inserted = await verify(app, tenant);
    await tenant.sql`update log_seals set digest = sha256('x') where log = 'activity' and number = 2`;

    const changed = await verify(app, tenant);

    expect(inserted.findings).toMatchObject([{ kind: "inserted", entry_id: put?.["id"] }]);
    expect(changed.findings).toContainEqual(
      expect.objectContaining({ kind: "seal_changed", seal: 2 }),
    );
  });

  test.each([["0"], ["-1"], ["1.5"], ["soon"]])("does not take %s for days", async (days) => {
    const { exitCode, stderr } = await run("prune-logs", tenant.subdomain, `--keep-days=${days}`);

    expect(exitCode).toBe(2);
    expect(stderr).toContain("--keep-days takes a whole number of days from 1, or forever.");
    expect(await entryIds()).toEqual(ids);
  });
});

describe("npm run tenant -- verify-audit", () => {
  test("exits with 0 when the logs are whole", async () => {
    const { exitCode, stdout } = await run("verify-audit", tenant.subdomain);

    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: expect.stringMatching(/: intact \(\d+ sealed entries\)\n$/),
    });
  });

  test("exits with 1 and names what was changed, for people and as JSON", async () => {
    await tenant.sql`delete from activity_logs where id = ${ids[3] ?? 0}`;

    const text = await run("verify-audit", tenant.subdomain);
    const json = await run("verify-audit", tenant.subdomain, "--json");

    expect(text.exitCode).toBe(1);
    expect(text.stdout).toContain(`activity log, deleted: Entry ${ids[3]} was deleted.`);
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      status: "broken",
      logs: [{ findings: [{ kind: "deleted", entry_id: ids[3] }] }, { findings: [] }],
    });
  });

  test("of a tenant that does not exist fails", async () => {
    const { exitCode, stderr } = await run("verify-audit", "nobody");

    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: 'tenant_not_found: There is no tenant "nobody".\n',
    });
  });
});
