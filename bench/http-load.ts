import { once } from "node:events";
import net from "node:net";
import { type Latency, latencyOf } from "./load.ts";

/** What a run of requests over sockets was answered. */
export interface Answered {
  readonly perSecond: number;
  readonly latency: Latency;
  readonly requests: number;
  /** How often each status came. */
  readonly statuses: ReadonlyMap<number, number>;
}

type Headers = Readonly<Record<string, string>>;

/** A GET as it goes over the wire. */
export function getRequest(path: string, headers: Headers = {}): Buffer {
  return Buffer.from(`${headOf("GET", path, headers)}\r\n`);
}

/** A POST of JSON as it goes over the wire. */
export function postRequest(path: string, headers: Headers, body: object): Buffer {
  const text = JSON.stringify(body);
  const length = String(Buffer.byteLength(text));
  const all = { ...headers, "content-type": "application/json", "content-length": length };
  return Buffer.from(`${headOf("POST", path, all)}\r\n${text}`);
}

function headOf(method: string, path: string, headers: Headers): string {
  const lines = Object.entries({ host: "bench.test", ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}`;
}

const HEAD_END = Buffer.from("\r\n\r\n");

/**
 * Connections kept open to one server, each with one request under way. It does as little as a client can,
 * a write and a look at an answer's head: it shares the cores with what is measured.
 */
export class HttpLoad {
  readonly #sockets: readonly net.Socket[];

  private constructor(sockets: readonly net.Socket[]) {
    this.#sockets = sockets;
  }

  static async open(port: number, connections: number): Promise<HttpLoad> {
    const sockets = Array.from({ length: connections }, () =>
      net.connect({ port, host: "127.0.0.1", noDelay: true }),
    );
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    return new HttpLoad(sockets);
  }

  /** Keeps every connection busy for `seconds` with what `next` gives. */
  async run(next: () => Buffer, seconds: number): Promise<Answered> {
    const took: number[] = [];
    const statuses = new Map<number, number>();
    const start = performance.now();
    const end = start + seconds * 1_000;
    await Promise.all(
      this.#sockets.map(async (socket) => {
        for (let sentAt = performance.now(); sentAt < end; sentAt = performance.now()) {
          const status = await ask(socket, next());
          took.push(performance.now() - sentAt);
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }
      }),
    );
    const perSecond = (took.length / (performance.now() - start)) * 1_000;
    return { perSecond, latency: latencyOf(took), requests: took.length, statuses };
  }

  /** Sends each of these once, as many at a time as there are connections. */
  async runAll(requests: Iterable<Buffer>): Promise<void> {
    const iterator = requests[Symbol.iterator]();
    await Promise.all(
      this.#sockets.map(async (socket) => {
        for (let next = iterator.next(); !next.done; next = iterator.next()) {
          await ask(socket, next.value);
        }
      }),
    );
  }

  /** One request and its answer's body. */
  async ask(request: Buffer): Promise<{ status: number; body: string }> {
    const [socket] = this.#sockets;
    if (!socket) throw new Error("There is no connection");
    let body = "";
    const status = await ask(socket, request, (bytes) => (body = bytes.toString()));
    return { status, body };
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Sends one request and waits for the whole of its answer. @returns the status */
export function ask(
  socket: net.Socket,
  request: Buffer,
  onBody: (body: Buffer) => void = () => undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let received: Buffer | undefined;
    let expected = Infinity;
    const finish = (settle: () => void) => {
      socket.off("data", onData);
      socket.off("close", onClose);
      settle();
    };
    const onData = (chunk: Buffer) => {
      received = received ? Buffer.concat([received, chunk]) : chunk;
      if (expected === Infinity) {
        const headEnd = received.indexOf(HEAD_END);
        if (headEnd === -1) return;
        const head = received.toString("latin1", 0, headEnd);
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        expected = headEnd + HEAD_END.length + length;
      }
      if (received.length < expected) return;
      // "HTTP/1.1 200 …"
      const status = Number(received.toString("latin1", 9, 12));
      onBody(received.subarray(received.indexOf(HEAD_END) + HEAD_END.length, expected));
      finish(() => resolve(status));
    };
    const onClose = () => finish(() => reject(new Error("The server closed the connection")));
    socket.on("data", onData);
    socket.on("close", onClose);
    socket.write(request);
  });
}
