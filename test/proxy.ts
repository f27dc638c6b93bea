import net from "node:net";

/** A TCP relay in front of a server, for what only a network does to a connection. */
export interface Proxy {
  /** The server's URL with the relay's address. */
  readonly url: string;
  /** What clients sent to the server so far, in order, as it came out of their sockets. */
  readonly received: readonly Buffer[];
  /** Connections that are open. */
  readonly connectionCount: number;
  /**
   * From now on nothing passes on the connections that are open, and none is closed; new ones work.
   * With a text: on those whose client began with it alone, such as its application's name.
   */
  stall(greeting?: string): void;
  /** Sends a byte on the connections that pass nothing: those whose client has let go of them end. */
  poke(): void;
  /** From now on what the server says on the connections that are open is lost; what it is told is not. */
  mute(): void;
  /** Loses one open connection, the `index`th by age: the client at once, the server when it has read all. */
  drop(index: number): void;
  /** Ends every connection and refuses new ones, until `restore`. */
  cut(): void;
  /** From now on new connections are taken and never answered, until `restore`. */
  swallow(): void;
  restore(): void;
  close(): Promise<void>;
}

export async function startProxy(targetUrl: string): Promise<Proxy> {
  const target = new URL(targetUrl);
  const received: Buffer[] = [];
  const pairs = new Set<{
    client: net.Socket;
    server: net.Socket;
    isStalled: boolean;
    isMute: boolean;
    greeting: string;
  }>();
  let mode: "relay" | "refuse" | "swallow" = "relay";

  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    client.on("error", () => undefined);
    if (mode === "refuse") {
      client.destroy();
      return;
    }
    const server = net.connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    server.on("error", () => undefined);
    const pair = { client, server, isStalled: mode === "swallow", isMute: false, greeting: "" };
    pairs.add(pair);
    client.on("data", (chunk) => {
      if (pair.isStalled) return;
      pair.greeting ||= chunk.toString("latin1");
      received.push(chunk);
      server.write(chunk);
    });
    server.on("data", (chunk) => {
      if (!pair.isStalled && !pair.isMute) client.write(chunk);
    });
    client.on("end", () => {
      if (!pair.isStalled) client.end();
    });
    client.on("close", () => {
      pairs.delete(pair);
      // Not destroyed: a reset would take from the server what it has not read yet.
      server.end();
    });
    server.on("close", () => {
      if (!pair.isStalled) client.destroy();
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("The relay has no port");
  const url = new URL(targetUrl);
  url.hostname = "127.0.0.1";
  url.port = String(address.port);
  const destroyAll = () => {
    for (const { client, server } of pairs) {
      client.destroy();
      server.destroy();
    }
  };
  return {
    url: url.href,
    received,
    get connectionCount() {
      return pairs.size;
    },
    stall(greeting = "") {
      for (const pair of pairs) pair.isStalled ||= pair.greeting.includes(greeting);
    },
    poke() {
      for (const { client, isStalled } of pairs) if (isStalled) client.write(Buffer.of(0));
    },
    mute() {
      for (const pair of pairs) pair.isMute = true;
    },
    drop(index) {
      [...pairs][index]?.client.destroy();
    },
    cut() {
      mode = "refuse";
      destroyAll();
    },
    swallow() {
      mode = "swallow";
    },
    restore() {
      mode = "relay";
    },
    close() {
      destroyAll();
      return new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}
