import { once } from "node:events";
import { createServer } from "node:net";

/** A TCP port of this machine that nobody listens on. */
export async function findPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || !address) throw new Error("The socket has no port");
  return address.port;
}
