import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from "fastify";
import { validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { randomUUID } from "node:crypto";
import { PERMISSION_CODES } from "./access-control/catalogue.ts";
import { accessControlRoutes } from "./access-control/routes.ts";
import { accountRoutes } from "./account/routes.ts";
import { auditRoutes } from "./audit/routes.ts";
import { sealingPlugin } from "./audit/sealing.ts";
import { authRoutes } from "./auth/routes.ts";
import { companyRoutes } from "./company/routes.ts";
import { messagingRoutes } from "./messaging/routes.ts";
import { platformRoutes } from "./platform/routes.ts";
import { answerCompiler } from "./plugins/answers.ts";
import { authenticationPlugin } from "./plugins/authentication.ts";
import { consoleRoutes } from "./plugins/console.ts";
import { errorPlugin, onClientError, onFrameworkError } from "./plugins/errors.ts";
import { guardEnforcementPlugin, guardPlugin } from "./plugins/guards.ts";
import { healthRoutes } from "./plugins/health.ts";
import { metricsRoutes } from "./plugins/metrics.ts";
import { observabilityPlugin } from "./plugins/observability.ts";
import { openapiPlugin } from "./plugins/openapi.ts";
import { processOverloadPlugin, tenantOverloadPlugin } from "./plugins/overload.ts";
import { rateLimitEnforcementPlugin, rateLimitPlugin } from "./plugins/rate-limits.ts";
import { securityPlugin } from "./plugins/security.ts";
import { shutdownPlugin } from "./plugins/shutdown.ts";
import { tenantPlugin } from "./plugins/tenant.ts";
import { tracingPlugin } from "./plugins/tracing.ts";
import { RequestLogger } from "./request-logger.ts";
import type { Services } from "./services.ts";

/** Largest request body: the largest of the contract is a form of a few fields. */
const BODY_BYTES_MAX = 64 * 1_024;

/** Largest headers together: a token of 1 KB, cookies of a site that shares the domain. */
const HEADERS_BYTES_MAX = 16 * 1_024;

/** How long a client may take to send a request: a slow one holds a socket, not a connection. */
const REQUEST_TIMEOUT_MS = 30_000;

export interface AppOptions {
  /** Whether an answer that its schema does not allow fails the request, as in tests. Default: false. */
  readonly checksAnswers?: boolean;
}

/** The whole service, without a port: every plugin and domain, in order, by name. */
export async function buildApp(
  services: Services,
  loggerInstance: FastifyBaseLogger,
  { checksAnswers = false }: AppOptions = {},
): Promise<FastifyInstance> {
  const { config } = services;
  const app = Fastify({
    loggerInstance,
    // One line for each request, when it is answered (plugins/observability.ts).
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => `req-${randomUUID()}`,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: { maxHeaderSize: HEADERS_BYTES_MAX },
    trustProxy: config.trustedProxies.length > 0 ? [...config.trustedProxies] : false,
    // Idle keep-alive sockets end with the server; requests under way are finished.
    forceCloseConnections: "idle",
    // Fastify would refuse them itself, in a form that is not ours and without a time to come back.
    return503OnClosing: false,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 200 },
    clientErrorHandler: onClientError,
    frameworkErrors: onFrameworkError,
  }).withTypeProvider<ZodTypeProvider>();
  app.setChildLoggerFactory(
    (logger, bindings, options) => new RequestLogger(logger, bindings, options),
  );
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(answerCompiler(checksAnswers));
  // JSON alone: Fastify reads texts as well, which a page of any origin may send without a preflight.
  app.removeContentTypeParser("text/plain");

  if (services.tracing) await app.register(tracingPlugin);
  await app.register(observabilityPlugin, { services });
  await app.register(shutdownPlugin);
  await app.register(errorPlugin);
  await app.register(guardPlugin, { permissions: PERMISSION_CODES });
  await app.register(securityPlugin, { services });
  await app.register(processOverloadPlugin, { services });
  await app.register(rateLimitPlugin, { services });
  await app.register(openapiPlugin, { services });
  await app.register(healthRoutes, { services });
  await app.register(metricsRoutes, { services });
  if (services.outbox) {
    await app.register(messagingRoutes, { outbox: services.outbox, worker: services.messages });
  }

  const { platform } = services;
  if (platform) {
    await app.register(platformRoutes, { prefix: "/api/platform", services, platform });
    await app.register(consoleRoutes, { services });
  }
  await app.register(
    async (api) => {
      await api.register(tenantPlugin, { services });
      await api.register(tenantOverloadPlugin, { services });
      await api.register(rateLimitEnforcementPlugin);
      await api.register(authenticationPlugin, { services });
      await api.register(guardEnforcementPlugin);
      await api.register(sealingPlugin, { services });
      await api.register(authRoutes, { prefix: "/auth", services });
      await api.register(accountRoutes, { prefix: "/account", services });
      await api.register(companyRoutes, { prefix: "/company" });
      await api.register(accessControlRoutes, { prefix: "/access-control", services });
      await api.register(auditRoutes, { prefix: "/audit", services });
    },
    { prefix: "/api" },
  );
  return app;
}
