import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PASSWORD, startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type Person, World } from "../../test/world.ts";
import { notify } from "./notifications.ts";

let app: TestApp;
let tenant: TestTenant;
let world: World;

beforeAll(async () => {
  app = await startTestApp();
  tenant = await app.createTenant();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  world = await World.create(app, tenant, await app.services.passwords.hash(PASSWORD));
});

function tell(person: Person, message: string): Promise<void> {
  return app.services.database
    .tenant(tenant.id)
    .transaction((tx) => notify(tx, [person.id], message));
}

async function messages(person: Person, query = ""): Promise<string[]> {
  const { body } = await world.as(person).get(`/api/audit/notifications/?${query}`);
  return (body as { results: { message: string }[] }).results.map(({ message }) => message);
}

function mark(person: Person, body: object) {
  return world.as(person).post("/api/audit/notifications/mark-read/", body);
}

describe("notifications", () => {
  test("are listed newest first with the number of those not read, to their user alone", async () => {
    const [ada, bob] = [await world.person("owner"), await world.person("owner")];
    await tell(ada, "first");
    await tell(ada, "second");

    const { body } = await world.as(ada).get("/api/audit/notifications/");

    expect(body).toMatchObject({
      count: 2,
      unread_count: 2,
      results: [
        { message: "second", read: false },
        { message: "first", read: false },
      ],
    });
    expect(await messages(bob)).toEqual([]);
  });

  test("are marked one by one or all, and ?unread=true gives the rest", async () => {
    const [ada, bob] = [await world.person("owner"), await world.person("owner")];
    for (const text of ["a", "b", "c"]) await tell(ada, text);
    await tell(bob, "bob's");
    const [first] = await tenant.sql<{ id: number }[]>`
      select id from notifications where user_id = ${ada.id} and message = 'a'`;

    const one = await mark(ada, { notification_id: first?.id });
    const afterOne = await messages(ada, "unread=true");
    const all = await mark(ada, { all: true });

    expect([one.status, all.status]).toEqual([200, 200]);
    expect(afterOne).toEqual(["c", "b"]);
    expect(await messages(ada, "unread=true")).toEqual([]);
    expect(await messages(ada)).toHaveLength(3);
    expect(await messages(bob, "unread=true")).toEqual(["bob's"]);
  });

  test("of others cannot be marked, which does not tell whether they exist", async () => {
    const [ada, bob] = [await world.person("owner"), await world.person("owner")];
    await tell(bob, "bob's");
    const [his] = await tenant.sql<{ id: number }[]>`
      select id from notifications where user_id = ${bob.id}`;

    expect((await mark(ada, { notification_id: his?.id })).status).toBe(404);
    expect((await mark(ada, { notification_id: 2 ** 50 })).status).toBe(404);
    expect(await messages(bob, "unread=true")).toEqual(["bob's"]);
  });

  test.each([
    [{}],
    [{ all: false }],
    [{ notification_id: 1, all: true }],
    [{ notification_id: "1" }],
  ])("are not marked by %j", async (body) => {
    expect((await mark(await world.person("owner"), body)).status).toBe(400);
  });

  test("are cut where they are too long", async () => {
    const ada = await world.person("owner");

    await tell(ada, "😀".repeat(1_001));

    const [message = ""] = await messages(ada);
    expect([...message]).toHaveLength(1_000);
  });
});

describe("a login from a device", () => {
  async function logInFrom(user: { username: string }, device: string): Promise<void> {
    await app.logIn(tenant, user.username, PASSWORD, { headers: { "user-agent": device } });
  }

  test("that the user has not logged in from before is told, once, and never the first", async () => {
    const { user, access } = await app.signUp(tenant);
    const ada = { id: user.id, token: access };
    const told = async () => {
      const { body } = await world.as(ada).get("/api/audit/notifications/");
      return (body as { results: { message: string }[] }).results.map(({ message }) => message);
    };
    // The sign-up itself logged in, by the tests' own client.
    const first = await told();

    await logInFrom(user, "Firefox");
    await logInFrom(user, "Firefox");
    await logInFrom(user, "Chromium");

    expect(first).toEqual([]);
    expect(await told()).toEqual([
      "New login from Chromium (127.0.0.1).",
      "New login from Firefox (127.0.0.1).",
    ]);
  });

  test("that failed is not told", async () => {
    const { user, access } = await app.signUp(tenant);

    await app
      .client(tenant)
      .post(
        "/api/auth/login/",
        { identifier: user.username, password: "wrong" },
        { headers: { "user-agent": "Opera" } },
      );

    const { body } = await world.as({ token: access }).get("/api/audit/notifications/");
    expect(body).toMatchObject({ count: 0 });
  });
});
