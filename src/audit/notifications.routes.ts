import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { DetailAnswer } from "../access-control/schemas.ts";
import { rangeOf, sendPage } from "../plugins/lists.ts";
import { problems } from "../plugins/openapi.ts";
import { listNotifications, markAllRead, markRead } from "./notifications.ts";
import { MarkRead, NotificationsPage, NotificationsQuery } from "./schemas.ts";

/** What concerns the caller: invitations, changes of roles, new logins. */
export const notificationRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Audit"];

  app.get(
    "/",
    {
      config: { guard: "own-account" },
      schema: {
        operationId: "listNotifications",
        tags,
        summary: "List the caller's notifications",
        description: "Newest first, with the number of those that are not read.",
        querystring: NotificationsQuery,
        response: { 200: NotificationsPage, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const { unread, ...page } = request.query;
      const { unreadCount, ...found } = await listNotifications(
        request.tenant,
        request.principal.userId,
        unread ?? false,
        rangeOf(page),
      );
      return { ...sendPage(request, page, found), unread_count: unreadCount };
    },
  );

  app.post(
    "/mark-read/",
    {
      config: { guard: "own-account", example: { detail: "Marked as read." } },
      schema: {
        operationId: "markNotificationsRead",
        tags,
        summary: "Mark notifications as read",
        description: "One by its id, or all of the caller's.",
        body: MarkRead,
        response: { 200: DetailAnswer, ...problems("validation_error", "not_found") },
      },
    },
    async (request) => {
      const { userId } = request.principal;
      const { notification_id: id } = request.body;
      if (id === undefined) await markAllRead(request.tenant, userId);
      else await markRead(request.tenant, userId, id);
      return { detail: "Marked as read." };
    },
  );
};
