import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { verifyLog } from "./log-verification.ts";
import { Verification, VerificationQuery } from "./schemas.ts";
import { LOGS } from "./seals.ts";

/** Entries of each log that one call checks: about half a second's work. The command checks all. */
const ENTRIES_PER_CALL_MAX = 20_000;

/** Whether the logs are what was written to them. */
export const verificationRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  app.get(
    "/",
    {
      config: { guard: "tenant-admin" },
      schema: {
        operationId: "verifyLogs",
        tags: ["Audit"],
        summary: "Check the logs against their seals",
        description: `The newest ${ENTRIES_PER_CALL_MAX} entries of each log, or so; \`before_activity\` and \`before_security\` go on from \`oldest_seal\` of an earlier answer. Entries are sealed some seconds after they are written.`,
        querystring: VerificationQuery,
        response: { 200: Verification, ...problems("validation_error") },
      },
    },
    async (request) => {
      const { registry } = services.database;
      const logs = [];
      for (const log of LOGS) {
        const before = request.query[`before_${log}`];
        logs.push(
          // Slow where there is much: not on a connection that others wait for.
          await request.tenant.transaction((tx) =>
            verifyLog(tx, registry.query, request.tenantInfo.id, log, {
              entriesMax: ENTRIES_PER_CALL_MAX,
              ...(before === undefined ? {} : { before }),
            }),
          ),
        );
      }
      const isIntact = logs.every(({ findings }) => findings.length === 0);
      return { status: isIntact ? ("intact" as const) : ("broken" as const), logs };
    },
  );
};
