import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Outbox } from "./outbox.ts";

let dataDir: string;
let outbox: Outbox;
let file: string;

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), "ouvira-outbox-"));
  outbox = new Outbox(dataDir, () => undefined);
  file = path.join(dataDir, "outbox.jsonl");
});
afterEach(() => rm(dataDir, { recursive: true }));

const sms = (body: string) => ({ channel: "sms", to: "+201001234567", body }) as const;
const bodies = async () => (await outbox.list()).map(({ body }) => body);

describe("the outbox", () => {
  test("is empty before the first message, and while its file is only just made", async () => {
    expect(await outbox.list()).toEqual([]);

    await writeFile(file, "");

    expect(await outbox.list()).toEqual([]);
  });

  test("shows the newest 200, newest first", async () => {
    for (let index = 0; index < 205; index += 1) await outbox.send(sms(`message ${index}`));

    const shown = await bodies();

    expect(shown).toHaveLength(200);
    expect([shown[0], shown.at(-1)]).toEqual(["message 204", "message 5"]);
  });

  test("leaves out a message that another process is still writing", async () => {
    await outbox.send(sms("whole"));
    await appendFile(file, '{"id":"half');

    expect(await bodies()).toEqual(["whole"]);
  });
});
