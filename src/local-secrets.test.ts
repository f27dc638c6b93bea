import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findingsOf } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-secrets-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const local = (variables: Record<string, string> = {}) =>
  readConfig({ APP_ENV: "local", DATA_DIR: dataDir, ...variables });

describe("local secrets", () => {
  const file = () => path.join(dataDir, "secrets.json");
  const secretsOf = ({ secretKey, passwordPepper, encryptionKey }: ReturnType<typeof local>) => [
    secretKey,
    passwordPepper,
    encryptionKey,
  ];

  test("are made once, for nobody else to read, and are the same the next time", () => {
    const made = secretsOf(local());

    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(new Set(made).size).toBe(3);
    for (const secret of made) expect(Buffer.from(secret, "base64")).toHaveLength(48);
    expect(secretsOf(local())).toEqual(made);
  });

  test("are others in another folder", () => {
    expect(secretsOf(local({ DATA_DIR: path.join(dataDir, "other") }))).not.toEqual(
      secretsOf(local()),
    );
  });

  test("a variable replaces one and leaves the file alone", () => {
    const made = local();
    const before = readFileSync(file(), "utf8");

    const given = local({ SECRET_KEY: "given" });

    expect(given).toMatchObject({ secretKey: "given", encryptionKey: made.encryptionKey });
    expect(readFileSync(file(), "utf8")).toBe(before);
  });

  test.each([
    ["no JSON", "{"],
    ["without a secret", "{}"],
    ["empty", ""],
    ["of short secrets", '{"SECRET_KEY":"a","PASSWORD_PEPPER":"b","ENCRYPTION_KEY":"c"}'],
  ])("a damaged file is not written over: %s", (_, text) => {
    writeFileSync(file(), text);

    expect(findingsOf(() => local())).toEqual([expect.stringContaining(`${file()} is damaged`)]);
    expect(readFileSync(file(), "utf8")).toBe(text);
  });

  test("a folder that cannot be made is named", () => {
    writeFileSync(path.join(dataDir, "plain"), "");

    expect(findingsOf(() => local({ DATA_DIR: path.join(dataDir, "plain") }))).toEqual([
      expect.stringMatching(/^DATA_DIR .*plain/),
    ]);
  });
});
