import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../test/app.ts";
import { adminUrl } from "../test/cluster.ts";
import { type Proxy, startProxy } from "../test/proxy.ts";

/** What is in everything that a lane is sent, and in what a transaction's connection is. */
const LANE = "\0scope\0";
const TRANSACTION = ["begin; ", "/*t_", "commit\0"];

let proxy: Proxy;
let api: TestApp;
let tenant: TestTenant;
let access: string;
let company: number;

beforeAll(async () => {
  proxy = await startProxy(adminUrl);
  api = await startTestApp({ serverUrl: proxy.url });
  tenant = await api.createTenant();
  ({ access } = await api.logIn(tenant, tenant.owner.email));
  const made = await api
    .client(tenant)
    .post("/api/company/", { name: "Acme", is_parent_company: false }, { token: access });
  ({ id: company } = made.body as { id: number });
});
afterAll(async () => {
  await api.close();
  await proxy.close();
});

/** What the database was sent meanwhile that has one of these texts; what works by itself, such as the heartbeat, has others. */
async function writesDuring(
  work: () => Promise<unknown>,
  texts: readonly string[] = [LANE],
): Promise<Buffer[]> {
  const before = proxy.received.length;
  await work();
  return proxy.received.slice(before).filter((bytes) => texts.some((text) => bytes.includes(text)));
}

describe("an authenticated read", () => {
  test.each([
    { path: () => "/api/account/profile/" },
    { path: () => "/api/company/" },
    { path: () => `/api/company/${company}/` },
    { path: () => `/api/access-control/my-permissions/?company=${company}` },
    { path: () => "/api/account/sessions/" },
  ])("asks the database once, when tenant and login are remembered: $path", async ({ path }) => {
    const read = async () => {
      const { status } = await api.client(tenant).get(path(), { token: access });
      expect(status).toBe(200);
    };
    await read();

    const writes = await writesDuring(read);

    expect(writes).toHaveLength(1);
    // One Sync, so one answer to wait for: the round trip.
    expect(writes[0]?.toString("latin1").split("S\0\0\0\u0004")).toHaveLength(2);
  });

  test("that finds nothing remembered asks for the tenant, the login and the row", async () => {
    api.services.directory.clear();
    api.services.principals.clear();

    const writes = await writesDuring(() =>
      api.client(tenant).get("/api/account/profile/", { token: access }),
    );

    expect(writes).toHaveLength(3);
  });
});

describe("a login", () => {
  const logIn = () => api.logIn(tenant, tenant.owner.email);

  test("asks the database four times, and sets its count back beside the last two", async () => {
    await logIn();

    const lane = await writesDuring(logIn);
    const transaction = await writesDuring(logIn, TRANSACTION);

    // The account; the try, counted; the count, set back.
    expect(lane).toHaveLength(3);
    // What it changes; its entry in the log, with the commit.
    expect(transaction).toHaveLength(2);
    expect(transaction[1]?.includes("insert into security_logs")).toBe(true);
  });

  test("that is refused writes its entry in one exchange", async () => {
    const refused = () =>
      api
        .client(tenant)
        .post("/api/auth/login/", { identifier: "nobody", password: "a wrong one" });
    await refused();

    expect(await writesDuring(refused, TRANSACTION)).toHaveLength(1);
  });
});
