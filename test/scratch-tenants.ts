import { randomBytes, randomInt } from "node:crypto";
import postgres from "postgres";
import { adminUrl, createDatabase } from "./cluster.ts";

/**
 * A database of bare tenants, for tests of `src/db` alone: no registry and no migrations, each schema
 * holding `whoami`, one row with the tenant's id, and `notes`, for what is written.
 */
export interface ScratchTenants {
  /** The URL of the login role, which may take on each tenant's role and has no rights of its own. */
  readonly url: string;
  readonly loginRole: string;
  readonly ids: readonly number[];
  /** The superuser's client, which sees every schema. */
  readonly admin: postgres.Sql;
  drop(): Promise<void>;
}

/** Roles are the server's, not the database's: ids of one test file must not meet another's. */
const ID_BASE_MAX = 2 ** 40;

export async function createScratchTenants(count: number): Promise<ScratchTenants> {
  const database = await createDatabase();
  const admin = postgres(database.url, { max: 2, onnotice: () => undefined });
  const password = randomBytes(8).toString("hex");
  const loginRole = `api_${randomBytes(6).toString("hex")}`;
  const base = randomInt(1, ID_BASE_MAX);
  const ids = Array.from({ length: count }, (_, index) => base + index);
  const tenants = ids.map(
    (id) => `
      create role t_${id};
      grant t_${id} to ${loginRole} with inherit false, set true;
      create schema t_${id};
      grant usage on schema t_${id} to t_${id};
      create table t_${id}.whoami (tenant bigint not null);
      insert into t_${id}.whoami values (${id});
      create table t_${id}.notes (id bigint not null, tenant bigint not null);
      grant select, insert, update, delete on t_${id}.whoami, t_${id}.notes to t_${id};`,
  );
  await admin.unsafe(
    `create role ${loginRole} login noinherit password '${password}'; ${tenants.join("")}`,
  );
  const url = new URL(database.url);
  url.username = loginRole;
  url.password = password;
  return {
    url: url.href,
    loginRole,
    ids,
    admin,
    async drop() {
      await admin.end();
      await database.drop();
      await dropRoles([loginRole, ...ids.map((id) => `t_${id}`)]);
    },
  };
}

async function dropRoles(names: readonly string[]): Promise<void> {
  const admin = postgres(adminUrl, { max: 1, onnotice: () => undefined });
  try {
    await admin.unsafe(`drop role ${names.join(", ")}`);
  } finally {
    await admin.end();
  }
}
