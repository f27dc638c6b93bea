import type { ServerResponse } from "node:http";
import helmet from "helmet";

/** Directives of a policy by name, such as `scriptSrc`. */
export type ContentSecurityPolicy = Readonly<Record<string, readonly string[]>>;

/** Everything refused: an answer of the API is no page. */
const NO_PAGE: ContentSecurityPolicy = { defaultSrc: ["'none'"], frameAncestors: ["'none'"] };

const HSTS_SECONDS = 31_536_000;

/**
 * The headers that browsers are told with every answer, as helmet writes them for one: they depend on nothing in a
 * request, so they are made once.
 */
export function securityHeaders(
  isProduction: boolean,
  policy: ContentSecurityPolicy = NO_PAGE,
): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  const answer = {
    setHeader: (name: string, value: string) => void (headers[name.toLowerCase()] = value),
    removeHeader: () => undefined,
  };
  const write = helmet({
    hsts: isProduction ? { maxAge: HSTS_SECONDS, includeSubDomains: true } : false,
    // Other origins read the API through CORS; nothing else here is for embedding.
    crossOriginResourcePolicy: { policy: "same-site" },
    contentSecurityPolicy: {
      useDefaults: false,
      directives: Object.fromEntries(
        Object.entries(policy).map(([name, sources]) => [name, [...sources]]),
      ),
    },
  });
  write({} as never, answer as unknown as ServerResponse, (error) => {
    if (error !== undefined)
      throw new Error("The security headers cannot be made", { cause: error });
  });
  return headers;
}
