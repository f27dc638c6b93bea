import { newTotpSecret } from "../auth/totp.ts";
import type { AdminConnection } from "../db/admin.ts";
import { AppError } from "../errors.ts";
import type { OperatorContext } from "./context.ts";
import { recordOperatorAction } from "./operator-log.ts";
import {
  acceptOperatorCode,
  invalidCode,
  lockOperator,
  operatorSecretContext,
} from "./operator-login.ts";
import type { Operator } from "./operators.ts";

/** What authenticator apps show above the code. */
const ISSUER = "Ouvira operators";

/** What an operator enters into an authenticator app; shown once. */
export interface OperatorEnrolment {
  readonly secret: string;
  readonly qr_code: string;
}

/**
 * Begins to ask an operator for a code: in force once a code has confirmed it. Beginning again replaces what
 * was begun.
 *
 * @throws AppError `conflict` while it is on
 */
export async function enrolOperator(
  admin: AdminConnection,
  { keys, client }: OperatorContext,
  operatorId: number,
): Promise<OperatorEnrolment> {
  const operator = await requireOff(admin, operatorId);
  const { secret, uri } = newTotpSecret(ISSUER, operator.email);
  await admin.query`
    update platform.operators
       set sealed_secret = ${keys.seal(secret, operatorSecretContext(operatorId))}, last_step = 0,
           updated_at = now()
     where id = ${operatorId}`;
  await recordOperatorAction(admin.query, { action: "SECOND_FACTOR_ENROLLED", operator, client });
  return { secret, qr_code: uri };
}

/**
 * Turns the second factor on with its first code.
 *
 * @returns why not, to be thrown after the commit: AppError `invalid_2fa_code`, `conflict` while it is on or
 *   was not begun
 */
export async function confirmOperator(
  admin: AdminConnection,
  context: OperatorContext,
  operatorId: number,
  code: string,
): Promise<AppError | undefined> {
  const operator = await requireOff(admin, operatorId);
  const [row] = await admin.query<{ is_begun: boolean }[]>`
    select sealed_secret is not null as is_begun from platform.operators where id = ${operatorId}`;
  if (!row?.is_begun) return new AppError("conflict", "Begin with 2fa/enable/.");
  if (!(await acceptOperatorCode(admin, context, operator, code))) return invalidCode();
  await admin.query`
    update platform.operators set totp_confirmed_at = now(), updated_at = now() where id = ${operatorId}`;
  await recordOperatorAction(admin.query, {
    action: "SECOND_FACTOR_ENABLED",
    operator,
    client: context.client,
  });
  return undefined;
}

async function requireOff(admin: AdminConnection, operatorId: number): Promise<Operator> {
  const operator = await lockOperator(admin, operatorId);
  if (operator && !operator.has_second_factor) return operator;
  throw new AppError("conflict", "The second factor is on.");
}
