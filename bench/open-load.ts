import { Agent, request as httpRequest } from "node:http";

/** What became of a request. */
export interface Outcome {
  readonly status: number;
  readonly milliseconds: number;
}

/** A request of a tenant's member. */
export interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly tenant: string;
  readonly token?: string;
  readonly body?: object;
}

/** Sends requests however slowly the ones before are answered, on as many connections as that takes. */
export class OpenLoad {
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Infinity });

  constructor(port: number) {
    this.#port = port;
  }

  send({ method, path, tenant, token, body }: Call): Promise<Outcome> {
    const sentAt = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          port: this.#port,
          host: "127.0.0.1",
          method,
          path,
          agent: this.#agent,
          headers: {
            "x-tenant": tenant,
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(body ? { "content-type": "application/json" } : {}),
          },
        },
        (response) => {
          response.resume();
          response.once("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              milliseconds: performance.now() - sentAt,
            }),
          );
        },
      );
      request.once("error", reject);
      request.end(body && JSON.stringify(body));
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
