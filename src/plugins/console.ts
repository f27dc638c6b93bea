import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import { AppError } from "../errors.ts";
import { CONSOLE_DIR } from "../paths.ts";
import { ConsoleBuild } from "./console-build.ts";
import { waitingPage } from "./console-waiting-page.ts";
import { type ContentSecurityPolicy, securityHeaders } from "./security-headers.ts";

const NONCE_BYTES = 16;

/** A name that says what is in the file is never used for something else. */
const FOR_EVER = "public, max-age=31536000, immutable";

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Shorter ones are sent as they are: compressing saves less than a packet. */
const GZIP_BYTES_MIN = 1_024;

interface Asset {
  readonly contentType: string;
  readonly etag: string;
  readonly body: Buffer;
  readonly gzipped: Buffer | undefined;
}

interface ConsoleOptions {
  readonly services: { readonly config: Pick<Config, "appEnv"> };
  /** Of the console's package. */
  readonly folder?: string;
}

/**
 * The operators' console at `/admin/`: a page and its files, all from this server. From source with
 * APP_ENV=local it is built when it is first asked for, and again when its sources are newer.
 */
export const consoleRoutes: FastifyPluginAsync<ConsoleOptions> = async (
  app,
  { services: { config }, folder = CONSOLE_DIR },
) => {
  // What Vite writes: the page, and files it loads, whose names hold a hash of what is in them.
  const built = path.join(folder, "dist");
  const isProduction = config.appEnv === "production";
  const build =
    config.appEnv === "local" && ConsoleBuild.isPossible
      ? new ConsoleBuild(folder, app.log)
      : undefined;
  if (build) app.addHook("onClose", () => build.stop());
  const assets = new AssetFolder(path.join(built, "assets"));
  const options = { config: { guard: "public" }, schema: { hide: true } } as const;

  app.get("/admin/", options, async (request, reply) => {
    const nonce = randomBytes(NONCE_BYTES).toString("base64");
    reply
      .headers(securityHeaders(isProduction, consolePolicy(nonce)))
      .header("cache-control", "no-cache")
      .type("text/html; charset=utf-8");
    const state = build?.state();
    if (state && state.name !== "ready") return reply.send(waitingPage(state, nonce));
    const page = await readPage(built);
    if (page === undefined) {
      request.log.warn(`There is no console in ${built}: npm run build makes it`);
      throw new AppError(
        "not_ready",
        "The console is not built here. Whoever runs this server makes it with npm run build.",
      );
    }
    // What the page asks its server for: see admin/index.html.
    return reply.send(
      page
        .replaceAll("{{style-nonce}}", nonce)
        .replaceAll("{{second-factor}}", isProduction ? "compulsory" : "optional"),
    );
  });

  app.get<{ Params: { name: string } }>("/admin/assets/:name", options, async (request, reply) => {
    const asset = await assets.find(request.params.name);
    if (!asset) throw new AppError("not_found", "There is nothing here.");
    return sendAsset(request, reply, asset);
  });
};

/**
 * Everything from this server. Styles are written into the page by its components (emotion), in elements that
 * carry the nonce of the answer they came with; nothing else may style it.
 */
function consolePolicy(nonce: string): ContentSecurityPolicy {
  return {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'", `'nonce-${nonce}'`],
    // The QR code of an authenticator app is made in the page.
    imgSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  };
}

async function readPage(built: string): Promise<string | undefined> {
  try {
    return await readFile(path.join(built, "index.html"), "utf8");
  } catch {
    return undefined;
  }
}

const compress = promisify(gzip);

/**
 * Files of one folder, each read once. A name is looked up among those that the folder has, so that no name
 * leads out of it.
 */
class AssetFolder {
  readonly #folder: string;
  readonly #assets = new Map<string, Promise<Asset>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async find(name: string): Promise<Asset | undefined> {
    const known = this.#assets.get(name);
    if (known) return known;
    const names = await readdir(this.#folder).catch((): string[] => []);
    if (!names.includes(name)) return undefined;
    const asset = this.#read(name);
    this.#assets.set(name, asset);
    // A failure is not kept.
    asset.catch(() => this.#assets.delete(name));
    return asset;
  }

  async #read(name: string): Promise<Asset> {
    const body = await readFile(path.join(this.#folder, name));
    return {
      contentType: CONTENT_TYPES[path.extname(name)] ?? "application/octet-stream",
      etag: `"${createHash("sha256").update(body).digest("base64url")}"`,
      body,
      gzipped: body.length < GZIP_BYTES_MIN ? undefined : await compress(body),
    };
  }
}

function sendAsset(
  request: FastifyRequest,
  reply: FastifyReply,
  { contentType, etag, body, gzipped }: Asset,
): FastifyReply {
  reply
    .type(contentType)
    .header("etag", etag)
    .header("cache-control", FOR_EVER)
    .header("vary", "accept-encoding");
  const takesGzip = /\bgzip\b(?!\s*;\s*q=0(\.0+)?\s*(,|$))/.test(
    request.headers["accept-encoding"] ?? "",
  );
  if (!takesGzip || !gzipped) return reply.send(body);
  // Another representation has another tag (RFC 9110 §8.8.3).
  return reply
    .header("etag", etag.replace(/"$/, '-gzip"'))
    .header("content-encoding", "gzip")
    .send(gzipped);
}
