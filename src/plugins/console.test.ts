import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import Fastify, { type FastifyInstance } from "fastify";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestApp, type TestApp } from "../../test/app.ts";
import { ROOT_DIR } from "../paths.ts";
import { consoleRoutes } from "./console.ts";
import { errorPlugin } from "./errors.ts";

/** Below the project, so that its Vite is found from there. */
const GROUND = path.join(ROOT_DIR, "test-output");

const PAGE = `<meta name="style-nonce" content="{{style-nonce}}"><meta name="second-factor" content="{{second-factor}}">`;
const SCRIPT = `export const text = "${randomBytes(2_000).toString("hex")}";\n`;

let folder: string;
const opened: FastifyInstance[] = [];

beforeAll(async () => {
  await mkdir(GROUND, { recursive: true });
  folder = await mkdtemp(path.join(tmpdir(), "ouvira-console-"));
  await mkdir(path.join(folder, "dist", "assets"), { recursive: true });
  await writeFile(path.join(folder, "dist", "index.html"), PAGE);
  await writeFile(path.join(folder, "dist", "secret.txt"), "not to be served");
  await writeFile(path.join(folder, "dist", "assets", "index-abc123.js"), SCRIPT);
  await writeFile(path.join(folder, "dist", "assets", "small-abc123.css"), "p{}");
});
afterEach(async () => {
  for (const app of opened.splice(0)) await app.close();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function serve(from: string, appEnv: "local" | "production" = "production") {
  const lines: string[] = [];
  const app = Fastify({
    logger: { level: "warn", stream: { write: (line: string) => void lines.push(line) } },
    routerOptions: { ignoreTrailingSlash: true },
  });
  opened.push(app);
  await app.register(errorPlugin);
  await app.register(consoleRoutes, { services: { config: { appEnv } }, folder: from });
  const get = (url: string, headers = {}) => app.inject({ method: "GET", url, headers });
  return { app, get, lines };
}

describe("GET /admin/", () => {
  test.each(["/admin/", "/admin"])(
    "%s answers the page, with a nonce for its styles alone",
    async (url) => {
      const { get } = await serve(folder);

      const [first, second] = [await get(url), await get(url)];

      const nonce = /style-nonce" content="([^"]+)"/.exec(first.body)?.[1] ?? "";
      expect(nonce).toMatch(/^[A-Za-z0-9+/]{22}==$/);
      expect(first.headers).toMatchObject({
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-cache",
        "content-security-policy": expect.stringContaining(
          `script-src 'self';style-src 'self' 'nonce-${nonce}'`,
        ),
      });
      expect(second.body).not.toContain(nonce);
      expect(first.body).toContain(`"second-factor" content="compulsory"`);
    },
  );

  test("says where no second factor is needed, and that the console is not built where it is not", async () => {
    const local = await serve(folder, "local");
    const empty = await serve(path.join(folder, "nothing"));

    const page = await local.get("/admin/");
    const missing = await empty.get("/admin/");

    expect(page.body).toContain(`"second-factor" content="optional"`);
    expect(missing.statusCode).toBe(503);
    expect(missing.json()).toMatchObject({
      code: "not_ready",
      detail: expect.stringContaining("npm run build"),
    });
    expect(empty.lines.join("")).toContain("npm run build makes it");
  });

  test("is served only by processes that serve operators", async () => {
    const app: TestApp = await startTestApp();
    try {
      const replica = await app.startReplica({ isPlatform: false });
      // 405: there is a page, which is only read.
      const statusOf = async ({ app: process }: TestApp) =>
        (await process.inject({ method: "POST", url: "/admin/" })).statusCode;
      expect([await statusOf(app), await statusOf(replica)]).toEqual([405, 404]);
    } finally {
      await app.close();
    }
  });
});

describe("GET /admin/assets/…", () => {
  test("answers a file for ever, compressed for those who take that", async () => {
    const { get, app } = await serve(folder);

    const plain = await get("/admin/assets/index-abc123.js");
    const gzipped = await get("/admin/assets/index-abc123.js", { "accept-encoding": "br, gzip" });
    const refused = await get("/admin/assets/index-abc123.js", { "accept-encoding": "gzip;q=0" });
    const small = await get("/admin/assets/small-abc123.css", { "accept-encoding": "gzip" });
    const head = await app.inject({ method: "HEAD", url: "/admin/assets/index-abc123.js" });

    expect(plain.body).toBe(SCRIPT);
    expect(plain.headers).toMatchObject({
      "content-type": "text/javascript; charset=utf-8",
      "cache-control": "public, max-age=31536000, immutable",
      vary: "accept-encoding",
    });
    expect(plain.headers["content-encoding"]).toBeUndefined();
    expect(gzipped.headers["content-encoding"]).toBe("gzip");
    expect(gzipped.rawPayload.length).toBeLessThan(SCRIPT.length);
    expect(gzipped.headers.etag).not.toBe(plain.headers.etag);
    expect(refused.body).toBe(SCRIPT);
    expect(small).toMatchObject({ body: "p{}" });
    expect(small.headers["content-type"]).toBe("text/css; charset=utf-8");
    expect([head.statusCode, head.body, head.headers["content-length"]]).toEqual([
      200,
      "",
      String(SCRIPT.length),
    ]);
  });

  test.each([
    "nothing.js",
    "..%2findex.html",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fsecret.txt",
    "..%5csecret.txt",
    "../secret.txt",
    "index-abc123.js%00",
    "",
  ])("answers 404 to %j, and nothing of another folder", async (name) => {
    const { get } = await serve(folder);

    const answer = await get(`/admin/assets/${name}`);

    expect(answer.statusCode).toBe(404);
    expect(answer.json()).toMatchObject({ code: "not_found" });
  });
});

describe("GET /admin/ from source, locally", () => {
  let source: string;

  beforeAll(async () => {
    source = await mkdtemp(path.join(GROUND, "console-"));
    await mkdir(path.join(source, "src"));
    await writeFile(path.join(source, "package.json"), `{ "type": "module" }`);
    await writeFile(path.join(source, "vite.config.ts"), `export default { base: "/admin/" };`);
    await writeFile(
      path.join(source, "index.html"),
      `${PAGE}<script type="module" src="/src/main.ts"></script>`,
    );
    await writeFile(path.join(source, "src", "main.ts"), `document.title = "first";`);
  });
  afterAll(() => rm(source, { recursive: true, force: true }));

  const WAIT = { timeout: 25_000, interval: 100 };
  const change = (text: string) => writeFile(path.join(source, "src", "main.ts"), text);

  test("builds once for all who ask, shows that, and then the page", async () => {
    const { app, get } = await serve(source, "local");
    const building = vi.spyOn(app.log, "info");

    const waiting = await Promise.all(Array.from({ length: 5 }, () => get("/admin/")));

    for (const { statusCode, body } of waiting) {
      expect(statusCode).toBe(200);
      expect(body).toContain("The console is being built");
      expect(body).toContain(`http-equiv="refresh"`);
    }
    await vi.waitFor(
      async () => expect((await get("/admin/")).body).toContain("style-nonce"),
      WAIT,
    );
    const [script = ""] = /\/admin\/assets\/[^"]+\.js/.exec((await get("/admin/")).body) ?? [];
    expect((await get(script)).body).toContain("first");
    const started = building.mock.calls.filter(([text]) => text === "Building the console");
    expect(started).toHaveLength(1);
  });

  test("says in words why a build failed, and builds again when a file was changed", async () => {
    const { get } = await serve(source, "local");
    await change(`import "./<missing>.ts";`);

    await vi.waitFor(
      async () => expect((await get("/admin/")).body).toContain("could not be built"),
      WAIT,
    );
    const { body } = await get("/admin/");
    expect(body).toContain("&lt;missing&gt;");
    expect(body).not.toContain("<missing>");

    await change(`document.title = "second";`);
    await vi.waitFor(
      async () => expect((await get("/admin/")).body).toContain("style-nonce"),
      WAIT,
    );
  });
});
