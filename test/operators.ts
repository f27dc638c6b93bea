import { randomBytes } from "node:crypto";
import type { InjectOptions } from "fastify";
import type { z } from "zod";
import { withAdmin } from "../src/db/admin.ts";
import { createOperator } from "../src/platform/operators.ts";
import { OperatorEnrolmentAnswer, OperatorTokens, type Tokens } from "../src/platform/schemas.ts";
import { PASSWORD, type TestApp, type TestResponse } from "./app.ts";
import { nextStep, totpCode } from "./second-factor.ts";

export interface TestOperator {
  readonly email: string;
  readonly tokens: z.infer<typeof Tokens>;
}

/** Calls the platform's API, each time from an address of its own unless one is given. */
export function operatorCalls({ app }: Pick<TestApp, "app">) {
  const send = async (
    method: NonNullable<InjectOptions["method"]>,
    path: string,
    body: object | undefined,
    token: string | undefined,
    from?: string,
  ): Promise<TestResponse> => {
    const [a, b, c] = randomBytes(3);
    const response = await app.inject({
      method,
      url: `/api/platform/${path}`,
      remoteAddress: from ?? `10.${a}.${b}.${c}`,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body }),
    });
    return {
      status: response.statusCode,
      body: response.body === "" ? undefined : response.json<unknown>(),
      headers: response.headers,
    };
  };
  return {
    get: (path: string, token?: string) => send("GET", path, undefined, token),
    post: (path: string, body?: object, token?: string, from?: string) =>
      send("POST", path, body, token, from),
    patch: (path: string, body: object, token?: string) => send("PATCH", path, body, token),
    delete: (path: string, token?: string) => send("DELETE", path, undefined, token),
    logIn: (email: string, password = PASSWORD, from?: string) =>
      send("POST", "login/", { email, password }, undefined, from),
  };
}

/** Makes an operator, as the command does. */
export async function makeOperator(app: TestApp): Promise<string> {
  const email = `ops-${randomBytes(6).toString("hex")}@ouvira.test`;
  const hash = await app.services.passwords.hash(PASSWORD);
  await withAdmin(app.ownerUrl, (admin) => createOperator(admin.query, email, hash));
  return email;
}

/** An operator who has just logged in, without a second factor. */
export async function loggedInOperator(app: TestApp): Promise<TestOperator> {
  const email = await makeOperator(app);
  const { body } = await operatorCalls(app).logIn(email);
  return { email, tokens: OperatorTokens.parse(body).tokens };
}

/** Turns the second factor on; gives its secret. Needs a stopped clock, which it moves to the next code. */
export async function turnFactorOn(app: TestApp, { tokens }: TestOperator): Promise<string> {
  const calls = operatorCalls(app);
  const begun = await calls.post("2fa/enable/", { password: PASSWORD }, tokens.access);
  const { secret } = OperatorEnrolmentAnswer.parse(begun.body);
  const { status } = await calls.post("2fa/confirm/", { code: totpCode(secret) }, tokens.access);
  if (status !== 200) throw new Error(`The second factor was not confirmed: ${status}`);
  nextStep();
  return secret;
}
