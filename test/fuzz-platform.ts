import { OperatorEnrolmentAnswer } from "../src/platform/schemas.ts";
import { newPhone, newSubdomain, PASSWORD, type TestApp, type TestTenant } from "./app.ts";
import { loggedInOperator, makeOperator, operatorCalls, type TestOperator } from "./operators.ts";
import type { Call } from "./permission-requests.ts";
import { totpCode } from "./second-factor.ts";

/** What requests of operators are made on: a tenant that nothing else needs. */
export interface PlatformGround {
  readonly app: TestApp;
  readonly tenant: TestTenant;
  /** What the name servers say: TXT records by name. */
  readonly records: Map<string, string>;
}

/** A valid request of an operator. */
export interface OperatorCall extends Call {
  readonly token?: string;
}

const P = "/api/platform";

/** How to make a valid request of each operation of operators, sent by a new one unless it says so. */
export const PLATFORM_RECIPES: Readonly<
  Record<
    string,
    (ground: PlatformGround, operator: TestOperator) => Promise<OperatorCall> | OperatorCall
  >
> = {
  [`POST ${P}/login/`]: async ({ app }) => ({
    path: `${P}/login/`,
    body: { email: await makeOperator(app), password: PASSWORD },
  }),
  [`POST ${P}/login-2fa-verify-code/`]: async ({ app }, operator) => {
    const calls = operatorCalls(app);
    const secret = await beginSecondFactor(app, operator);
    await calls.post("2fa/confirm/", { code: totpCode(secret) }, operator.tokens.access);
    const { body } = await calls.logIn(operator.email);
    // The answer while a second factor is on. Its code is the next one: each is accepted once.
    const { session_id } = body as { session_id: string };
    return {
      path: `${P}/login-2fa-verify-code/`,
      body: { session_id, code: totpCode(secret, 1) },
    };
  },
  [`POST ${P}/token/refresh/`]: (_, { tokens }) => ({
    path: `${P}/token/refresh/`,
    body: { refresh: tokens.refresh },
  }),
  [`POST ${P}/logout/`]: () => ({ path: `${P}/logout/` }),
  [`POST ${P}/2fa/enable/`]: () => ({ path: `${P}/2fa/enable/`, body: { password: PASSWORD } }),
  [`POST ${P}/2fa/confirm/`]: async ({ app }, operator) => ({
    path: `${P}/2fa/confirm/`,
    body: { code: totpCode(await beginSecondFactor(app, operator)) },
  }),
  [`GET ${P}/tenants/`]: () => ({ path: `${P}/tenants/` }),
  [`POST ${P}/tenants/`]: () => {
    const subdomain = newSubdomain();
    return {
      path: `${P}/tenants/`,
      body: {
        name: subdomain,
        subdomain,
        owner: { full_name: "Olive Owner", email: `o@${subdomain}.test`, phone: newPhone() },
      },
    };
  },
  [`GET ${P}/tenants/{id}/`]: (ground) => ({ path: tenantPath(ground) }),
  [`GET ${P}/tenants/{id}/usage/`]: (ground) => ({ path: tenantPath(ground, "usage/") }),
  [`PATCH ${P}/tenants/{id}/`]: (ground) => ({
    path: tenantPath(ground),
    body: { name: "Other", rate_limits: { login: "7/min" } },
  }),
  [`DELETE ${P}/tenants/{id}/`]: (ground) => ({ path: tenantPath(ground) }),
  [`POST ${P}/tenants/{id}/suspend/`]: (ground) => ({ path: tenantPath(ground, "suspend/") }),
  [`POST ${P}/tenants/{id}/activate/`]: (ground) => ({ path: tenantPath(ground, "activate/") }),
  [`POST ${P}/tenants/{id}/read-only/`]: (ground) => ({ path: tenantPath(ground, "read-only/") }),
  [`GET ${P}/tenants/{id}/domains/`]: (ground) => ({ path: tenantPath(ground, "domains/") }),
  [`POST ${P}/tenants/{id}/domains/`]: (ground) => ({
    path: tenantPath(ground, "domains/"),
    body: { domain: newDomain() },
  }),
  [`DELETE ${P}/tenants/{id}/domains/{domain_id}/`]: async (ground, operator) => ({
    path: tenantPath(ground, `domains/${await addDomain(ground, operator)}/`),
  }),
  [`POST ${P}/tenants/{id}/domains/{domain_id}/verify/`]: async (ground, operator) => ({
    path: tenantPath(ground, `domains/${await addDomain(ground, operator)}/verify/`),
  }),
  [`POST ${P}/tenants/{id}/support-token/`]: (ground) => ({
    path: tenantPath(ground, "support-token/"),
    body: { reason: "Ticket 4711", write: false },
  }),
  [`DELETE ${P}/tenants/{id}/support-token/`]: (ground) => ({
    path: tenantPath(ground, "support-token/"),
  }),
  [`GET ${P}/migrations/`]: () => ({ path: `${P}/migrations/` }),
};

/** An operator and their valid request of an operation. */
export async function operatorBase(
  ground: PlatformGround,
  name: string,
): Promise<{ call: OperatorCall; token: string }> {
  const { app, tenant } = ground;
  // As it was before whatever earlier requests made of it.
  await app.registry`
    update public.tenants set status = 'active', delete_after = null where id = ${tenant.id}`;
  const operator = await loggedInOperator(app);
  const recipe = PLATFORM_RECIPES[name];
  if (!recipe) throw new Error(`test/fuzz-platform.ts does not say how to call ${name}`);
  return { call: await recipe(ground, operator), token: operator.tokens.access };
}

/** A token with which an operator reads in a tenant. */
export async function supportToken(app: TestApp, { id }: TestTenant): Promise<string> {
  const { tokens } = await loggedInOperator(app);
  const path = `tenants/${id}/support-token/`;
  const { body } = await operatorCalls(app).post(path, { reason: "A look" }, tokens.access);
  return (body as { access: string }).access;
}

function tenantPath({ tenant }: PlatformGround, rest = ""): string {
  return `${P}/tenants/${tenant.id}/${rest}`;
}

async function beginSecondFactor(app: TestApp, { tokens }: TestOperator): Promise<string> {
  const calls = operatorCalls(app);
  const { body } = await calls.post("2fa/enable/", { password: PASSWORD }, tokens.access);
  return OperatorEnrolmentAnswer.parse(body).secret;
}

function newDomain(): string {
  return `app.${newSubdomain()}.example`;
}

async function addDomain(
  { app, tenant, records }: PlatformGround,
  { tokens }: TestOperator,
): Promise<number> {
  const path = `tenants/${tenant.id}/domains/`;
  const { body } = await operatorCalls(app).post(path, { domain: newDomain() }, tokens.access);
  const { id, record } = body as { id: number; record: { name: string; value: string } };
  records.set(record.name, record.value);
  return id;
}
