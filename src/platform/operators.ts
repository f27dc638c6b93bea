import type { RunSql } from "../db/sql.ts";
import { violatedUnique } from "../db/violations.ts";
import { AppError } from "../errors.ts";
import { endOperatorSessions } from "./operator-sessions.ts";

/** A person who runs the installation. */
export interface Operator {
  readonly id: number;
  readonly email: string;
  readonly is_active: boolean;
  /** Whether a code is asked for at login. */
  readonly has_second_factor: boolean;
}

/** Operator with what a login is checked against. */
export interface OperatorAccount extends Operator {
  readonly password_hash: string;
}

/** The operator of an address (lower case), or undefined. */
export async function findOperator(
  query: RunSql,
  email: string,
): Promise<OperatorAccount | undefined> {
  const [row] = await query<OperatorAccount[]>`
    select id, email, is_active, totp_confirmed_at is not null as has_second_factor, password_hash
      from platform.operators
     where email = ${email}`;
  return row;
}

/** @throws AppError `conflict` when there is an operator of that address */
export async function createOperator(
  query: RunSql,
  email: string,
  passwordHash: string,
): Promise<Operator> {
  try {
    const [row] = await query<Operator[]>`
      insert into platform.operators (email, password_hash)
      values (${email}, ${passwordHash})
      returning id, email, is_active, false as has_second_factor`;
    if (!row) throw new Error("The operator was not created");
    return row;
  } catch (error) {
    if (violatedUnique(error) === undefined) throw error;
    throw new AppError("conflict", `There is an operator ${email} already.`, { cause: error });
  }
}

/**
 * Gives an operator who has lost what they log in with a new password, and takes the second factor and every
 * login away. Active again, if they were not.
 *
 * @throws AppError `not_found`
 */
export async function resetOperator(
  query: RunSql,
  email: string,
  passwordHash: string,
): Promise<Operator> {
  const [row] = await query<Operator[]>`
    update platform.operators
       set password_hash = ${passwordHash}, is_active = true, sealed_secret = null, last_step = 0,
           totp_confirmed_at = null, updated_at = now()
     where email = ${email}
    returning id, email, is_active, false as has_second_factor`;
  if (!row) throw new AppError("not_found", `There is no operator ${email}.`);
  await endOperatorSessions(query, row.id);
  return row;
}

/**
 * Locks an operator out at once: every login and support token of theirs ends.
 *
 * @throws AppError `not_found`
 */
export async function disableOperator(query: RunSql, email: string): Promise<Operator> {
  const [row] = await query<Operator[]>`
    update platform.operators set is_active = false, updated_at = now()
     where email = ${email}
    returning id, email, is_active, totp_confirmed_at is not null as has_second_factor`;
  if (!row) throw new AppError("not_found", `There is no operator ${email}.`);
  await endOperatorSessions(query, row.id);
  return row;
}
