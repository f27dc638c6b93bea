/**
 * `npm run dev`: the whole product on this machine, with nothing installed besides Node. Starts an
 * embedded PostgreSQL under DATA_DIR, then the API, and says how to log in. A changed file restarts
 * the API, not the database; Ctrl-C stops both.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, watch } from "node:fs";
import net from "node:net";
import path from "node:path";
import { readConfig } from "../src/config.ts";
import { ConfigError } from "../src/config-error.ts";
import { openDatabase } from "../src/db/open-database.ts";
import { ROOT_DIR } from "../src/paths.ts";
import { readLocalOperator } from "../src/platform/local-operator.ts";
import { readDemoLogin } from "../src/tenants/demo.ts";

/** How often the API is asked whether it is up. */
const POLL_INTERVAL_MS = 100;

/** Folders whose files make the API start again. */
const WATCHED = ["src", "migrations", "tenant-migrations"] as const;

/** Editors write a file in several steps, and formatters several files at once. */
const RESTART_DELAY_MS = 150;

async function main(): Promise<void> {
  const envFile = path.join(ROOT_DIR, ".env");
  if (existsSync(envFile)) process.loadEnvFile(envFile);
  process.env["APP_ENV"] ??= "local";
  const config = readConfig(process.env);
  if (config.appEnv !== "local") {
    throw new ConfigError([
      "npm run dev is for APP_ENV=local; production runs npm run build && npm start.",
    ]);
  }
  await refuseTakenPort(config.host, config.port);

  const database = await openDatabase(config);
  const api = new RestartedProcess({
    ...process.env,
    DATABASE_URL: database.url,
    DATABASE_MIGRATION_URL: database.migrationUrl,
  });
  let isStopping = false;
  const stop = async (): Promise<void> => {
    if (isStopping) return;
    isStopping = true;
    await api.stop();
    await database.stop();
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => void stop());
  }
  api.start();
  for (const folder of WATCHED) {
    watch(path.join(ROOT_DIR, folder), { recursive: true }, (_event, file) => {
      if (file?.endsWith(".test.ts")) return;
      api.restart(`${folder}/${file ?? ""} changed`);
    });
  }

  const base = `http://${config.host === "127.0.0.1" ? "localhost" : config.host}:${config.port}`;
  await waitUntilReady(base, () => isStopping);
  if (!isStopping) console.log(await welcome(base, config.dataDir, database.migrationUrl));
}

/**
 * The API as a process of its own, replaced when told to. It has an IPC channel to this one and ends
 * with it, however that ends.
 */
class RestartedProcess {
  readonly #environment: NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #restartTimer: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** One after the other: a stop under way when a file changes again is waited for. */
  #last: Promise<void> = Promise.resolve();

  constructor(environment: NodeJS.ProcessEnv) {
    this.#environment = environment;
  }

  start(): void {
    if (this.#isStopped) return;
    this.#child = spawn(process.execPath, ["--import", "tsx", "src/server.ts"], {
      cwd: ROOT_DIR,
      // Its own process group: Ctrl-C reaches this script, which stops the API before the database.
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: this.#environment,
    });
  }

  /** Replaces the process once no other change has come for a moment. */
  restart(reason: string): void {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => {
      this.#last = this.#last.then(async () => {
        if (this.#isStopped) return;
        console.log(`${reason}: restarting the API`);
        await this.#end();
        this.start();
      });
    }, RESTART_DELAY_MS);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#restartTimer);
    await this.#last;
    await this.#end();
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    await exited;
  }
}

/** @throws ConfigError in a sentence, before a database is started for nothing */
async function refuseTakenPort(host: string, port: number): Promise<void> {
  const probe = net.createServer();
  try {
    probe.listen(port, host);
    await once(probe, "listening");
  } catch {
    throw new ConfigError([
      `Port ${port} of ${host} is taken: stop what listens there (another npm run dev?), or set PORT.`,
    ]);
  } finally {
    probe.close();
  }
}

async function waitUntilReady(base: string, isStopping: () => boolean): Promise<void> {
  while (!isStopping()) {
    try {
      if ((await fetch(`${base}/readyz`)).ok) return;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

async function welcome(base: string, dataDir: string, migrationUrl: string): Promise<string> {
  const login = await readDemoLogin(dataDir);
  const operator = await readLocalOperator(dataDir);
  const lines = [
    "",
    `  Ouvira is running at ${base}`,
    "",
    `  API documents    ${base}/swagger/   ${base}/redoc/   ${base}/swagger.json`,
    `  Console          ${base}/admin/`,
    `  SMS and e-mails  ${base}/dev/outbox/`,
    `  Database         ${migrationUrl}`,
    "",
  ];
  if (operator) {
    lines.push(`  Console: log in as ${operator.email} with ${operator.password}`, "");
  }
  if (login) {
    const body = JSON.stringify({ identifier: login.email, password: login.password });
    lines.push(
      `  Tenant "${login.subdomain}": log in as ${login.email} with ${login.password}`,
      "",
      `  curl -s ${base}/api/auth/login/ -H 'X-Tenant: ${login.subdomain}' -H 'Content-Type: application/json' -d '${body}'`,
      "",
    );
  }
  lines.push("  Ctrl-C stops everything; what was written stays in the data folder.", "");
  return lines.join("\n");
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
