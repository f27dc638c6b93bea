import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";

/** The superuser's URL of the server that `test/global-setup.ts` started, database `postgres`. */
export const adminUrl: string = inject("adminUrl");

export interface TestDatabase {
  readonly name: string;
  /** The superuser's URL of this database. */
  readonly url: string;
  /** Ends whoever is still connected and removes the database. Roles stay: they are the server's. */
  drop(): Promise<void>;
}

/** Makes an empty database of a name nobody else has, in the server of the run or in another. */
export async function createDatabase(serverUrl: string = adminUrl): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  await asAdmin(serverUrl, `create database ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return {
    name,
    url: url.href,
    drop: () => asAdmin(serverUrl, `drop database ${name} with (force)`),
  };
}

async function asAdmin(serverUrl: string, text: string): Promise<void> {
  const admin = postgres(serverUrl, { max: 1, onnotice: () => undefined });
  try {
    await admin.unsafe(text);
  } finally {
    await admin.end();
  }
}
