import type { ClientDetails } from "./security-log.ts";

/** Who makes a change, as the checks and the logs need to know. */
export interface Actor {
  readonly userId: number;
  readonly client: ClientDetails;
  /** The permissions that were asked for on behalf of the request, granted or not. */
  readonly asked: Set<string>;
}

export function makeActor(userId: number, client: ClientDetails): Actor {
  return { userId, client, asked: new Set() };
}
