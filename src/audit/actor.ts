import { AppError } from "../errors.ts";
import type { ClientDetails } from "./security-log.ts";

/** Stands for a user's id where an operator of the platform acts: no user has it. */
export const OPERATOR_USER_ID = 0;

/** Who makes a change, as the checks and the logs need to know. */
export interface Actor {
  /** {@link OPERATOR_USER_ID} for an operator. */
  readonly userId: number;
  /** How logs name an operator; undefined for a user. */
  readonly operator: string | undefined;
  readonly client: ClientDetails;
  /** The permissions that were asked for on behalf of the request, granted or not. */
  readonly asked: Set<string>;
}

export function makeActor(userId: number, client: ClientDetails, operator?: string): Actor {
  return { userId, operator, client, asked: new Set() };
}

/**
 * For what is made in somebody's name.
 *
 * @throws AppError `permission_denied` for an operator
 */
export function requireUser({ operator }: Actor): void {
  if (operator === undefined) return;
  throw new AppError(
    "permission_denied",
    "This is done in the name of a user, and an operator is none: ask an admin of the tenant.",
  );
}
