import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";

/**
 * How long a socket on which nothing has been asked yet is kept once the service stops: what was sent
 * before its end was known is still answered.
 */
const UNUSED_SOCKETS_MS = 1_000;

/**
 * Lets the service stop as soon as the last request is answered: an answer given while it stops says
 * `Connection: close` (RFC 9112 §9.6), or the client's kept-alive socket would hold the server open. So
 * would one that a client has opened ahead of need: Node takes it for busy until it has been used.
 */
export const shutdownPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  let isStopping = false;
  const unused = new Set<Socket>();
  app.server.on("connection", (socket: Socket) => {
    unused.add(socket);
    socket.once("close", () => unused.delete(socket));
  });
  app.server.on("request", ({ socket }) => unused.delete(socket));
  app.addHook("preClose", async () => {
    isStopping = true;
    const patience = setTimeout(() => {
      for (const socket of unused) socket.destroy();
    }, UNUSED_SOCKETS_MS);
    patience.unref();
  });
  app.addHook("onSend", (_request, reply, _payload, done) => {
    if (isStopping) reply.header("connection", "close");
    done();
  });
});
