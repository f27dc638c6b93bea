import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { ConfigError } from "./config-error.ts";

const LocalSecrets = z.object({
  SECRET_KEY: z.string().min(32),
  PASSWORD_PEPPER: z.string().min(32),
  ENCRYPTION_KEY: z.string().min(32),
});
type LocalSecrets = z.infer<typeof LocalSecrets>;

/**
 * Secrets of a local installation, by variable: made once and kept in the data folder. Two processes may
 * start at once: the first to write decides, the other reads what it wrote.
 *
 * @throws ConfigError when the file is damaged or the folder cannot be written
 */
export function getLocalSecrets(dataDir: string): LocalSecrets {
  const file = path.join(dataDir, "secrets.json");
  return readSecrets(file) ?? writeSecrets(dataDir, file);
}

function readSecrets(file: string): LocalSecrets | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  try {
    return LocalSecrets.parse(JSON.parse(text));
  } catch {
    throw new ConfigError([
      `${file} is damaged: restore it, or remove it together with the local database.`,
    ]);
  }
}

function writeSecrets(dataDir: string, file: string): LocalSecrets {
  const secrets: LocalSecrets = {
    SECRET_KEY: randomBytes(48).toString("base64"),
    PASSWORD_PEPPER: randomBytes(48).toString("base64"),
    ENCRYPTION_KEY: randomBytes(48).toString("base64"),
  };
  try {
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(file, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    return secrets;
  } catch (error) {
    const written = readSecrets(file);
    if (written) return written;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([`DATA_DIR (${dataDir}) cannot be written: ${reason}`]);
  }
}
