import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../test/app.ts";
import { PERMISSION_CODES, PERMISSIONS } from "./catalogue.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.close());

describe("the catalogue of a new tenant", () => {
  test("is what the code declares, all of it built in", async () => {
    const { sql } = await app.createTenant();

    const seeded = await sql`select code, module, description, is_built_in from permissions`;

    const declared = Object.entries(PERMISSIONS).map(([code, entry]) => ({
      code,
      ...entry,
      is_built_in: true,
    }));
    expect([...seeded]).toEqual(expect.arrayContaining(declared));
    expect(seeded).toHaveLength(PERMISSION_CODES.length);
  });

  test("comes with three system roles that belong to no company", async () => {
    const { sql } = await app.createTenant();

    const roles = await sql`select role, company, is_system_role from roles order by id`;

    expect([...roles]).toEqual(
      ["Owner", "Admin", "Member"].map((role) => ({ role, company: null, is_system_role: true })),
    );
    expect(await sql`select id from role_permissions`).toHaveLength(0);
  });
});
