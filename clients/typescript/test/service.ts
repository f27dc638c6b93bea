import { vi } from "vitest";
import { startTestApp, type TestApp, type TestTenant } from "../../../test/app.ts";
import { NO_LIMITS } from "../../../test/limits.ts";
import type { Tokens } from "../src/client.ts";

/** The service, listening, and which requests it got. */
export interface Service {
  readonly api: TestApp;
  readonly url: string;
  /** How many requests began with this, such as `POST /api/auth/token/refresh/`. */
  count(request: string): number;
  /** Forgets what was counted so far. */
  countAnew(): void;
  /** The next request that begins with this is not answered: its connection is closed. */
  loseAnswerTo(request: string): void;
  /** A new login of the tenant's owner, whose access token has expired. */
  expiredLogin(tenant: TestTenant): Promise<Tokens>;
  close(): Promise<void>;
}

const ACCESS_TOKEN_SECONDS = 3_600;

export async function startService(): Promise<Service> {
  let requests: string[] = [];
  /** What the request begins with whose answer is to be lost. */
  let lost: string | undefined;
  const api = await startTestApp({
    config: { rateLimits: NO_LIMITS, accessTokenSeconds: ACCESS_TOKEN_SECONDS },
  });
  const url = await api.app.listen({ host: "127.0.0.1", port: 0 });
  api.app.server.on("request", (request, response) => {
    const name = `${request.method} ${request.url}`;
    requests.push(name);
    if (lost === undefined || !name.startsWith(lost)) return;
    lost = undefined;
    response.end = () => {
      request.socket.destroy();
      return response;
    };
  });
  return {
    api,
    url,
    count: (request) => requests.filter((one) => one.startsWith(request)).length,
    countAnew: () => {
      requests = [];
    },
    loseAnswerTo: (request) => {
      lost = request;
    },
    async expiredLogin({ subdomain, owner }) {
      const { now } = Date;
      const clock = vi
        .spyOn(Date, "now")
        .mockImplementation(() => now() - 2 * ACCESS_TOKEN_SECONDS * 1_000);
      try {
        return await api.logIn({ subdomain, owner } as TestTenant, owner.email);
      } finally {
        clock.mockRestore();
      }
    },
    close: () => api.close(),
  };
}
