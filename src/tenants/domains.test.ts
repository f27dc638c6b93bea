import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../test/app.ts";
import { type AdminConnection, withAdmin } from "../db/admin.ts";
import {
  addDomain,
  listDomains,
  makeTxtResolver,
  removeDomain,
  setPrimaryDomain,
  type TenantDomain,
  type TxtResolver,
  verifyDomain,
} from "./domains.ts";

let app: TestApp;
let acme: TestTenant;
let other: TestTenant;
let counter = 0;
/** A host name that no other test has. */
let host: string;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});
beforeEach(async () => {
  acme = await app.createTenant();
  other = await app.createTenant();
  counter += 1;
  host = `app${counter}.acme.example`;
});

function run<T>(work: (admin: AdminConnection) => Promise<T>): Promise<T> {
  return withAdmin(app.ownerUrl, work);
}

function add(tenant: TestTenant, domain = host): Promise<TenantDomain> {
  return run((admin) => addDomain(admin, tenant.subdomain, domain));
}

function verify(tenant: TestTenant, resolve: TxtResolver, domain = host): Promise<TenantDomain> {
  return run((admin) => verifyDomain(admin, tenant.subdomain, domain, resolve));
}

/** A name server that knows these records, and no others. */
function serverWith(...domains: readonly TenantDomain[]): TxtResolver {
  return (name) => {
    const records = domains.flatMap(({ record }) =>
      record?.name === name ? [[record.value]] : [],
    );
    if (records.length > 0) return Promise.resolve(records);
    return Promise.reject(
      Object.assign(new Error(`queryTxt ENOTFOUND ${name}`), { code: "ENOTFOUND" }),
    );
  };
}

/** Which tenant a request to a host is for, as the service sees it. */
async function tenantAt(domain: string): Promise<unknown> {
  const response = await app.app.inject({
    method: "POST",
    url: "/api/auth/login/",
    headers: { host: domain },
    body: { identifier: acme.owner.email, password: "correct horse battery staple" },
  });
  return response.json<{ code?: string; user?: { email: string } }>();
}

describe("a domain", () => {
  test("names its tenant once the record is there, on every process, and not before", async () => {
    const added = await add(acme, host.toUpperCase());
    const before = await tenantAt(host);

    const verified = await verify(acme, serverWith(added));

    expect(added).toEqual({
      id: expect.any(Number),
      domain: host,
      is_primary: false,
      verified_at: null,
      record: {
        name: `_ouvira.${host}`,
        value: expect.stringMatching(/^ouvira-verification=[\w-]{43}$/),
      },
    });
    expect(before).toMatchObject({ code: "tenant_required" });
    expect(verified).toEqual({
      id: added.id,
      domain: host,
      is_primary: true,
      verified_at: expect.any(Date),
      record: null,
    });
    await vi.waitFor(async () => {
      expect(await tenantAt(host)).toMatchObject({ user: { email: acme.owner.email } });
    });
  });

  test.each<[string, TxtResolver, string]>([
    ["there is no record", () => reject("ENOTFOUND"), "There is no TXT record"],
    ["the name has no TXT", () => reject("ENODATA"), "There is no TXT record"],
    ["it says something else", () => Promise.resolve([["v=spf1 -all"]]), "says something else"],
    ["the name server fails", () => reject("ESERVFAIL"), "did not answer (ESERVFAIL)"],
    ["it does not answer", () => reject("ETIMEOUT"), "did not answer (ETIMEOUT)"],
  ])("is not verified while %s", async (_, resolve, sentence) => {
    await add(acme);

    await expect(verify(acme, resolve)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(sentence),
    });
    const [domain] = await run((admin) => listDomains(admin, acme.subdomain));
    expect(domain?.verified_at).toBeNull();
  });

  test("is found in a record of several strings among other records", async () => {
    const { record } = await add(acme);
    const value = record?.value ?? "";

    const verified = await verify(acme, () =>
      Promise.resolve([["other"], [value.slice(0, 10), value.slice(10)]]),
    );

    expect(verified.verified_at).not.toBeNull();
  });

  test("is nobody else's by their own record, nor by that of the holder", async () => {
    const ours = await add(acme);
    const theirs = await add(other);
    await verify(acme, serverWith(ours));

    await expect(verify(other, serverWith(ours, theirs))).rejects.toMatchObject({
      code: "conflict",
    });
    await expect(add(other)).rejects.toMatchObject({ code: "conflict" });
    expect(ours.record?.value).not.toBe(theirs.record?.value);
  });

  test("that two can show at the same time is one's", async () => {
    const claims = [await add(acme), await add(other)];

    const results = await Promise.allSettled([
      verify(acme, serverWith(...claims)),
      verify(other, serverWith(...claims)),
    ]);

    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const held = await app.registry`
      select tenant_id from public.tenant_domains where domain = ${host} and verified_at is not null`;
    expect(held).toHaveLength(1);
  });

  test("keeps its record when it is added again, and its state when verified again", async () => {
    const first = await add(acme);
    expect(await add(acme)).toEqual(first);
    const verified = await verify(acme, serverWith(first));

    // Nobody is asked any more: the record may be gone.
    expect(await verify(acme, () => reject("ENOTFOUND"))).toEqual(verified);
  });

  test("is primary, one of all: the first, then the chosen, then the next when that goes", async () => {
    const hosts = [host, `b.${host}`, `c.${host}`];
    for (const name of hosts) await verify(acme, serverWith(await add(acme, name)), name);
    const primary = async () =>
      (await run((admin) => listDomains(admin, acme.subdomain)))
        .filter((domain) => domain.is_primary)
        .map(({ domain }) => domain);

    expect(await primary()).toEqual([host]);
    await run((admin) => setPrimaryDomain(admin, acme.subdomain, `c.${host}`));
    expect(await primary()).toEqual([`c.${host}`]);
    await run((admin) => removeDomain(admin, acme.subdomain, `c.${host}`));
    expect(await primary()).toEqual([host]);
  });

  test("that waits is not made the primary one", async () => {
    await add(acme);

    await expect(
      run((admin) => setPrimaryDomain(admin, acme.subdomain, host)),
    ).rejects.toMatchObject({ code: "conflict" });
  });

  test("that was removed names nobody, and another tenant can take it", async () => {
    await verify(acme, serverWith(await add(acme)));
    await vi.waitFor(async () => {
      expect(await tenantAt(host)).toHaveProperty("user");
    });

    await run((admin) => removeDomain(admin, acme.subdomain, host));
    const theirs = await verify(other, serverWith(await add(other)));

    expect(theirs.verified_at).not.toBeNull();
    await vi.waitFor(async () => {
      // Now the other tenant's, who does not know the user.
      expect(await tenantAt(host)).toMatchObject({ code: "invalid_credentials" });
    });
  });

  test.each([
    "localhost",
    "acme",
    "-a.example",
    "a..example",
    "a.example/",
    "a b.example",
    "1.2.3.4",
    "",
  ])("is not %j", async (name) => {
    await expect(add(acme, name)).rejects.toMatchObject({ code: "validation_error" });
    expect(await run((admin) => listDomains(admin, acme.subdomain))).toEqual([]);
  });

  test("is one of fifty at most", async () => {
    await app.registry`
      insert into public.tenant_domains (tenant_id, domain)
      select ${acme.id}, 'd' || n || '.example.com' from generate_series(1, 50) as n`;

    await expect(add(acme)).rejects.toMatchObject({ code: "conflict" });
  });
});

function reject(code: string): Promise<never> {
  return Promise.reject(Object.assign(new Error(`queryTxt ${code}`), { code }));
}

/** A name server on this machine: answers every question with TXT records, each of several strings. */
async function startNameServer(records: readonly (readonly string[])[]) {
  const server = createSocket("udp4");
  server.on("message", (question, { port, address }) => {
    // RFC 1035 §4: the header with counts, the question as it came, an answer that points back to its name.
    const header = Buffer.from(question.subarray(0, 12));
    header.writeUInt16BE(0x8180, 2);
    header.writeUInt16BE(records.length, 6);
    header.writeUInt16BE(0, 8);
    header.writeUInt16BE(0, 10);
    const end = question.indexOf(0, 12) + 5;
    const answers = records.map((strings) => {
      const data = Buffer.concat(
        strings.map((text) => Buffer.concat([Buffer.of(text.length), Buffer.from(text)])),
      );
      const head = Buffer.from([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, data.length]);
      return Buffer.concat([head, data]);
    });
    server.send(Buffer.concat([header, question.subarray(12, end), ...answers]), port, address);
  });
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

describe("makeTxtResolver", () => {
  test("asks a name server over UDP, and a record's strings are put together", async () => {
    const added = await add(acme);
    const value = added.record?.value ?? "";
    const server = await startNameServer([
      ["something else"],
      [value.slice(0, 20), value.slice(20)],
    ]);
    try {
      const resolve = makeTxtResolver([`127.0.0.1:${server.address().port}`]);

      const verified = await verify(acme, resolve);

      expect(verified.verified_at).not.toBeNull();
    } finally {
      server.close();
    }
  });

  test.each([
    ["has no such record", "There is no TXT record"],
    ["is not there", "The name server did not answer"],
  ])("says that a name server %s", async (what, sentence) => {
    await add(acme);
    const server = await startNameServer([]);
    const { port } = server.address();
    if (what === "is not there") {
      server.close();
      await once(server, "close");
    }

    await expect(verify(acme, makeTxtResolver([`127.0.0.1:${port}`]))).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(sentence),
    });
    expect((await run((admin) => listDomains(admin, acme.subdomain)))[0]?.verified_at).toBeNull();
    if (what !== "is not there") server.close();
  });
});
