import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findingsOf, PRODUCTION_SETTINGS } from "../test/production-settings.ts";
import { readConfig } from "./config.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "ouvira-providers-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

type Variables = Record<string, string | undefined>;

const local = (variables: Variables) =>
  readConfig({ APP_ENV: "local", DATA_DIR: dataDir, ...variables });
const production = (variables: Variables) =>
  readConfig({ ...PRODUCTION_SETTINGS, DATA_DIR: dataDir, ...variables });

/** The names of the variables that a local configuration is told about. */
const namesFound = (variables: Variables) =>
  findingsOf(() => local(variables)).map((finding) => /^[A-Z_]+/.exec(finding)?.[0]);

const TWILIO = {
  TWILIO_ACCOUNT_SID: `AC${"0a".repeat(16)}`,
  TWILIO_AUTH_TOKEN: "3f2b8c61d9e04a7795b1c8d2e6f70a14",
  TWILIO_PHONE_NUMBER: "+15005550006",
};
const MESSAGING_SERVICE = `MG${"0b".repeat(16)}`;
const SMTP = { EMAIL_HOST: "smtp.corp.test", DEFAULT_FROM_EMAIL: "noreply@corp.test" };

describe("Twilio", () => {
  test("is an account, its token, a sender and an address", () => {
    expect(local(TWILIO).twilio).toEqual({
      accountSid: TWILIO.TWILIO_ACCOUNT_SID,
      authToken: TWILIO.TWILIO_AUTH_TOKEN,
      from: "+15005550006",
      messagingServiceSid: undefined,
      apiUrl: "https://api.twilio.com",
    });
  });

  test("may send by a messaging service instead, and be elsewhere", () => {
    const variables = {
      ...TWILIO,
      TWILIO_PHONE_NUMBER: undefined,
      TWILIO_MESSAGING_SERVICE_SID: MESSAGING_SERVICE,
      TWILIO_API_URL: "http://127.0.0.1:8080/twilio/",
    };

    expect(local(variables).twilio).toMatchObject({
      from: undefined,
      messagingServiceSid: MESSAGING_SERVICE,
      apiUrl: "http://127.0.0.1:8080/twilio",
    });
  });

  test.each(["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"])(
    "without %s is refused in any environment, and says how to do without all of it",
    (name) => {
      const [finding, ...others] = findingsOf(() => local({ ...TWILIO, [name]: undefined }));

      expect(finding).toMatch(new RegExp(`^${name} is required.*TWILIO_\\* are left out\\.$`));
      expect(others).toEqual([]);
      expect(findingsOf(() => production({ [name]: undefined }))).toEqual([
        expect.stringMatching(new RegExp(`^${name} is required[^*]*$`)),
      ]);
    },
  );

  test.each([
    ["TWILIO_ACCOUNT_SID", ["TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"]],
    ["TWILIO_AUTH_TOKEN", ["TWILIO_ACCOUNT_SID", "TWILIO_PHONE_NUMBER"]],
    ["TWILIO_PHONE_NUMBER", ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]],
  ] as const)("%s alone misses the rest", (name, missing) => {
    expect(namesFound({ [name]: TWILIO[name] })).toEqual(missing);
  });

  test("a messaging service alone misses the account", () => {
    expect(namesFound({ TWILIO_MESSAGING_SERVICE_SID: MESSAGING_SERVICE })).toEqual([
      "TWILIO_ACCOUNT_SID",
      "TWILIO_AUTH_TOKEN",
    ]);
  });

  test("an address alone asks for nothing", () => {
    expect(local({ TWILIO_API_URL: "https://api.twilio.com" }).twilio).toBeUndefined();
  });

  test.each([
    ["TWILIO_ACCOUNT_SID", `AC${"0".repeat(32)}`, `AC${"0".repeat(31)}`],
    ["TWILIO_ACCOUNT_SID", `AC${"a".repeat(32)}`, `SK${"a".repeat(32)}`],
    ["TWILIO_MESSAGING_SERVICE_SID", MESSAGING_SERVICE, `${MESSAGING_SERVICE}0`],
    ["TWILIO_MESSAGING_SERVICE_SID", `MG${"a".repeat(32)}`, `MG${"g".repeat(32)}`],
    ["TWILIO_AUTH_TOKEN", "3f2b8c61", "3f2b 8c61"],
    ["TWILIO_PHONE_NUMBER", "+201001234567", "+0201001234567"],
    ["TWILIO_PHONE_NUMBER", "+15005550006", "+15005550006\n"],
    ["TWILIO_PHONE_NUMBER", "+15005550006", "+1 500 555 0006"],
    ["TWILIO_PHONE_NUMBER", "12345", "12"],
    ["TWILIO_PHONE_NUMBER", "Corp", "Corp\r\nX"],
    ["TWILIO_PHONE_NUMBER", "Corp & Sons", "Corp & Sons!"],
    ["TWILIO_PHONE_NUMBER", "elevenchars", "twelve_chars"],
  ])("%s may be %j and not %j", (name, good, bad) => {
    expect(namesFound({ ...TWILIO, [name]: good })).toEqual([]);
    expect(namesFound({ ...TWILIO, [name]: bad })).toEqual([name]);
  });
});

describe("e-mail", () => {
  test("is a server and a sender, over STARTTLS, without a login", () => {
    expect(local(SMTP).smtp).toEqual({
      host: "smtp.corp.test",
      port: 587,
      user: undefined,
      password: undefined,
      security: "starttls",
      from: "noreply@corp.test",
    });
  });

  test("may have another port and a login", () => {
    const login = { EMAIL_PORT: "2525", EMAIL_HOST_USER: "corp", EMAIL_HOST_PASSWORD: "p w" };

    expect(local({ ...SMTP, ...login }).smtp).toMatchObject({
      port: 2525,
      user: "corp",
      password: "p w",
    });
  });

  test.each(["EMAIL_HOST", "DEFAULT_FROM_EMAIL"])(
    "without %s is refused in any environment, and says how to do without all of it",
    (name) => {
      const [finding, ...others] = findingsOf(() => local({ ...SMTP, [name]: undefined }));

      expect(finding).toMatch(new RegExp(`^${name} is required.*EMAIL_HOST\\* .* left out\\.$`));
      expect(others).toEqual([]);
      expect(findingsOf(() => production({ [name]: undefined }))).toEqual([
        expect.stringMatching(new RegExp(`^${name} is required[^*]*$`)),
      ]);
    },
  );

  test("a login alone misses the server and the sender", () => {
    const login = { EMAIL_HOST_USER: "corp", EMAIL_HOST_PASSWORD: "pw" };

    expect(namesFound(login)).toEqual(["EMAIL_HOST", "DEFAULT_FROM_EMAIL"]);
    expect(namesFound({ ...SMTP, ...login })).toEqual([]);
  });

  test.each(["EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD"])("half a login, %s, is refused", (name) => {
    expect(findingsOf(() => local({ ...SMTP, [name]: "corp" }))).toEqual([
      "EMAIL_HOST_USER and EMAIL_HOST_PASSWORD belong together: set both or none.",
    ]);
  });

  test.each([
    [undefined, undefined, "starttls", 587],
    ["true", undefined, "starttls", 587],
    ["true", "false", "starttls", 587],
    ["false", undefined, "none", 587],
    ["false", "false", "none", 587],
    [undefined, "false", "starttls", 587],
    [undefined, "true", "tls", 465],
    ["false", "true", "tls", 465],
  ])("EMAIL_USE_TLS=%s and EMAIL_USE_SSL=%s mean %s, at port %i", (tls, ssl, security, port) => {
    const variables = { ...SMTP, EMAIL_USE_TLS: tls, EMAIL_USE_SSL: ssl };

    expect(local(variables).smtp).toMatchObject({ security, port });
    expect(local({ ...variables, EMAIL_PORT: "2525" }).smtp?.port).toBe(2525);
  });

  test("EMAIL_USE_TLS and EMAIL_USE_SSL both true are refused", () => {
    for (const read of [local, production]) {
      expect(
        findingsOf(() => read({ ...SMTP, EMAIL_USE_TLS: "true", EMAIL_USE_SSL: "true" })),
      ).toEqual(["EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: set one of them to true."]);
    }
  });

  test("a port and flags alone ask for nothing", () => {
    expect(local({ EMAIL_PORT: "587", EMAIL_USE_TLS: "true" }).smtp).toBeUndefined();
  });

  test.each([
    ["EMAIL_HOST", "192.0.2.1", "192.0.2.1:587"],
    ["EMAIL_HOST", "smtp.corp.test", "smtp://smtp.corp.test"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp <a@corp.test"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp a@corp.test"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp\r\nBcc: b@evil.test <a@corp.test>"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp\n<a@corp.test>"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "Corp <a@corp.test>\n"],
    ["DEFAULT_FROM_EMAIL", "Corp <a@corp.test>", "b@evil.test, Corp <a@corp.test>"],
    ["DEFAULT_FROM_EMAIL", '"Sons, Corp" <a@corp.test>', "Sons, Corp <a@corp.test>"],
    ["DEFAULT_FROM_EMAIL", '"Corp" <a@corp.test>', '"Corp" <a@corp.test>"'],
    ["DEFAULT_FROM_EMAIL", "Zoë Corp <a@corp.test>", "Zoë Corp <a@corp.test> b"],
    ["DEFAULT_FROM_EMAIL", "a@corp.test", "a@corp.test,b@corp.test"],
    ["DEFAULT_FROM_EMAIL", "a@corp.test", "a@"],
    ["DEFAULT_FROM_EMAIL", "a@corp.test", "a@corp.test\r"],
  ])("%s may be %j and not %j", (name, good, bad) => {
    expect(namesFound({ ...SMTP, [name]: good })).toEqual([]);
    expect(namesFound({ ...SMTP, [name]: bad })).toEqual([name]);
  });
});
