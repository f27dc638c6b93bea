/**
 * A client in a process of its own, so that what one sends is not in the way of what another measures. Told by
 * messages what to send (`paced-load.ts`); answers each with what became of it.
 */
import { once } from "node:events";
import net from "node:net";
import type { Job, Outcomes } from "./paced-load.ts";
import { ask } from "./http-load.ts";

/** Connections opened before anything is sent, and the most there are. */
const SOCKETS_AHEAD = 16;
const SOCKETS_MAX = 512;

const [port] = process.argv.slice(2);
const idle = new Set<net.Socket>();
let sockets = 0;

async function openSocket(): Promise<net.Socket> {
  sockets += 1;
  const socket = net.connect({ port: Number(port), host: "127.0.0.1", noDelay: true });
  socket.on("error", () => undefined);
  // The server closes what has not been used for long.
  socket.once("close", () => {
    sockets -= 1;
    idle.delete(socket);
  });
  await once(socket, "connect");
  return socket;
}

function takeIdle(): net.Socket | undefined {
  const [socket] = idle;
  if (socket) idle.delete(socket);
  return socket;
}

/** Sends one request. Status 0: it was not answered, or there was no socket to send it on. */
async function send(request: Buffer, outcomes: Outcomes): Promise<void> {
  const sentAt = performance.now();
  let status = 0;
  try {
    const socket = takeIdle() ?? (sockets < SOCKETS_MAX ? await openSocket() : undefined);
    if (socket) {
      status = await ask(socket, request);
      idle.add(socket);
    }
  } catch {
    // Its socket was closed.
  }
  outcomes.statuses.push(status);
  outcomes.milliseconds.push(performance.now() - sentAt);
}

/**
 * Sends at a rate however slowly it is answered, as people do who know nothing of each other: the pauses between
 * are distributed exponentially.
 */
async function sendAtRate(
  requests: readonly Buffer[],
  { perSecond, seconds }: { perSecond: number; seconds: number },
  outcomes: Outcomes,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  const pause = () => (-Math.log(1 - Math.random()) / perSecond) * 1_000;
  const start = performance.now();
  const end = start + seconds * 1_000;
  let sent = 0;
  for (let due = start + pause(); due < end;) {
    for (const now = performance.now(); due <= now && due < end; due += pause()) {
      const request = requests[sent % requests.length];
      if (!request) throw new RangeError("There is nothing to send");
      sent += 1;
      const done: Promise<void> = send(request, outcomes).finally(() => underWay.delete(done));
      underWay.add(done);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(underWay);
}

/** Keeps so many requests under way, each sent anew as soon as it is answered. */
async function keepBusy(
  requests: readonly Buffer[],
  { concurrency, seconds }: { concurrency: number; seconds: number },
  outcomes: Outcomes,
): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  let sent = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (performance.now() < end) {
        const request = requests[sent % requests.length];
        if (!request) throw new RangeError("There is nothing to send");
        sent += 1;
        await send(request, outcomes);
      }
    }),
  );
}

async function run(job: Job): Promise<Outcomes> {
  const requests = job.requests.map((request) => Buffer.from(request));
  const outcomes: Outcomes = { statuses: [], milliseconds: [], seconds: 0 };
  while (sockets < SOCKETS_AHEAD) idle.add(await openSocket());
  const start = performance.now();
  if ("perSecond" in job) await sendAtRate(requests, job, outcomes);
  else await keepBusy(requests, job, outcomes);
  outcomes.seconds = (performance.now() - start) / 1_000;
  return outcomes;
}

process.on("message", (job: Job) => {
  void run(job).then((outcomes) => process.send?.(outcomes));
});
process.once("disconnect", () => process.exit(0));
process.send?.("ready");
