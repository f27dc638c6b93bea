import type { ClientDetails } from "../audit/security-log.ts";
import type { Keys } from "../keys.ts";

/** What the functions of a domain need besides the transaction they run in. */
export interface Context {
  readonly tenantId: number;
  readonly keys: Keys;
  readonly client: ClientDetails;
}
