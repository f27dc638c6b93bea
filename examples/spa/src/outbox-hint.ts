import { API_URL } from "./api.ts";
import { type Child, element } from "./element.ts";

/**
 * Where the messages are that a local installation "sends". A page of another origin may not read them,
 * so this is a link for the person who develops; in production there is no such route, and no hint.
 */
export function outboxHint(): Child {
  const { hostname } = new URL(API_URL);
  if (hostname !== "localhost" && hostname !== "127.0.0.1") return undefined;
  const outbox = element(
    "a",
    { href: `${API_URL}/dev/outbox/`, target: "_blank", rel: "noopener" },
    "the outbox",
  );
  return element(
    "p",
    { className: "hint" },
    "Running locally? SMS and e-mails are in ",
    outbox,
    ", newest first.",
  );
}
