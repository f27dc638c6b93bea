import { chmod, chown, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CERTIFICATE, CERTIFICATE_KEY } from "../../test/localhost-certificate.ts";
import { startStoppableCluster, type StoppableCluster } from "../../test/stoppable-cluster.ts";
import { AppError } from "../errors.ts";
import { LaneConnection } from "./lane-connection.ts";

const OPTIONS = {
  applicationName: "ouvira lane of a test",
  statementTimeoutMs: 1_000,
  lockTimeoutMs: 200,
  idleInTransactionTimeoutMs: 1_000,
};
const SCOPE = { role: "postgres", schema: "public" };

let cluster: StoppableCluster;
let admin: postgres.Sql;

beforeAll(async () => {
  cluster = await startStoppableCluster();
  admin = postgres(cluster.url, { max: 1, onnotice: () => undefined });
  const [row] = await admin<
    { folder: string }[]
  >`select current_setting('data_directory') as folder`;
  const folder = row?.folder ?? "";
  // The server reads a key that is its own and nobody else's.
  const { uid, gid } = await stat(folder);
  for (const [name, text] of [
    ["server.crt", CERTIFICATE],
    ["server.key", CERTIFICATE_KEY],
  ] as const) {
    const file = path.join(folder, name);
    await writeFile(file, text);
    await chmod(file, 0o600);
    await chown(file, uid, gid);
  }
  await admin`alter system set ssl = on`;
  await admin`select pg_reload_conf()`;
  await vi.waitUntil(async () => {
    const [setting] = await admin<{ ssl: string }[]>`show ssl`;
    return setting?.ssl === "on";
  });
}, 60_000);
afterAll(async () => {
  await admin.end();
  await cluster.close();
});

const urlWith = (mode: string) => `${cluster.url}?sslmode=${mode}`;

async function isEncrypted(mode: string): Promise<unknown> {
  const connection = await LaneConnection.open({ ...OPTIONS, url: urlWith(mode) });
  try {
    const statement = {
      text: "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
      values: [],
      prepared: undefined,
    };
    const [rows] = await connection.runTransaction(SCOPE, [statement]);
    return rows;
  } finally {
    await connection.close();
  }
}

describe("a lane's connection", () => {
  test("speaks TLS where sslmode=require says so, whoever signed the certificate", async () => {
    expect(await isEncrypted("require")).toEqual([{ ssl: true }]);
  });

  test("speaks none where it says disable", async () => {
    expect(await isEncrypted("disable")).toEqual([{ ssl: false }]);
  });

  test("refuses a certificate that nobody it trusts has signed, where it says verify-full", async () => {
    const error = await isEncrypted("verify-full").catch((reason: unknown) => reason);

    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).cause).toMatchObject({ code: "DEPTH_ZERO_SELF_SIGNED_CERT" });
  });

  test("says goodbye when it is closed, and is gone from the server", async () => {
    const connection = await LaneConnection.open({ ...OPTIONS, url: cluster.url });
    const { pid } = connection;
    await connection.close();

    expect(connection.isOpen).toBe(false);
    await vi.waitUntil(async () => {
      const rows = await admin`select 1 from pg_stat_activity where pid = ${pid}`;
      return rows.length === 0;
    });
  });
});
