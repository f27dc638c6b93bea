import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { PasswordHasher } from "../auth/passwords.ts";
import { withAdmin } from "../db/admin.ts";
import { AppError } from "../errors.ts";
import { createOperator } from "./operators.ts";

/** How to log in to the console of a local installation. */
export interface OperatorCredentials {
  readonly email: string;
  readonly password: string;
}

const EMAIL = "operator@local.test";

const StoredCredentials = z.object({ email: z.string(), password: z.string() });

/**
 * Makes the first operator of a local installation, unless it has one.
 *
 * @param migrationUrl of the role that owns the tables
 */
export async function ensureLocalOperator(
  migrationUrl: string,
  passwords: PasswordHasher,
  dataDir: string,
): Promise<void> {
  await withAdmin(migrationUrl, async ({ query }) => {
    const operators = await query`select 1 from platform.operators limit 1`;
    if (operators.length > 0) return;
    const credentials = { email: EMAIL, password: `operator-${randomBytes(6).toString("hex")}` };
    const hash = await passwords.hash(credentials.password);
    try {
      await createOperator(query, credentials.email, hash);
    } catch (error) {
      // Another process made it a moment ago.
      if (error instanceof AppError && error.code === "conflict") return;
      throw error;
    }
    const text = `${JSON.stringify(credentials, null, 2)}\n`;
    await writeFile(credentialsFile(dataDir), text, { mode: 0o600 });
  });
}

/** How to log in as the operator that was made here; undefined where none was. */
export async function readLocalOperator(dataDir: string): Promise<OperatorCredentials | undefined> {
  try {
    return StoredCredentials.parse(JSON.parse(await readFile(credentialsFile(dataDir), "utf8")));
  } catch {
    return undefined;
  }
}

function credentialsFile(dataDir: string): string {
  return path.join(dataDir, "operator.json");
}
