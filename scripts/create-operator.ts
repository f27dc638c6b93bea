/** `npm run create-operator`: who may use the platform's API and console. */
import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { findGuessable } from "../src/auth/password-rules.ts";
import { PasswordHasher } from "../src/auth/passwords.ts";
import { Email, Password } from "../src/auth/schemas.ts";
import { type AdminConnection, withAdmin } from "../src/db/admin.ts";
import { type OperatorAction, recordOperatorAction } from "../src/platform/operator-log.ts";
import {
  createOperator,
  disableOperator,
  type Operator,
  resetOperator,
} from "../src/platform/operators.ts";
import {
  COMMON,
  parse,
  readSettings,
  runCommand,
  showHelp,
  STRING,
  UsageError,
  withDatabase,
} from "./command.ts";

const HELP = `
Makes an operator of the platform: somebody who logs in at /api/platform/ and at the console. Not a user of any
tenant. In production the first login turns the second factor on.

  npm run create-operator -- --email ops@example.com                          prints a password, once
  npm run create-operator -- --email ops@example.com --password-stdin < file
  npm run create-operator -- --email ops@example.com --reset                  new password, no second factor, no login
  npm run create-operator -- --email ops@example.com --disable                locked out at once

  --json   one JSON document on stdout
`;

/** Bytes of a password that is made: 24 characters. */
const PASSWORD_BYTES = 18;

await runCommand(async () => {
  const { values, positionals } = parse(process.argv.slice(2), {
    ...COMMON,
    email: STRING,
    "password-stdin": { type: "boolean", default: false },
    reset: { type: "boolean", default: false },
    disable: { type: "boolean", default: false },
  });
  const email = Email.safeParse(values.email);
  if (values.help || values.email === undefined || positionals.length > 0) {
    return showHelp(HELP, values.help);
  }
  if (!email.success) throw new UsageError("--email: Enter an e-mail address.");
  if (values.disable && (values.reset || values["password-stdin"])) {
    throw new UsageError("--disable takes nothing else.");
  }
  const config = readSettings();
  const given = values["password-stdin"] ? await readPassword(email.data) : undefined;
  const password = given ?? randomBytes(PASSWORD_BYTES).toString("base64url");
  const hasher = new PasswordHasher({ pepper: config.passwordPepper, cost: config.bcryptCost });
  const hash = values.disable ? "" : await hasher.hash(password);
  return withDatabase(config, async ({ migrationUrl }) => {
    const operator = await withAdmin(migrationUrl, (admin) =>
      admin.transaction(() => change(admin, email.data, hash, values)),
    );
    const isMade = given === undefined && !values.disable;
    if (values.json) {
      console.log(JSON.stringify({ ...operator, ...(isMade ? { password } : {}) }));
      return;
    }
    console.log(`${operator.email} ${values.disable ? "is locked out." : "can log in."}`);
    if (isMade) console.log(`Password, shown this once:\n  ${password}`);
  });
});

async function change(
  admin: AdminConnection,
  email: string,
  hash: string,
  { reset, disable }: { reset: boolean; disable: boolean },
): Promise<Operator> {
  const record = (action: OperatorAction, { id }: Operator) =>
    recordOperatorAction(admin.query, { action, operator: { id, email } });
  if (disable) {
    const operator = await disableOperator(admin.query, email);
    await record("OPERATOR_DISABLED", operator);
    return operator;
  }
  const operator = reset
    ? await resetOperator(admin.query, email, hash)
    : await createOperator(admin.query, email, hash);
  await record(reset ? "OPERATOR_RESET" : "OPERATOR_CREATED", operator);
  return operator;
}

/** @throws UsageError for one that is too short or easy to guess */
async function readPassword(email: string): Promise<string> {
  const password = (await text(process.stdin)).replace(/\r?\n$/, "");
  const parsed = Password.safeParse(password);
  const complaint =
    parsed.error?.issues[0]?.message ??
    (await findGuessable(password, { full_name: "", email, primary_mobile: "" }));
  if (complaint) throw new UsageError(`The password: ${complaint}`);
  return password;
}
