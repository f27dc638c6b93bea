import type { ClientDetails } from "../audit/security-log.ts";
import type { Keys } from "../keys.ts";
import type { MessageQueue } from "../messaging/queue.ts";

/** What the functions of a domain need besides the transaction they run in. */
export interface Context {
  readonly tenantId: number;
  /** What links to the front end name the tenant by. */
  readonly subdomain: string;
  readonly keys: Keys;
  readonly messages: MessageQueue;
  /** Where the links sent to people lead: the only source of their address. */
  readonly frontendUrl: string;
  readonly client: ClientDetails;
}
