import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createFaultGround, type FaultGround, type LoadTenant } from "../fault-ground.ts";
import { FaultLoad } from "../fault-load.ts";
import type { ServerProcess } from "../server-process.ts";

/** Requests of one tenant that wait in the database when the signal comes. */
const HELD = 3;
/** Less than what requests under way may take: nobody who is silent is waited for so long. */
const STOPS_WITHIN_MS = 8_000;
const SOON = { timeout: 2_500, interval: 5 };

let ground: FaultGround;
let server: ServerProcess;
let tenants: LoadTenant[];

beforeEach(async () => {
  ground = await createFaultGround();
  server = await ground.startService();
  tenants = [];
  for (let count = 0; count < 4; count += 1) tenants.push(await ground.createTenant(server));
}, 120_000);
afterEach(async () => {
  await ground.close();
});

const isListening = ({ url }: ServerProcess) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });

/** A socket that is open and has not been used, as load balancers keep some. */
async function openSocket({ url }: ServerProcess): Promise<Socket> {
  const { port } = new URL(url);
  const socket = connect(Number(port), "127.0.0.1");
  await once(socket, "connect");
  // It may be reset instead of closed.
  socket.on("error", () => undefined);
  return socket;
}

/** What a socket is answered with; nothing when it is closed instead. */
async function ask(socket: Socket): Promise<string> {
  if (socket.destroyed) return "";
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk.toString()));
  // Not `once`, which fails when the socket is reset.
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await closed;
  return answer;
}

describe("SIGTERM under load", () => {
  test("answers every request that was taken, makes no write without an answer, and ends with 0", async () => {
    const { sql } = ground.registry;
    const [slow, ...others] = tenants;
    if (!slow) throw new Error("There is no tenant");
    const load = new FaultLoad(() => [server], others);
    const holder = await sql.reserve();

    try {
      await load.during(async () => {
        await load.untilWritten();
        await holder`begin`;
        await holder`lock table ${sql(slow.schema)}.companies in exclusive mode`;
        const held = Array.from({ length: HELD }, (_, index) =>
          load.traffic.send(server.url, {
            method: "POST",
            path: "/api/company/",
            tenant: slow.subdomain,
            token: slow.token,
            body: { name: `Held ${index}` },
          }),
        );
        await vi.waitFor(async () => {
          const rows = await sql`
            select 1 from pg_locks
             where not granted and relation = ${`${slow.schema}.companies`}::regclass`;
          expect(rows).toHaveLength(HELD);
        }, SOON);
        const silent = await openSocket(server);
        const unused = await openSocket(server);

        const startedAt = performance.now();
        await load.traffic.strike("SIGTERM", () => server.terminate());
        await vi.waitUntil(async () => !(await isListening(server)), SOON);
        const late = await ask(unused);
        await holder`commit`;

        const answers = await Promise.all(held);
        expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
        expect(answers.map(({ headers }) => headers.connection)).toEqual(Array(HELD).fill("close"));
        // Nothing, where the signal was long ago.
        expect(late).toMatch(/^($|HTTP\/1\.1 200 OK\r\n(.+\r\n)*connection: close\r\n)/i);
        expect(await server.exited).toBe(0);
        const ms = performance.now() - startedAt;
        silent.destroy();
        console.log(`ended ${Math.round(ms)} ms after SIGTERM`);
        expect(ms).toBeLessThan(STOPS_WITHIN_MS);
      });
    } finally {
      holder.release();
    }

    expect(await load.verify(ground.registry)).toBe(0);
    const names = await sql`
      select name from ${sql(slow.schema)}.companies order by name`;
    expect(names.map(({ name }) => name as unknown)).toEqual(["Held 0", "Held 1", "Held 2"]);
  }, 60_000);
});
