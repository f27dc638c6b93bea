import { appendFile, mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { randomUUID } from "node:crypto";
import type { Message } from "./messages.ts";
import type { Transport } from "./transport.ts";

/** A message as `/dev/outbox/` shows it. */
export interface OutboxEntry {
  id: string;
  channel: "email" | "sms";
  to: string;
  subject: string | null;
  body: string;
  sent_at: string;
}

/** Messages shown, newest first. */
const SHOWN_MAX = 200;

/**
 * The transport of APP_ENV=local: messages are printed and kept in a file of the data folder, so that
 * they are there after a reload. It does not exist in production.
 */
export class Outbox implements Transport {
  readonly #file: string;
  readonly #print: (line: string) => void;

  constructor(dataDir: string, print: (line: string) => void) {
    this.#file = path.join(dataDir, "outbox.jsonl");
    this.#print = print;
  }

  async send(message: Message): Promise<void> {
    const entry: OutboxEntry = {
      id: randomUUID(),
      channel: message.channel,
      to: message.to,
      subject: message.subject ?? null,
      body: message.body,
      sent_at: new Date().toISOString(),
    };
    await mkdir(path.dirname(this.#file), { recursive: true });
    await appendFile(this.#file, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
    this.#print(`${message.channel} to ${message.to}: ${message.body}`);
  }

  /** The newest messages, newest first. */
  async list(): Promise<OutboxEntry[]> {
    let text: string;
    try {
      text = await readFile(this.#file, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
      throw error;
    }
    // What ends without a line break is being written at this moment, by another process perhaps.
    const lines = text.split("\n").slice(0, -1).slice(-SHOWN_MAX).reverse();
    // Each line is an entry that `send` wrote.
    return lines.map((line) => JSON.parse(line) as OutboxEntry);
  }
}
