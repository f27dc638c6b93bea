import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import { DEMO_SUBDOMAIN } from "../tenants/demo.ts";
import type { ContentSecurityPolicy } from "./security-headers.ts";
import { SWAGGER_SCRIPT, SWAGGER_STYLES, swaggerBody } from "./swagger-page.ts";

const { resolve } = createRequire(import.meta.url);
const SWAGGER_UI_DIR = path.join(
  path.dirname(resolve("@fastify/swagger-ui/package.json")),
  "static",
);
const REDOC_BUNDLE = resolve("redoc/bundles/redoc.standalone.js");

/** ReDoc shows its maker's logo from here; what is served shows none. */
const REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg";
const NO_IMAGE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>";

const SYSTEM_FONTS = "system-ui, sans-serif";
const MONOSPACE_FONTS = "ui-monospace, monospace";

/** A page that shows the document, and the files it is made of. */
interface Viewer {
  /** Without a slash at the end. */
  path: string;
  title: string;
  stylesheets: readonly string[];
  scripts: readonly string[];
  /** @param base where the page's files are, without a slash at the end */
  body: (base: string) => string;
  /** By name, each read when it is first asked for. */
  files: Readonly<Record<string, () => Promise<string>>>;
  contentSecurityPolicy: ContentSecurityPolicy;
}

/** Everything from this server, no text as code, no frame around it. */
const CONTENT_SECURITY_POLICY = {
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  imgSrc: ["'self'", "data:"],
  connectSrc: ["'self'"],
  baseUri: ["'none'"],
  formAction: ["'none'"],
  frameAncestors: ["'none'"],
} as const;

/** The document's address, from a script that lies one folder below it. */
const DOCUMENT_URL = `new URL("../swagger.json", document.currentScript.src).href`;

/** @param tenant what the log-in of the page begins with */
const swaggerUi = (tenant: string): Viewer => ({
  path: "/swagger",
  title: "Ouvira API – Swagger UI",
  stylesheets: ["swagger-ui.css", "page.css"],
  scripts: ["swagger-ui-bundle.js", "start.js"],
  body: (base) => swaggerBody(base, tenant),
  files: {
    "swagger-ui.css": () => readFile(path.join(SWAGGER_UI_DIR, "swagger-ui.css"), "utf8"),
    "swagger-ui-bundle.js": () =>
      readFile(path.join(SWAGGER_UI_DIR, "swagger-ui-bundle.js"), "utf8"),
    "page.css": async () => SWAGGER_STYLES,
    "start.js": async () => SWAGGER_SCRIPT,
  },
  contentSecurityPolicy: CONTENT_SECURITY_POLICY,
});

const REDOC: Viewer = {
  path: "/redoc",
  title: "Ouvira API – ReDoc",
  stylesheets: ["page.css"],
  scripts: ["redoc.standalone.js", "start.js"],
  body: () => `<div id="redoc"></div>`,
  files: {
    "redoc.standalone.js": async () =>
      (await readFile(REDOC_BUNDLE, "utf8")).replaceAll(REDOC_LOGO, NO_IMAGE),
    "page.css": async () => "body { margin: 0; }\n",
    "start.js": async () => `Redoc.init(${DOCUMENT_URL}, {
  theme: {
    typography: {
      fontFamily: "${SYSTEM_FONTS}",
      headings: { fontFamily: "${SYSTEM_FONTS}" },
      code: { fontFamily: "${MONOSPACE_FONTS}" },
    },
  },
}, document.getElementById("redoc"));
`,
  },
  contentSecurityPolicy: {
    ...CONTENT_SECURITY_POLICY,
    // It writes its styles into the page; without this it stays blank.
    styleSrc: ["'self'", "'unsafe-inline'"],
    // The search runs in a worker made from the bundle itself.
    workerSrc: ["blob:"],
  },
};

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
};

/** A file as it is sent, with the tag by which a client knows that it has it (RFC 9110 §8.8.3). */
interface Content {
  body: Buffer;
  etag: string;
}

/** `/swagger.json`, `/swagger.yaml` and two pages that show them, all from this server. */
export const apiDocumentRoutes: FastifyPluginAsync<{ config: Config }> = async (
  app,
  { config },
) => {
  const json = once(async () => `${JSON.stringify(app.swagger())}\n`);
  const yaml = once(async () => {
    const { stringify } = await import("yaml");
    return stringify(app.swagger());
  });
  const options = { config: { guard: "public" }, schema: { hide: true } } as const;

  app.get("/swagger.json", options, async (request, reply) =>
    send(request, reply, "application/json; charset=utf-8", await json()),
  );
  // RFC 9512
  app.get("/swagger.yaml", options, async (request, reply) =>
    send(request, reply, "application/yaml; charset=utf-8", await yaml()),
  );

  // The tenant that a first start makes.
  const tenant = config.appEnv === "local" ? DEMO_SUBDOMAIN : "";
  for (const viewer of [swaggerUi(tenant), REDOC]) {
    const { contentSecurityPolicy } = viewer;
    const page = { ...options, config: { ...options.config, contentSecurityPolicy } };
    app.get(`${viewer.path}/`, page, (request, reply) =>
      send(request, reply, "text/html; charset=utf-8", contentOf(pageOf(viewer, request.url))),
    );
    for (const [name, read] of Object.entries(viewer.files)) {
      const file = once(read);
      const type = CONTENT_TYPES[path.extname(name)] ?? "application/octet-stream";
      app.get(`${viewer.path}/${name}`, options, async (request, reply) =>
        send(request, reply, type, await file()),
      );
    }
  }
};

/** The page's addresses are relative, so that it works below a proxy's prefix: with and without its slash. */
function pageOf(viewer: Viewer, url: string): string {
  const isFolder = url.split("?")[0]?.endsWith("/") ?? false;
  const base = isFolder ? "." : `.${viewer.path}`;
  return [
    "<!doctype html>",
    `<html lang="en">`,
    "<head>",
    `<meta charset="utf-8">`,
    `<meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<title>${viewer.title}</title>`,
    // No request for /favicon.ico.
    `<link rel="icon" href="data:,">`,
    ...viewer.stylesheets.map((name) => `<link rel="stylesheet" href="${base}/${name}">`),
    "</head>",
    "<body>",
    viewer.body(base),
    ...viewer.scripts.map((name) => `<script src="${base}/${name}"></script>`),
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

function contentOf(text: string): Content {
  const body = Buffer.from(text);
  return { body, etag: `"${createHash("sha256").update(body).digest("base64url")}"` };
}

/** Reads at the first call; a failure is not kept. */
function once(read: () => Promise<string>): () => Promise<Content> {
  let content: Promise<Content> | undefined;
  return () => {
    content ??= read()
      .then(contentOf)
      .catch((error: unknown) => {
        content = undefined;
        throw error;
      });
    return content;
  };
}

function send(
  request: FastifyRequest,
  reply: FastifyReply,
  contentType: string,
  { body, etag }: Content,
): FastifyReply {
  // Asked for again each time, sent only when it has changed: megabytes of scripts, and a new release.
  reply.header("etag", etag).header("cache-control", "no-cache");
  const known = request.headers["if-none-match"]
    ?.split(",")
    .map((tag) => tag.trim().replace(/^W\//, ""));
  if (known?.includes(etag)) return reply.code(304).send();
  return reply.type(contentType).send(body);
}
