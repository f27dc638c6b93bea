import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { NO_LIMITS } from "../../test/limits.ts";
import { ListQuery, pageOf, rangeOf } from "./lists.ts";

/** Users of the tenant: its owner and these, `Row 001` to `Row 044`. */
const ROWS = 44;

const Page = pageOf(z.object({ full_name: z.string() }));

let api: TestApp;
let tenant: TestTenant;
let token: string;

beforeAll(async () => {
  api = await startTestApp({ config: { rateLimits: NO_LIMITS } });
  tenant = await api.createTenant();
  token = (await api.logIn(tenant, tenant.owner.email)).access;
  await tenant.sql`
    insert into users (username, full_name, primary_mobile)
    select 'row-' || n, 'Row ' || to_char(n, 'FM000'), '+2011' || to_char(n, 'FM00000000')
      from generate_series(1, ${ROWS}) as n`;
});
afterAll(() => api.close());

const get = (query: string, headers: Record<string, string> = {}) =>
  api.client(tenant).get(`/api/account/users/${query}`, { token, headers });
const names = (body: unknown) => Page.parse(body).results.map(({ full_name: name }) => name);

describe("a list", () => {
  test("answers count, next, previous and results, and nothing else", async () => {
    const { status, body } = await get("?page_size=10&page=2");

    expect(status).toBe(200);
    expect(Object.keys(Object(body))).toEqual(["count", "next", "previous", "results"]);
    expect(body).toMatchObject({ count: ROWS + 1 });
    expect(names(body)).toHaveLength(10);
  });

  test("has 20 rows a page where nothing is said, and the page is the first", async () => {
    const { body } = await get("");

    expect(names(body)).toHaveLength(20);
    expect(body).toMatchObject({ previous: null });
  });

  test("gives every row once, when its own links are followed from the first to the last", async () => {
    const seen: string[] = [];
    let next: string | null = "http://any.test/?page_size=7";
    while (next !== null) {
      const { body } = await get(new URL(next).search);
      seen.push(...names(body));
      next = Page.parse(body).next;
    }

    expect(seen).toHaveLength(ROWS + 1);
    expect(new Set(seen).size).toBe(ROWS + 1);
  });

  test("links are absolute and keep the other parameters, however they are written", async () => {
    const { body } = await get("?search=Row%200&page_size=10&page=2", { host: "acme.test:8080" });

    const { next, previous } = Page.parse(body);
    for (const [link, page] of [
      [next, "3"],
      [previous, "1"],
    ] as const) {
      const url = new URL(link ?? "");
      expect(`${url.origin}${url.pathname}`).toBe("http://acme.test:8080/api/account/users/");
      expect(Object.fromEntries(url.searchParams)).toEqual({
        search: "Row 0",
        page_size: "10",
        page,
      });
    }
  });

  test("a forged X-Forwarded-Host does not lead the links elsewhere", async () => {
    const { body } = await get("?page_size=10", { "x-forwarded-host": "evil.test" });

    expect(Page.parse(body).next).not.toContain("evil.test");
  });

  test.each([
    ["a space", "acme test"],
    ["a port that is none", "acme.test:99999"],
    ["half a bracket", "[::1"],
    ["a percent sign", "%zz"],
  ])("a Host with %s, of which no link can be made, is refused", async (_, host) => {
    const refused = await get("?page_size=10", { host });

    expect(refused).toMatchObject({ status: 400, body: { code: "bad_host" } });
  });

  test("the last page has no next one; the page after it does not exist", async () => {
    const last = await get("?page_size=10&page=5");
    expect(names(last.body)).toHaveLength(5);
    expect(last.body).toMatchObject({ next: null });

    expect(await get("?page_size=10&page=6")).toMatchObject({
      status: 404,
      body: { code: "not_found" },
    });
  });

  test("of nothing the first page is there and empty, the second is not", async () => {
    const { status, body } = await get("?search=nobody-is-called-that");
    expect({ status, body }).toEqual({
      status: 200,
      body: { count: 0, next: null, previous: null, results: [] },
    });

    expect((await get("?search=nobody-is-called-that&page=2")).status).toBe(404);
  });

  test.each([
    ["page_size=100", 200],
    ["page_size=1", 200],
    ["page=50000", 404],
    [`search=${"a".repeat(100)}`, 200],
    ["search=%ED%A0%80", 200],
    ["search=%E0%A4%A", 200],
    ["search=%F0%9F%99%82", 200],
    ["search=%5C", 200],
    ["search=%27%20or%201%3D1%20--", 200],
  ])("?%s is answered %i", async (query, status) => {
    expect((await get(`?${query}`)).status).toBe(status);
  });

  test.each([
    ["page_size=101"],
    ["page_size=0"],
    ["page_size=-1"],
    ["page_size=1.5"],
    ["page=0"],
    ["page=-1"],
    ["page=1.5"],
    ["page="],
    ["page=one"],
    ["page=1&page=2"],
    ["page=9007199254740993"],
    ["page=50001"],
    ["page=NaN"],
    ["page=Infinity"],
    ["search="],
    ["search=%20"],
    ["search=%00"],
    ["search=a&search=b"],
    [`search=${"a".repeat(101)}`],
    ["ordering=name"],
    ["limit=10"],
    ["__proto__=1"],
  ])("?%s is refused", async (query) => {
    const refused = await get(`?${query}`);

    expect(refused).toMatchObject({ status: 400, body: { code: "validation_error" } });
  });

  test.each([
    ["%", "100% Ada", "1000 Ada"],
    ["_", "under_score", "underscore"],
    ["\\", "back\\slash", "backslash"],
  ])("a search for %s finds that character and no other", async (sign, withSign, without) => {
    await tenant.sql`update users set full_name = ${withSign} where username = 'row-1'`;
    await tenant.sql`update users set full_name = ${without} where username = 'row-2'`;

    const { body } = await get(`?search=${encodeURIComponent(sign)}`);

    expect(names(body)).toEqual([withSign]);
    await tenant.sql`
      update users set full_name = 'Row ' || to_char(substring(username from 5)::int, 'FM000')
       where username in ('row-1', 'row-2')`;
  });
});

describe("rangeOf", () => {
  test("says where a page begins", () => {
    expect(rangeOf(ListQuery.parse({}))).toEqual({ limit: 20, offset: 0 });
    expect(rangeOf(ListQuery.parse({ page: "3", page_size: "7" }))).toEqual({
      limit: 7,
      offset: 14,
    });
  });
});
