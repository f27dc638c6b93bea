import { randomBytes } from "node:crypto";
import { Secret, TOTP } from "otpauth";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  type CallOptions,
  codeIn,
  newEmail,
  newPhone,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
  tokenIn,
  wrongCode,
} from "../test/app.ts";
import { Canaries, readCells } from "../test/canary.ts";
import { type FakeSmtp, startFakeSmtp } from "../test/fake-smtp.ts";
import { type FakeTwilio, startFakeTwilio, TAKEN } from "../test/fake-twilio.ts";
import { NO_LIMITS } from "../test/limits.ts";
import { productionConfig, THROUGH_PROXY } from "../test/production.ts";
import type { Config } from "./config.ts";

/** What the log says at the end of every request: that it is kept at all. */
const REQUEST_DONE = "request completed";

/** Where messages are waited for. */
const SOON = { timeout: 15_000, interval: 10 };

const canaries = new Canaries();
/** Addresses and numbers, which no line of the log shows whole. */
const people = new Canaries();
const secret = (name: string) => {
  const value = `${randomBytes(24).toString("base64url")}.canary`;
  canaries.learn(name, value);
  return value;
};

let twilio: FakeTwilio;
let smtp: FakeSmtp;
let api: TestApp;
let tenant: TestTenant;
/** Every body of an answer that is no success. */
const refusals: string[] = [];
/** Every body of an answer that is one, and every message: where secrets belong. */
const handedOut: string[] = [];
const smsRead = new Map<string, number>();
const mailsRead = new Map<string, number>();

beforeAll(async () => {
  twilio = await startFakeTwilio();
  const login = { user: "mailer", password: secret("SMTP password") };
  smtp = await startFakeSmtp({ login });
  api = await startTestApp({ config: productionOf(login.password) });
  tenant = await api.createTenant();
  people.learn("owner's address", tenant.owner.email);
  people.learn("owner's number", tenant.owner.phone);
});
afterAll(async () => {
  await api.close();
  await twilio.close();
  await smtp.close();
});

/** Production with every secret a distinctive one, and a log of everything. */
function productionOf(smtpPassword: string): Partial<Config> {
  const config = productionConfig(twilio.url);
  return {
    ...config,
    logLevel: "trace",
    rateLimits: NO_LIMITS,
    secretKey: secret("SECRET_KEY"),
    secretKeyPrevious: secret("SECRET_KEY_PREVIOUS"),
    encryptionKey: secret("ENCRYPTION_KEY"),
    encryptionKeyPrevious: secret("ENCRYPTION_KEY_PREVIOUS"),
    passwordPepper: secret("PASSWORD_PEPPER"),
    metricsToken: secret("METRICS_TOKEN"),
    ...(config.twilio ? { twilio: { ...config.twilio, authToken: secret("Twilio token") } } : {}),
    smtp: {
      host: "127.0.0.1",
      port: smtp.port,
      user: "mailer",
      password: smtpPassword,
      security: "none",
      from: "Corp <noreply@corp.test>",
    },
  };
}

/** Names under which answers hand out secrets; of a refresh token the last part is one. */
const SECRET_FIELDS = new Set([
  "access",
  "refresh",
  "verification_token",
  "session_id",
  "secret",
  "qr_code",
  "backup_codes",
]);

/** Learns every secret of an answer, wherever it is in it. */
function learnFrom(value: unknown, path = "", isSecret = false): void {
  if (typeof value === "string") {
    if (!isSecret) return;
    canaries.learn(`${path} ${canaries.size}`, value);
    const tail = value.split(".").at(-1) ?? "";
    if (tail !== value) canaries.learn(`signature of ${path} ${canaries.size}`, tail);
  } else if (Array.isArray(value)) {
    for (const item of value) learnFrom(item, path, isSecret);
  } else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      learnFrom(item, key, SECRET_FIELDS.has(key));
    }
  }
}

type Method = "get" | "post" | "patch" | "delete";

/** A call through the proxy, of which everything is kept. */
async function call(
  method: Method,
  path: string,
  body?: object,
  options: CallOptions & { app?: TestApp } = {},
): Promise<TestResponse> {
  const client = (options.app ?? api).client(tenant);
  const all = {
    ...THROUGH_PROXY,
    ...options,
    headers: { ...THROUGH_PROXY.headers, ...options.headers },
  };
  const response =
    method === "get" || method === "delete"
      ? await client[method](path, all)
      : await client[method](path, body ?? {}, all);
  const text = JSON.stringify(response.body) ?? "";
  if (response.status >= 400) refusals.push(text);
  else {
    learnFrom(response.body);
    handedOut.push(text);
  }
  return response;
}

const post = (path: string, body: object, options?: CallOptions & { app?: TestApp }) =>
  call("post", `/api/auth/${path}/`, body, options);

/** A call that must be answered so; its body's fields, whatever they are. */
async function expectStatus(
  status: number,
  response: Promise<TestResponse>,
): Promise<Record<string, unknown>> {
  const { status: answered, body } = await response;
  expect({ status: answered, body }).toMatchObject({ status });
  // Answers are objects of JSON, or none.
  return (body ?? {}) as Record<string, unknown>;
}

/** The next SMS to a number; its code or link is learnt. */
async function nextSms(phone: string): Promise<string> {
  const index = smsRead.get(phone) ?? 0;
  smsRead.set(phone, index + 1);
  const body = await vi.waitFor(() => {
    const received = twilio.requests.filter(({ form }) => form["To"] === phone);
    const text = received[index]?.form["Body"];
    if (text === undefined) throw new Error(`${phone} got ${received.length} SMS`);
    return text;
  }, SOON);
  learnMessage(body);
  return body;
}

async function nextMail(address: string): Promise<string> {
  const index = mailsRead.get(address) ?? 0;
  mailsRead.set(address, index + 1);
  const source = await vi.waitFor(() => {
    const received = smtp.mails.filter(({ to }) => to.includes(address));
    const mail = received[index];
    if (!mail) throw new Error(`${address} got ${received.length} mails`);
    return mail.source;
  }, SOON);
  // Quoted-printable (RFC 2045 §6.7) where a line is long.
  const text = source
    .replace(/=\r\n/g, "")
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  learnMessage(text);
  return text;
}

function learnMessage(text: string): void {
  handedOut.push(text);
  const code = /^(\d{6}) is your/.exec(text)?.[1];
  if (code !== undefined) canaries.learn(`code ${canaries.size}`, code);
  if (text.includes("#token=")) canaries.learn(`token of a link ${canaries.size}`, tokenIn(text));
}

interface Person {
  phone: string;
  email: string;
  password: string;
  access: string;
  refresh: string;
  id: number;
}

/** Walks a sign-up, with every mistake that can be made on the way. */
async function signUp(): Promise<Person> {
  const phone = newPhone();
  const email = newEmail();
  people.learn(`number ${phone}`, phone);
  people.learn(`address ${email}`, email);
  const password = secret("password");
  const number = { primary_mobile: phone };
  await expectStatus(201, post("signup", { full_name: "Ada Lovelace", ...number }));
  const first = codeIn(await nextSms(phone));
  await expectStatus(200, post("resent-otp", number));
  const otp = codeIn(await nextSms(phone));
  await expectStatus(400, post("verify-otp", { ...number, otp: wrongCode(otp) }));
  await expectStatus(400, post("verify-otp", { ...number, otp: first }));
  await expectStatus(400, post("verify-otp", { primary_mobile: otp, otp: phone }));
  const { verification_token: proof } = await expectStatus(
    200,
    post("verify-otp", { ...number, otp }),
  );
  const rest = { ...number, verification_token: String(proof) };
  const finalize = (body: object) => post("finalize-signin", { ...rest, email, ...body });
  await expectStatus(400, finalize({ email: password, password }));
  await expectStatus(400, finalize({ primary_mobile: password, password }));
  await expectStatus(400, finalize({ password, passwort: password }));
  await expectStatus(400, finalize({ password: [password] }));
  await expectStatus(400, finalize({ password: { password } }));
  await expectStatus(400, finalize({ password: password.repeat(4) }));
  await expectStatus(400, finalize({ verification_token: password, password }));
  await expectStatus(400, finalize({ verification_token: `${String(proof)}x`, password }));
  const answer = await expectStatus(201, finalize({ password }));
  const { tokens, user } = answer as {
    tokens: { access: string; refresh: string };
    user: { id: number };
  };
  await nextMail(email);
  return { phone, email, password, ...tokens, id: user.id };
}

const totpOf = (base32: unknown, stepsAhead = 0): string => {
  const code = new TOTP({ secret: Secret.fromBase32(String(base32)) }).generate({
    timestamp: Date.now() + stepsAhead * 30_000,
  });
  canaries.learn(`TOTP code ${canaries.size}`, code);
  return code;
};

/** Makes every statement that writes to a table fail while `work` runs. */
async function whileBroken(table: string, work: () => Promise<void>): Promise<void> {
  const { sql } = tenant;
  await sql`alter table ${sql(table)} add constraint broken check (false) not valid`;
  try {
    await work();
  } finally {
    await sql`alter table ${sql(table)} drop constraint broken`;
  }
}

describe("secrets", () => {
  test("a sign-up, its mistakes, logins and their mistakes run through", async () => {
    const ada = await signUp();
    const credentials = { identifier: ada.email, password: ada.password };
    await expectStatus(401, post("login", { ...credentials, password: secret("wrong password") }));
    await expectStatus(401, post("login", { identifier: ada.password, password: ada.email }));
    const withAt = `${randomBytes(9).toString("base64url")}@${randomBytes(12).toString("hex")}`;
    canaries.learn("password with an @", withAt);
    canaries.learn("the end of a password with an @", withAt.split("@")[1] ?? "");
    await expectStatus(401, post("login", { identifier: withAt, password: "a wrong one" }));
    await expectStatus(400, post("login", { identifier: { password: ada.password } }));
    const tokens = (await expectStatus(200, post("login", credentials)))["tokens"];
    const { refresh } = tokens as { refresh: string };
    const rotated = await expectStatus(200, post("token/refresh", { refresh }));
    await expectStatus(200, post("token/refresh", { refresh: String(rotated["refresh"]) }));
    await expectStatus(401, post("token/refresh", { refresh }));
    await expectStatus(401, post("token/refresh", { refresh: `${refresh}x` }));
    await expectStatus(400, post("token/refresh", { refresh: ada.access }));
    await expectStatus(400, post("token/refresh", { refresh: ada.password.repeat(9) }));
    const wrongTokens = [
      `${ada.access}x`,
      ada.refresh,
      ada.password,
      `${ada.access} ${ada.access}`,
    ];
    for (const token of wrongTokens) {
      await expectStatus(401, call("get", "/api/account/profile/", undefined, { token }));
    }
    await expectStatus(205, post("logout", { refresh: ada.refresh }, { token: ada.access }));
    await expectStatus(401, call("get", "/api/account/profile/", undefined, { token: ada.access }));
    expect(api.logLines.join("")).toContain(REQUEST_DONE);
  });

  test("second factors are turned on, used, mistaken and turned off", async () => {
    const ada = await signUp();
    const token = ada.access;
    const login = () => post("login", { identifier: ada.phone, password: ada.password });
    const wrong = { method: "totp", password: secret("wrong password") };
    await expectStatus(401, post("settings_enable-2fa", wrong, { token }));
    const enabling = { method: "totp", password: ada.password };
    const enrolment = await expectStatus(200, post("settings_enable-2fa", enabling, { token }));
    const code = totpOf(enrolment["secret"]);
    const confirm = (body: object) => post("settings_confirm-2fa", body, { token });
    await expectStatus(400, confirm({ code: wrongCode(code) }));
    await expectStatus(400, confirm({ code: enrolment["secret"] }));
    await expectStatus(200, confirm({ code }));
    const { session_id: session } = await expectStatus(200, login());
    const verify = (body: object) =>
      post("login-2fa-verify-code", { session_id: session, ...body });
    await expectStatus(400, verify({ code }));
    await expectStatus(400, verify({ code, session_id: ada.access }));
    await expectStatus(409, post("login-2fa-resend", { session_id: session }));
    await expectStatus(200, verify({ code: totpOf(enrolment["secret"], 1) }));
    const [backup] = enrolment["backup_codes"] as string[];
    const second = await expectStatus(200, login());
    const useBackup = (body: object) =>
      post("login-2fa-verify-backup", { session_id: second["session_id"], ...body });
    await expectStatus(400, useBackup({ backup_code: `${backup}A` }));
    await expectStatus(200, useBackup({ backup_code: backup }));
    await expectStatus(200, post("settings_backup-codes", { password: ada.password }, { token }));
    await expectStatus(
      400,
      post("settings_disable-2fa", { password: ada.password, code: backup }, { token }),
    );
    expect(api.logLines.join("")).toContain(REQUEST_DONE);
  });

  test("codes by SMS are sent, resent and used", async () => {
    const ada = await signUp();
    const token = ada.access;
    const enabling = { method: "sms", password: ada.password };
    await expectStatus(200, post("settings_enable-2fa", enabling, { token }));
    const code = codeIn(await nextSms(ada.phone));
    await expectStatus(200, post("settings_confirm-2fa", { code }, { token }));
    await nextSms(ada.phone);
    const { session_id: session } = await expectStatus(
      200,
      post("login", { identifier: ada.email, password: ada.password }),
    );
    await nextSms(ada.phone);
    await expectStatus(200, post("login-2fa-resend", { session_id: session }));
    const resent = codeIn(await nextSms(ada.phone));
    await expectStatus(200, post("login-2fa-verify-code", { session_id: session, code: resent }));
    expect(api.logLines.join("")).toContain(REQUEST_DONE);
  });

  test("passwords and addresses are changed, by links and by whoever is logged in", async () => {
    const ada = await signUp();
    const newer = secret("password");
    await expectStatus(202, post("password/forgot", { identifier: ada.phone }));
    const link = tokenIn(await nextSms(ada.phone));
    await expectStatus(400, post("password/reset", { token: `${link}x`, password: newer }));
    await expectStatus(400, post("password/reset", { token: newer, password: link }));
    await expectStatus(400, post("password/reset", { token: link, password: ada.password }));
    await expectStatus(200, post("password/reset", { token: link, password: newer }));
    const { tokens } = await expectStatus(
      200,
      post("login", { identifier: ada.phone, password: newer }),
    );
    const { access: token } = tokens as { access: string };
    const newest = secret("password");
    const change = (body: object) => post("password/change", body, { token });
    await expectStatus(401, change({ current_password: newest, new_password: newer }));
    await expectStatus(200, change({ current_password: newer, new_password: newest }));
    const email = newEmail();
    people.learn(`address ${email}`, email);
    const patch = (body: object) => call("patch", "/api/account/profile/", body, { token });
    await expectStatus(401, patch({ email, current_password: newer }));
    await expectStatus(400, patch({ email: newest, current_password: newest }));
    await expectStatus(200, patch({ email, current_password: newest }));
    const verification = tokenIn(await nextMail(email));
    const verify = (body: object) => call("post", "/api/account/email/verify/", body);
    await expectStatus(400, verify({ token: `${verification}x` }));
    await expectStatus(200, verify({ token: verification }));
    await expectStatus(400, verify({ token: verification }));
    await expectStatus(202, post("password/forgot", { identifier: email }));
    tokenIn(await nextMail(email));
    expect(api.logLines.join("")).toContain(REQUEST_DONE);
  });

  test("secrets are sent where they do not belong: in URLs, headers and bodies that cannot be read", async () => {
    const ada = await signUp();
    const query = new URLSearchParams({
      access: ada.access,
      token: ada.refresh,
      password: ada.password,
      email: ada.email,
    }).toString();
    for (const path of ["/api/account/profile/", "/api/auth/login/", "/reset-password", "/%zz"]) {
      await call("get", `${path}?${query}`, undefined, { token: ada.access });
      await call("post", `${path}?${query}`, { password: ada.password });
    }
    await api.app.inject({
      url: `/api/account/profile/?${query}`,
      remoteAddress: THROUGH_PROXY.remoteAddress ?? "",
      headers: { ...THROUGH_PROXY.headers, "x-forwarded-proto": "http" },
    });
    const headers = [
      { authorization: `Basic ${Buffer.from(`ada:${ada.password}`).toString("base64")}` },
      { cookie: `token=${ada.access}` },
      { "x-tenant": ada.password },
      { origin: `https://${ada.password}` },
      { host: `${ada.password}.corp.test` },
    ];
    for (const header of headers) {
      await call("get", "/api/account/profile/", undefined, { headers: header });
    }
    const bodies = [
      ["application/json", `{"identifier":"ada","password":"${ada.password}`],
      ["application/json", ada.password],
      [
        "application/json",
        JSON.stringify({ identifier: "ada", password: ada.password.repeat(3_000) }),
      ],
      ["text/plain", ada.password],
      ["application/x-www-form-urlencoded", `password=${ada.password}`],
      ["application/json", `{"__proto__":{"password":"${ada.password}"}}`],
    ] as const;
    for (const [type, payload] of bodies) {
      const response = await api.app.inject({
        method: "POST",
        url: "/api/auth/login/",
        remoteAddress: THROUGH_PROXY.remoteAddress ?? "",
        headers: {
          ...THROUGH_PROXY.headers,
          "x-tenant": tenant.subdomain,
          "content-type": type,
        },
        payload,
      });
      expect(response.statusCode).toBeGreaterThanOrEqual(400);
      refusals.push(response.body);
    }
  });

  test("providers refuse, quote what they were given, and are away", async () => {
    const ada = await signUp();
    const before = api.logLines.length;
    const quoted = { code: 21_211, message: `'${ada.phone}' is no number; ${ada.password}` };
    const answers = [
      { status: 400, body: quoted },
      { status: 500, body: ada.phone },
      "hang-up",
    ] as const;
    for (const answer of answers) {
      twilio.answer(answer);
      const asked = twilio.requests.length;
      await expectStatus(202, post("password/forgot", { identifier: ada.phone }));
      await vi.waitFor(() => expect(twilio.requests.length).toBeGreaterThan(asked), SOON);
    }
    twilio.answer(TAKEN);
    for (const stage of ["recipient", "data", "from"] as const) {
      smtp.answer(stage, 550);
      await expectStatus(
        200,
        call("post", "/api/account/email/resend/", {}, { token: ada.access }),
      );
      await vi.waitFor(() => {
        const refused = api.logLines.slice(before).filter((line) => line.includes("answered 550"));
        expect(refused.length).toBeGreaterThan(0);
      }, SOON);
      smtp.answer(stage, undefined);
    }
    const captcha = {
      secretKey: secret("Turnstile's secret"),
      verifyUrl: "http://127.0.0.1:1/siteverify",
    };
    const { config } = api;
    const password = secret("wrong SMTP password");
    const astray = await api.startReplica({
      config: {
        ...config,
        turnstile: captcha,
        ...(config.smtp ? { smtp: { ...config.smtp, password } } : {}),
      },
    });
    replicas.push(astray);
    const body = {
      identifier: ada.email,
      password: ada.password,
      cf_turnstile_response: secret("captcha's answer"),
    };
    await expectStatus(503, post("login", body, { app: astray }));
    const options = { token: ada.access, app: astray };
    await expectStatus(200, call("post", "/api/account/email/resend/", {}, options));
    await vi.waitFor(() => expect(astray.logLines.join("")).toContain("answered 535"), SOON);
  });

  test("the database fails in the middle of it", async () => {
    const ada = await signUp();
    const credentials = { identifier: ada.email, password: ada.password };
    const number = { full_name: "Ada Lovelace", primary_mobile: newPhone() };
    people.learn(`number ${number.primary_mobile}`, number.primary_mobile);
    for (const table of ["login_sessions", "security_logs", "failures"]) {
      await whileBroken(table, async () => {
        await expectStatus(500, post("login", credentials));
      });
    }
    for (const table of ["signups", "messages"]) {
      await whileBroken(table, async () => {
        await expectStatus(500, post("signup", number));
      });
    }
    await whileBroken("login_sessions", async () => {
      await expectStatus(500, post("token/refresh", { refresh: ada.refresh }));
    });
    const change = { current_password: ada.password, new_password: secret("password") };
    await whileBroken("users", async () => {
      await expectStatus(500, post("password/change", change, { token: ada.access }));
    });
    await whileBroken("password_resets", async () => {
      await expectStatus(500, post("password/forgot", { identifier: ada.phone }));
    });
    const totp = { method: "totp", password: ada.password };
    await whileBroken("second_factors", async () => {
      await expectStatus(500, post("settings_enable-2fa", totp, { token: ada.access }));
    });
    expect(api.logLines.join("")).toContain(REQUEST_DONE);
  });

  test("none of them is in a line of the log, in the body of a refusal or readable in a table", async () => {
    const hashes = await tenant.sql<{ hash: string }[]>`
      select password_hash as hash from users where password_hash is not null
      union all select password_hash from password_history`;
    const kept = new Canaries();
    for (const { hash } of hashes) kept.learn("password hash", hash);
    const lines = [api, ...replicas].flatMap(({ logLines }) => logLines);
    const cells = [
      ...(await readCells(tenant.sql, `t_${tenant.id}`)),
      ...(await readCells(api.registry, "public")),
    ];

    const found = {
      lines: lines.flatMap((line) =>
        [...canaries.findIn(line), ...kept.findIn(line), ...people.findIn(line)].map((name) => ({
          name,
          line,
        })),
      ),
      refusals: refusals.flatMap((body) =>
        [...canaries.findIn(body), ...kept.findIn(body)].map((name) => ({ name, body })),
      ),
      cells: cells.flatMap(({ where, text, isBytes }) =>
        (isBytes ? canaries.findInBytes(text) : canaries.findIn(text)).map((name) => ({
          name,
          where,
        })),
      ),
    };

    console.log(
      `Looked for ${canaries.size} secrets, ${kept.size} password hashes and ${people.size} addresses and numbers ` +
        `in ${lines.length} lines of the log, ${refusals.length} refusals and ${cells.length} values of tables.`,
    );
    expect(found).toEqual({ lines: [], refusals: [], cells: [] });
    expect(canaries.size).toBeGreaterThan(100);
    expect(lines.length).toBeGreaterThan(100);
    expect(refusals.length).toBeGreaterThan(50);
    expect(cells.length).toBeGreaterThan(100);
  });

  test("the search finds them where they belong, in answers and messages", () => {
    const found = new Set(handedOut.flatMap((text) => canaries.findIn(text)));

    for (const kind of [
      "access",
      "refresh",
      "session_id",
      "secret",
      "backup_codes",
      "code",
      "token of a link",
    ]) {
      expect([kind, ...[...found].filter((name) => name.startsWith(kind))]).not.toEqual([kind]);
    }
    const [password] = canaries.values.filter((value) => value.endsWith(".canary"));
    const hex = Buffer.from(`before${password}after`).toString("hex");
    expect(canaries.findInBytes(hex)).toHaveLength(1);
  });
});

/** Other processes of the tests above, whose logs are looked through as well. */
const replicas: TestApp[] = [];
