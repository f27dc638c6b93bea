import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { linkTo, sendPage } from "../plugins/lists.ts";
import { problems } from "../plugins/openapi.ts";
import { listActivity, listOwnActivity } from "./activity-logs.ts";
import { COUNT_MAX, type LogPage, type LogPlace } from "./log-pages.ts";
import {
  ActivityPage,
  ActivityQuery,
  OwnActivityQuery,
  SecurityPage,
  SecurityQuery,
} from "./schemas.ts";
import { listSecurity } from "./security-logs.ts";

/** The logs, newest first. No route changes them. */
export const logRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Audit"];

  app.get(
    "/activity-logs/",
    {
      config: { guard: "audit.view" },
      schema: {
        operationId: "listActivity",
        tags,
        summary: "List what was changed",
        description:
          "In the companies where the caller holds `audit.view`; for the tenant's admins everywhere. Newest first.",
        querystring: ActivityQuery,
        response: { 200: ActivityPage, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const { company, entity_type: entityType, entity_id: entityId, action, user } = request.query;
      const page = await listActivity(
        request.tenant,
        request.actor,
        { company, entityType, entityId, action, user, ...periodOf(request.query) },
        placeOf(request.query),
        request.query.page_size,
      );
      return sendLogPage(request, request.query, page);
    },
  );

  app.get(
    "/activity-logs/my/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "listOwnActivity",
        tags,
        summary: "List what the caller changed",
        description: "In every company. Newest first.",
        querystring: OwnActivityQuery,
        response: { 200: ActivityPage, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const page = await listOwnActivity(
        request.tenant,
        request.principal.userId,
        { action: request.query.action, ...periodOf(request.query) },
        placeOf(request.query),
        request.query.page_size,
      );
      return sendLogPage(request, request.query, page);
    },
  );

  app.get(
    "/security-logs/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "listSecurityEntries",
        tags,
        summary: "List what happened to an account",
        description: "The caller's own; for the tenant's admins anybody's. Newest first.",
        querystring: SecurityQuery,
        response: {
          200: SecurityPage,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
    },
    async (request) => {
      const { user, all, action } = request.query;
      const page = await listSecurity(
        request.tenant,
        request.actor,
        { user: all === true ? "all" : user, action, ...periodOf(request.query) },
        placeOf(request.query),
        request.query.page_size,
      );
      return sendLogPage(request, request.query, page);
    },
  );
};

interface LogQuery {
  page?: number | undefined;
  page_size: number;
  cursor?: string | undefined;
  from?: { start: Date } | undefined;
  to?: { end: Date } | undefined;
}

function periodOf({ from, to }: LogQuery): { from: Date | undefined; until: Date | undefined } {
  return { from: from?.start, until: to?.end };
}

/** Pages by number reach as far as entries are counted; one past that is not read. */
function placeOf({ page = 1, page_size: pageSize, cursor }: LogQuery): LogPlace {
  if (cursor !== undefined) return { cursor };
  return { offset: Math.min((page - 1) * pageSize, COUNT_MAX) };
}

function sendLogPage<Row>(
  request: FastifyRequest,
  { page = 1, page_size: pageSize, cursor }: LogQuery,
  { count, results, nextCursor }: LogPage<Row>,
) {
  const byCursor =
    nextCursor === null ? null : linkTo(request, { page: undefined, cursor: nextCursor });
  const numbered = cursor === undefined;
  const answer = sendPage(
    request,
    { page: numbered ? page : 1, page_size: pageSize },
    { count, results },
  );
  return {
    count,
    next: numbered ? (answer.next ?? byCursor) : byCursor,
    previous: numbered ? answer.previous : null,
    results,
    next_cursor: nextCursor,
  };
}
