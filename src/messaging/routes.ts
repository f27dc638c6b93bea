import { isIP } from "node:net";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { problems } from "../plugins/openapi.ts";
import type { Outbox } from "./outbox.ts";
import type { MessageWorker } from "./worker.ts";

/** How long the list waits for messages that are on their way to it. */
const PATIENCE_MS = 5_000;

const OutboxEntry = z
  .object({
    id: z.uuid(),
    channel: z.enum(["email", "sms"]),
    to: z.string().meta({ examples: ["ada@corp.io"] }),
    subject: z
      .string()
      .nullable()
      .meta({ examples: ["Verify your e-mail address"] }),
    body: z.string().meta({ examples: ["Follow this link: https://app.example.com/…"] }),
    sent_at: z.iso.datetime(),
  })
  .meta({ id: "OutboxEntry" });

/** What the console transports have sent, for developers; registered in APP_ENV=local only. */
export const messagingRoutes: FastifyPluginAsyncZod<{
  outbox: Outbox;
  worker: MessageWorker | undefined;
}> = async (app, { outbox, worker }) => {
  app.get(
    "/dev/outbox/",
    {
      config: { guard: "public", cors: false },
      schema: {
        operationId: "listOutbox",
        tags: ["Development"],
        summary: "List the e-mails and SMS that would have been sent",
        description:
          "Newest first, with what the requests before this one sent. Only with APP_ENV=local. Pages of other origins cannot read it.",
        response: { 200: z.array(OutboxEntry), ...problems("bad_host") },
      },
    },
    async (request) => {
      if (!isLocalHost(request.hostname)) {
        throw new AppError("bad_host", "The outbox is read at localhost or an address.");
      }
      await worker?.settled(PATIENCE_MS);
      return outbox.list();
    },
  );
};

/**
 * A name that no stranger's DNS can point here: a page that rebinds its own name to this machine is of
 * the same origin as the API, and CORS does not stop it.
 */
function isLocalHost(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, "");
  return name === "localhost" || name.endsWith(".localhost") || isIP(name) !== 0;
}
