import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs, type ParseArgsConfig } from "node:util";
import postgres from "postgres";
import { type Config, readConfig } from "../src/config.ts";
import { ConfigError } from "../src/config-error.ts";
import { type OpenDatabase, openDatabase } from "../src/db/open-database.ts";
import { migrateRegistry } from "../src/db/registry-migrations.ts";
import { AppError } from "../src/errors.ts";
import { ROOT_DIR } from "../src/paths.ts";

/** What the operator typed cannot be carried out; said without a stack, with the way to help. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Exit codes, as sysexits and shells use them: 0 all done, 1 it failed, 2 it was asked for wrongly. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/**
 * Runs an operator's command to its end and sets the exit code: 0 only when all is done. Failures that
 * the operator can act on are one sentence (or, with `--json`, one object) on stderr.
 */
export async function runCommand(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    const error = isUnmigrated(thrown)
      ? new AppError("not_ready", "The database is not migrated: run npm run migrate.")
      : thrown;
    const code = error instanceof AppError ? error.code : undefined;
    process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
    const isExpected =
      code !== undefined || error instanceof UsageError || error instanceof ConfigError;
    if (process.argv.includes("--json")) {
      const message = error instanceof Error ? error.message : String(error);
      console.error(JSON.stringify({ error: { code: code ?? "failed", detail: message } }));
    } else if (isExpected) {
      console.error(`${code ? `${code}: ` : ""}${error instanceof Error ? error.message : ""}`);
      // What the sentence leaves out: why the database could not be reached, say.
      if (error instanceof AppError && error.cause instanceof Error)
        console.error(`  ${error.cause.message}`);
    } else {
      console.error(error);
    }
  }
}

/** Whether the registry is not there: nobody has run `npm run migrate` on this database. */
function isUnmigrated(error: unknown): boolean {
  return (
    error instanceof postgres.PostgresError &&
    error.code === "42P01" &&
    error.message === 'relation "public.tenants" does not exist'
  );
}

/**
 * The settings of a command: those of the environment and `.env`. Without a database they are those of
 * `npm run dev`; with one APP_ENV has to be said, or a command would hash a password with the secrets
 * of this folder for a server that has others.
 */
export function readSettings(): Config {
  loadEnvFile();
  const { DATABASE_URL: url, POSTGRES_DB: database } = process.env;
  return readConfig(
    url || database ? process.env : { APP_ENV: "local", ...process.env },
    "command",
  );
}

/** Opens the database of the settings for the time of `work`. */
export async function withDatabase(
  config: Config,
  work: (database: OpenDatabase) => Promise<void>,
): Promise<void> {
  const database = await openDatabase(config);
  try {
    // Nobody else brings a local database up to date when `npm run dev` has never run.
    if (database.isEmbedded) await migrateRegistry(database.migrationUrl, database.url);
    await work(database);
  } finally {
    await database.stop();
  }
}

/** Adds what `.env` sets to the environment, which wins. */
export function loadEnvFile(): void {
  const envFile = path.join(ROOT_DIR, ".env");
  if (existsSync(envFile)) process.loadEnvFile(envFile);
}

type OptionTable = NonNullable<ParseArgsConfig["options"]>;

/** An option with a value. */
export const STRING = { type: "string" } as const;

/** What every command takes. */
export const COMMON = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const satisfies OptionTable;

/** Rows with their columns one below the other. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The options of a command. @throws UsageError for one that it does not have */
export function parse<const Options extends OptionTable>(args: string[], options: Options) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** A whole number that an option names; undefined when it is not given. @throws UsageError */
export function countOf(
  option: string,
  text: string | undefined,
  least: number,
): number | undefined {
  if (text === undefined) return undefined;
  const count = Number(text);
  if (/^\d{1,9}$/.test(text) && count >= least) return count;
  throw new UsageError(`--${option} takes a whole number from ${least}.`);
}

/**
 * Asks before what cannot be undone. Without a terminal there is nobody to ask.
 *
 * @throws UsageError without a terminal and without `--yes`; AppError `conflict` when the answer is not yes
 */
export async function confirm(question: string, isYes: boolean): Promise<void> {
  if (isYes) return;
  if (!process.stdin.isTTY) throw new UsageError(`${question} Say so with --yes.`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${question} [y/N] `);
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    terminal.close();
  }
  throw new AppError("conflict", "Nothing was done.");
}

/** Help that was asked for, or that is the answer to what was not understood. */
export function showHelp(help: string, isAskedFor: boolean): void {
  if (!isAskedFor) throw new UsageError(help.trim());
  console.log(help.trim());
}
