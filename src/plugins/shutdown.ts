import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";

/**
 * Lets the service stop as soon as the last request is answered: an answer given while it stops says
 * `Connection: close` (RFC 9112 §9.6), or the client's kept-alive socket would hold the server open.
 */
export const shutdownPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  let isStopping = false;
  app.addHook("preClose", async () => {
    isStopping = true;
  });
  app.addHook("onSend", (_request, reply, _payload, done) => {
    if (isStopping) reply.header("connection", "close");
    done();
  });
});
