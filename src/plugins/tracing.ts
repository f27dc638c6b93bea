import { context, propagation, ROOT_CONTEXT, type Span, SpanKind, trace } from "@opentelemetry/api";
import type { FastifyInstance } from "fastify";
import fastifyPlugin from "fastify-plugin";
import type { Principal } from "../auth/principals.ts";
import type { Tenant } from "../tenants/directory.ts";
import { endWithError } from "../tracing.ts";

declare module "fastify" {
  interface FastifyRequest {
    span: Span | undefined;
  }
}

/**
 * A span for each request, named by its route, below that of the caller when there is one. Attributes as
 * https://opentelemetry.io/docs/specs/semconv/http/http-spans/ names them.
 */
export const tracingPlugin = fastifyPlugin(async (app: FastifyInstance) => {
  const tracer = trace.getTracer("ouvira");
  app.decorateRequest("span", undefined);
  app.addHook("onRequest", (request, _reply, done) => {
    const parent = propagation.extract(ROOT_CONTEXT, request.headers);
    const route = request.routeOptions.url ?? "none";
    const span = tracer.startSpan(
      `${request.method} ${route}`,
      {
        kind: SpanKind.SERVER,
        attributes: {
          "http.request.method": request.method,
          "http.route": route,
          "request.id": request.id,
        },
      },
      parent,
    );
    request.span = span;
    // What this request does from here on is found to be its own.
    context.with(trace.setSpan(parent, span), done);
  });
  app.addHook("onResponse", (request, reply, done) => {
    const { span } = request;
    const tenant = (request.tenantInfo as Tenant | undefined)?.subdomain;
    const user = (request.principal as Principal | undefined)?.userId;
    span?.setAttributes({
      "http.response.status_code": reply.statusCode,
      ...(tenant === undefined ? {} : { "tenant.subdomain": tenant }),
      ...(user === undefined ? {} : { "user.id": user }),
    });
    if (span && reply.statusCode >= 500) endWithError(span, String(reply.statusCode));
    span?.end();
    done();
  });
});
