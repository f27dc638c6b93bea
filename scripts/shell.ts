/** `npm run shell`: the product at hand, to look at and to try: app, services, and a tenant's tables. */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { start } from "node:repl";
import { text } from "node:stream/consumers";
import { inspect } from "node:util";
import {
  COMMON,
  parse,
  readSettings,
  runCommand,
  showHelp,
  STRING,
  withDatabase,
} from "./command.ts";
import { compile } from "./shell-script.ts";
import { openShellSession, type ShellSession } from "./shell-session.ts";

const HELP = `
A JavaScript prompt with the product at hand, on the database of a running npm run dev, one of its own under DATA_DIR,
or that of DATABASE_URL. Nothing happens by itself: no message is sent and no log sealed but by what is typed.

  npm run shell -- --tenant acme
  npm run -s shell -- --tenant acme --eval 'tenant.query\`select id, email from users\`'
  npm run -s shell -- --tenant acme < script.js       exit code 1 when it throws

  app                  the service without a port: await app.inject({ url: "/healthz" })
  tenant               the tenant's tables, with its rights alone:
                         await tenant.query\`select id, email from users where is_active = \${true}\`
                         await tenant.transaction(async (tx) => { await tx\`update …\`; await tx\`insert …\` })
  await use("acme")    makes it the tenant
  registry             tenants and domains, as the API reads them: await registry.query\`select … from public.tenants\`
  sql                  a piece of SQL, to be put into another
  services             everything else that routes work with: keys, passwords, directory, config, …

Values belong into \${…}. A statement outside of a transaction has 2 s, one inside 10 s. Ctrl-D leaves.

  --tenant    subdomain of the tenant
  --eval, -e  runs this and prints its value, or that of its last statement
  --json      prints it as JSON
`;

await runCommand(async () => {
  const { values, positionals } = parse(process.argv.slice(2), {
    ...COMMON,
    tenant: STRING,
    eval: { type: "string", short: "e" },
  });
  if (values.help || positionals.length > 0) return showHelp(HELP, values.help);
  const config = readSettings();
  await withDatabase(config, async (database) => {
    const session = await openShellSession(config, database);
    try {
      const work = async () => {
        if (values.tenant !== undefined) await session.use(values.tenant);
        console.error(session.place);
        if (values.eval !== undefined) return run(values.eval, values.json);
        if (!process.stdin.isTTY) return run(await text(process.stdin), values.json);
        return talk(session, config.dataDir);
      };
      await Promise.race([work(), endedFromOutside()]);
    } finally {
      await session.close();
    }
  });
});
// Timers and sockets of what was typed keep nobody waiting.
process.exit();

/** Runs a script and prints what its last statement gives. */
async function run(script: string, isJson: boolean): Promise<void> {
  const value = await compile(script)();
  if (value === undefined) return;
  if (isJson) console.log(JSON.stringify(value));
  else console.log(typeof value === "string" ? value : inspect(value, { depth: 6 }));
}

/** Reads and answers until the person leaves. */
async function talk(session: ShellSession, dataDir: string): Promise<void> {
  const server = start({
    prompt: session.prompt,
    useGlobal: true,
    ignoreUndefined: true,
    writer: (value: unknown) => inspect(value, { depth: 6, colors: process.stdout.hasColors() }),
  });
  session.onUse(() => server.setPrompt(session.prompt));
  const left = new Promise<void>((resolve) => {
    server.once("exit", resolve);
  });
  // Where nothing can be written, as in a container, there is no history.
  await mkdir(dataDir, { recursive: true }).catch(() => undefined);
  server.setupHistory(path.join(dataDir, "shell-history"), () => undefined);
  await left;
}

/**
 * Rejects when this process is told to end, or when what was typed fails where nobody waits for it: either way
 * what was opened is closed first.
 */
function endedFromOutside(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.once(signal, () => reject(new Error(`Ended by ${signal}`)));
    }
    if (process.stdin.isTTY) return;
    process.once("unhandledRejection", reject);
    process.once("uncaughtException", reject);
  });
}
