import { vi } from "vitest";
import { codeIn, newEmail, newPhone, PASSWORD, tokenIn } from "./app.ts";
import { secondFactorCalls } from "./second-factor.ts";
import { type Person, unique, type World } from "./world.ts";

/** What is sent: the path with its ids, and a body. */
export interface Call {
  readonly path: string;
  readonly body?: object;
  /** Instead of a body of JSON. */
  readonly image?: Buffer;
}

/** How to make a valid request of an operation: on rows of its own, for whoever sends it. */
export type Recipe = (world: World, person: Person) => Promise<Call> | Call;

/** The smallest PNG there is: one transparent point. */
export const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

const A = "/api/access-control";

/** By the first column of the table. */
export const RECIPES: Readonly<Record<string, Recipe>> = {
  ...authentication(),
  ...account(),
  ...company(),
  ...roles(),
  ...members(),
  ...invitations(),
  ...audit(),
  "GET /": () => ({ path: "/" }),
  "GET /healthz": () => ({ path: "/healthz" }),
  "GET /readyz": () => ({ path: "/readyz" }),
  "GET /metrics": () => ({ path: "/metrics" }),
  "GET /dev/outbox/": () => ({ path: "/dev/outbox/" }),
};

function authentication(): Record<string, Recipe> {
  const a = "/api/auth";
  const begin = async (world: World) => {
    const phone = newPhone();
    const signup = { full_name: "Ada", primary_mobile: phone };
    await world.app.client(world.tenant).post(`${a}/signup/`, signup);
    return { phone, otp: codeIn(await world.app.nextSms(phone)) };
  };
  const calls = (world: World) => secondFactorCalls(world.app, world.tenant);
  return {
    "POST /api/auth/signup/": () => ({
      path: `${a}/signup/`,
      body: { full_name: "Ada", primary_mobile: newPhone() },
    }),
    "POST /api/auth/verify-otp/": async (world) => {
      const { phone, otp } = await begin(world);
      return { path: `${a}/verify-otp/`, body: { primary_mobile: phone, otp } };
    },
    "POST /api/auth/resent-otp/": async (world) => {
      const { phone } = await begin(world);
      return { path: `${a}/resent-otp/`, body: { primary_mobile: phone } };
    },
    "POST /api/auth/finalize-signin/": async (world) => {
      const phone = newPhone();
      const proof = await world.app.verifyPhone(world.tenant, phone);
      const chosen = { email: newEmail(), password: PASSWORD };
      return {
        path: `${a}/finalize-signin/`,
        body: { primary_mobile: phone, verification_token: proof, ...chosen },
      };
    },
    "POST /api/auth/login/": async (world) => ({
      path: `${a}/login/`,
      body: {
        identifier: (await world.app.signUp(world.tenant)).user.username,
        password: PASSWORD,
      },
    }),
    "POST /api/auth/login-2fa-verify-code/": async (world) => {
      const user = await calls(world).smsUser();
      const session = await calls(world).challenge(user);
      const code = codeIn(await world.app.nextSms(user.user.primary_mobile));
      return { path: `${a}/login-2fa-verify-code/`, body: { session_id: session, code } };
    },
    "POST /api/auth/login-2fa-resend/": async (world) => {
      const user = await calls(world).smsUser();
      const session = await calls(world).challenge(user);
      return { path: `${a}/login-2fa-resend/`, body: { session_id: session } };
    },
    "POST /api/auth/login-2fa-verify-backup/": async (world) => {
      const user = await calls(world).smsUser();
      const session = await calls(world).challenge(user);
      const [code = ""] = user.backupCodes;
      return {
        path: `${a}/login-2fa-verify-backup/`,
        body: { session_id: session, backup_code: code },
      };
    },
    "POST /api/auth/token/refresh/": async (world) => ({
      path: `${a}/token/refresh/`,
      body: { refresh: (await world.app.signUp(world.tenant)).refresh },
    }),
    "POST /api/auth/logout/": async (world) => ({
      path: `${a}/logout/`,
      body: { refresh: (await world.app.signUp(world.tenant)).refresh },
    }),
    "POST /api/auth/settings_enable-2fa/": () => ({
      path: `${a}/settings_enable-2fa/`,
      body: { method: "totp", password: PASSWORD },
    }),
    "POST /api/auth/settings_confirm-2fa/": async (world, person) => ({
      path: `${a}/settings_confirm-2fa/`,
      body: { code: await enabling(world, person) },
    }),
    "POST /api/auth/settings_send-2fa-code/": async (world, person) => {
      await enabled(world, person);
      return { path: `${a}/settings_send-2fa-code/` };
    },
    "POST /api/auth/settings_disable-2fa/": async (world, person) => {
      await enabled(world, person);
      const code = await sentCode(world, person);
      return { path: `${a}/settings_disable-2fa/`, body: { password: PASSWORD, code } };
    },
    "POST /api/auth/settings_backup-codes/": async (world, person) => {
      await enabled(world, person);
      return { path: `${a}/settings_backup-codes/`, body: { password: PASSWORD } };
    },
    "POST /api/auth/password/forgot/": async (world) => ({
      path: `${a}/password/forgot/`,
      body: { identifier: (await world.app.signUp(world.tenant)).user.username },
    }),
    "POST /api/auth/password/reset/": async (world) => {
      const { user } = await world.app.signUp(world.tenant);
      const forgot = { identifier: user.username };
      await world.app.client(world.tenant).post(`${a}/password/forgot/`, forgot);
      const token = await vi.waitFor(async () =>
        tokenIn(await world.app.nextSms(user.primary_mobile)),
      );
      return {
        path: `${a}/password/reset/`,
        body: { token, password: "another good long password" },
      };
    },
    "POST /api/auth/password/change/": () => ({
      path: `${a}/password/change/`,
      body: { current_password: PASSWORD, new_password: "another good long password" },
    }),
  };
}

/** Begins to turn on codes by SMS; gives the code that was sent. Whoever has no login gets any code. */
async function enabling({ app, tenant }: World, { token, phone, id }: Person): Promise<string> {
  if (token === undefined) return "123456";
  const enable = { method: "sms", password: PASSWORD };
  const { status } = await app
    .client(tenant)
    .post("/api/auth/settings_enable-2fa/", enable, { token });
  // Of another tenant.
  if (status === 401) return "123456";
  if (status !== 200) throw new Error(`${id} cannot turn on a second factor: ${status}`);
  return codeIn(await app.nextSms(phone));
}

async function enabled(world: World, person: Person): Promise<void> {
  const code = await enabling(world, person);
  if (person.token === undefined) return;
  const { status } = await world.app
    .client(world.tenant)
    .post("/api/auth/settings_confirm-2fa/", { code }, { token: person.token });
  // What tells them that it is on is an e-mail: their address is verified.
  if (status !== 200 && status !== 401) throw new Error(`No second factor: ${status}`);
}

async function sentCode({ app, tenant }: World, { token, phone }: Person): Promise<string> {
  if (token === undefined) return "123456";
  const { status } = await app
    .client(tenant)
    .post("/api/auth/settings_send-2fa-code/", undefined, { token });
  return status === 200 ? codeIn(await app.nextSms(phone)) : "123456";
}

function account(): Record<string, Recipe> {
  const a = "/api/account";
  const userPath = async (world: World) => `${a}/users/${await world.user()}/`;
  return {
    "GET /api/account/profile/": () => ({ path: `${a}/profile/` }),
    "PUT /api/account/profile/": (_, { email }) => ({
      path: `${a}/profile/`,
      body: { full_name: "Ada King", email },
    }),
    "PATCH /api/account/profile/": () => ({
      path: `${a}/profile/`,
      body: { full_name: "Ada King" },
    }),
    "GET /api/account/session-tests/": () => ({ path: `${a}/session-tests/` }),
    "GET /api/account/sessions/": () => ({ path: `${a}/sessions/` }),
    "DELETE /api/account/sessions/{id}/": (_, { sessionId }) => ({
      path: `${a}/sessions/${sessionId || 1}/`,
    }),
    "POST /api/account/email/verify/": async (world) => {
      const { user } = await world.app.signUp(world.tenant);
      const token = tokenIn(await world.app.nextEmail(user.email ?? ""));
      return { path: `${a}/email/verify/`, body: { token } };
    },
    "POST /api/account/email/resend/": async ({ tenant }, { id }) => {
      await tenant.sql`update users set email_verified_at = null where id = ${id}`;
      return { path: `${a}/email/resend/` };
    },
    "GET /api/account/users/": () => ({ path: `${a}/users/` }),
    "GET /api/account/users/?company=C": ({ company: id }) => ({
      path: `${a}/users/?company=${id}`,
    }),
    "GET /api/account/users/{id}/": async (world) => ({ path: await userPath(world) }),
    "PATCH /api/account/users/{id}/": async (world) => ({
      path: await userPath(world),
      body: { is_active: false },
    }),
    "POST /api/account/users/{id}/reset-2fa/": async (world) => {
      const id = await world.user();
      await world.tenant.sql`update users set two_fa_type = 'sms' where id = ${id}`;
      return { path: `${a}/users/${id}/reset-2fa/` };
    },
  };
}

function company(): Record<string, Recipe> {
  const path = ({ company: id }: World, rest = "") => `/api/company/${id}/${rest}`;
  const all = () => ({
    name: unique(),
    description: "",
    address: "",
    parent_company: null,
    is_parent_company: false,
    status: "active",
  });
  const settings = {
    default_language: "en",
    default_currency: "EUR",
    timezone: "Africa/Cairo",
    fiscal_year_start_month: 4,
    feature_flags: {},
  };
  const withLogo = async (world: World): Promise<Call> => {
    await world.tenant.sql`
      insert into company_logos (company, content_type, bytes, digest)
      values (${world.company}, 'image/png', ${PNG}, 'abc')`;
    return { path: path(world, "logo/") };
  };
  return {
    "GET /api/company/": () => ({ path: "/api/company/" }),
    "POST /api/company/": () => ({ path: "/api/company/", body: { name: unique() } }),
    "POST /api/company/ (below C)": ({ company: id }) => ({
      path: "/api/company/",
      body: { name: unique(), parent_company: id },
    }),
    "GET /api/company/{id}/": (world) => ({ path: path(world) }),
    "PUT /api/company/{id}/": (world) => ({ path: path(world), body: all() }),
    "PATCH /api/company/{id}/": (world) => ({ path: path(world), body: { name: unique() } }),
    "PATCH /api/company/{id}/ (status: deleted)": async (world) => {
      await world.tenant.sql`
        update companies set status = 'deactivated' where id = ${world.company}`;
      return { path: path(world), body: { status: "deleted" } };
    },
    "DELETE /api/company/{id}/": (world) => ({ path: path(world) }),
    "GET /api/company/{id}/subsidiaries/": (world) => ({ path: path(world, "subsidiaries/") }),
    "GET /api/company/{id}/settings/": (world) => ({ path: path(world, "settings/") }),
    "PUT /api/company/{id}/settings/": (world) => ({
      path: path(world, "settings/"),
      body: settings,
    }),
    "PATCH /api/company/{id}/settings/": (world) => ({
      path: path(world, "settings/"),
      body: { default_currency: "EGP" },
    }),
    "GET /api/company/{id}/logo/": withLogo,
    "PUT /api/company/{id}/logo/": (world) => ({ path: path(world, "logo/"), image: PNG }),
    "DELETE /api/company/{id}/logo/": withLogo,
  };
}

function roles(): Record<string, Recipe> {
  const permissionPath = async (world: World) => `${A}/permissions/${await world.ownPermission()}/`;
  const rolePath = async (world: World) => `${A}/roles/${await world.role()}/`;
  const systemRolePath = async (world: World) => `${A}/roles/${await world.systemRole("Member")}/`;
  const rolePermissionPath = async ({ tenant }: World, role: number) => {
    const [row] = await tenant.sql<{ id: number }[]>`
      select id from role_permissions where role = ${role}`;
    if (!row) throw new Error(`Role ${role} grants nothing`);
    return `${A}/role-permissions/${row.id}/`;
  };
  return {
    [`GET ${A}/my-permissions/`]: ({ company: id }) => ({
      path: `${A}/my-permissions/?company=${id}`,
    }),
    [`GET ${A}/permissions/`]: () => ({ path: `${A}/permissions/` }),
    [`POST ${A}/permissions/`]: () => ({
      path: `${A}/permissions/`,
      body: { code: unique(), module: "reports" },
    }),
    [`GET ${A}/permissions/{id}/`]: async (world) => ({ path: await permissionPath(world) }),
    [`PUT ${A}/permissions/{id}/`]: async (world) => ({
      path: await permissionPath(world),
      body: { code: unique(), module: "reports", description: "" },
    }),
    [`PATCH ${A}/permissions/{id}/`]: async (world) => ({
      path: await permissionPath(world),
      body: { module: "other" },
    }),
    [`DELETE ${A}/permissions/{id}/`]: async (world) => ({ path: await permissionPath(world) }),
    [`GET ${A}/roles/`]: () => ({ path: `${A}/roles/` }),
    [`POST ${A}/roles/`]: ({ company: id }) => ({
      path: `${A}/roles/`,
      body: { role: unique(), company: id },
    }),
    [`GET ${A}/roles/{id}/`]: async (world) => ({ path: await rolePath(world) }),
    [`GET ${A}/roles/{id}/ (a system role)`]: async (world) => ({
      path: await systemRolePath(world),
    }),
    [`PUT ${A}/roles/{id}/`]: async (world) => ({
      path: await rolePath(world),
      body: { role: unique(), desc: "", company: world.company },
    }),
    [`PATCH ${A}/roles/{id}/`]: async (world) => ({
      path: await rolePath(world),
      body: { desc: "Other" },
    }),
    [`PATCH ${A}/roles/{id}/ (a system role)`]: async (world) => ({
      path: await systemRolePath(world),
      body: { desc: "Other" },
    }),
    [`DELETE ${A}/roles/{id}/`]: async (world) => ({ path: await rolePath(world) }),
    [`GET ${A}/role-permissions/`]: () => ({ path: `${A}/role-permissions/` }),
    [`POST ${A}/role-permissions/`]: async (world) => ({
      path: `${A}/role-permissions/`,
      body: { role: await world.role(), permission: await world.permission("roles.manage") },
    }),
    [`POST ${A}/role-permissions/ (not held)`]: async (world) => ({
      path: `${A}/role-permissions/`,
      body: { role: await world.role(), permission: await world.permission("audit.view") },
    }),
    [`GET ${A}/role-permissions/{id}/`]: async (world) => ({
      path: await rolePermissionPath(world, await world.role(["roles.manage"])),
    }),
    [`DELETE ${A}/role-permissions/{id}/`]: async (world) => ({
      path: await rolePermissionPath(world, await world.role(["roles.manage"])),
    }),
  };
}

function members(): Record<string, Recipe> {
  /** A colleague in C. */
  const colleague = async (world: World, ...systemRoles: string[]) => {
    const user = await world.user();
    return { user, membership: await world.member(user, world.company, systemRoles) };
  };
  const put = async (world: World, ...systemRoles: string[]): Promise<Call> => {
    const { user, membership } = await colleague(world, ...systemRoles);
    return {
      path: `${A}/user-companies/${membership}/`,
      body: { user, company: world.company, is_primary_company: false, is_active: false },
    };
  };
  const remove = async (world: World, ...systemRoles: string[]): Promise<Call> => ({
    path: `${A}/user-companies/${(await colleague(world, ...systemRoles)).membership}/`,
  });
  const give = async (world: World, role: number): Promise<Call> => ({
    path: `${A}/user-company-roles/`,
    body: { user_company: (await colleague(world)).membership, role },
  });
  const assignment = async (world: World): Promise<Call> => {
    const { membership } = await colleague(world);
    return {
      path: `${A}/user-company-roles/${await world.assign(membership, await world.role())}/`,
    };
  };
  return {
    [`GET ${A}/user-companies/`]: () => ({ path: `${A}/user-companies/` }),
    [`POST ${A}/user-companies/`]: async (world, { id }) => {
      // Somebody whom the caller sees already: in the other company they see the members.
      const user = await world.user();
      await world.member(user, world.otherCompany, []);
      const [seer] = await world.tenant.sql`select 1 from users where id = ${id}`;
      const [member] = await world.tenant.sql`
        select 1 from user_companies where "user" = ${id} and company = ${world.otherCompany}`;
      // "other company" is a member there already, and sees nobody.
      if (seer && !member) await world.member(id, world.otherCompany, ["Admin"]);
      return { path: `${A}/user-companies/`, body: { user, company: world.company } };
    },
    [`GET ${A}/user-companies/{id}/`]: (world) => remove(world),
    [`PUT ${A}/user-companies/{id}/`]: (world) => put(world),
    [`PUT ${A}/user-companies/{id}/ (an Admin's)`]: (world) => put(world, "Admin"),
    [`DELETE ${A}/user-companies/{id}/`]: (world) => remove(world),
    [`DELETE ${A}/user-companies/{id}/ (an Owner's)`]: (world) => remove(world, "Owner"),
    [`GET ${A}/user-company-roles/`]: () => ({ path: `${A}/user-company-roles/` }),
    [`POST ${A}/user-company-roles/`]: async (world) => give(world, await world.role()),
    [`POST ${A}/user-company-roles/ (Admin)`]: async (world) =>
      give(world, await world.systemRole("Admin")),
    [`POST ${A}/user-company-roles/ (Owner)`]: async (world) =>
      give(world, await world.systemRole("Owner")),
    [`GET ${A}/user-company-roles/{id}/`]: assignment,
    [`DELETE ${A}/user-company-roles/{id}/`]: assignment,
  };
}

function invitations(): Record<string, Recipe> {
  const path = async (world: World, rest = "") =>
    `${A}/invitations/${(await world.invitation()).id}/${rest}`;
  return {
    [`GET ${A}/invitations/`]: () => ({ path: `${A}/invitations/` }),
    [`GET ${A}/invitations/?company=C`]: ({ company: id }) => ({
      path: `${A}/invitations/?company=${id}`,
    }),
    [`POST ${A}/invitations/`]: async (world) => ({
      path: `${A}/invitations/`,
      body: { email: newEmail(), company: world.company, role: await world.role() },
    }),
    [`POST ${A}/invitations/ (as Admin)`]: async (world) => ({
      path: `${A}/invitations/`,
      body: { email: newEmail(), company: world.company, role: await world.systemRole("Admin") },
    }),
    [`GET ${A}/invitations/{id}/`]: async (world) => ({ path: await path(world) }),
    [`PUT ${A}/invitations/{id}/`]: async (world) => {
      const { id, email } = await world.invitation();
      return {
        path: `${A}/invitations/${id}/`,
        body: { email, company: world.company, role: await world.role() },
      };
    },
    [`DELETE ${A}/invitations/{id}/`]: async (world) => ({ path: await path(world) }),
    [`POST ${A}/invitations/{id}/revoke/`]: async (world) => ({
      path: await path(world, "revoke/"),
    }),
    [`POST ${A}/invitations/{id}/resend/`]: async (world) => ({
      path: await path(world, "resend/"),
    }),
    [`POST ${A}/invitations/accept/`]: async (world, { email }) => ({
      path: `${A}/invitations/accept/`,
      body: { token: (await world.invitation(email)).token },
    }),
    [`POST ${A}/invitations/accept/ (another's)`]: async (world) => ({
      path: `${A}/invitations/accept/`,
      body: { token: (await world.invitation()).token },
    }),
  };
}

function audit(): Record<string, Recipe> {
  const u = "/api/audit";
  return {
    [`GET ${u}/activity-logs/`]: () => ({ path: `${u}/activity-logs/` }),
    [`GET ${u}/activity-logs/?company=C`]: ({ company: id }) => ({
      path: `${u}/activity-logs/?company=${id}`,
    }),
    [`GET ${u}/activity-logs/my/`]: () => ({ path: `${u}/activity-logs/my/` }),
    [`GET ${u}/security-logs/`]: () => ({ path: `${u}/security-logs/` }),
    [`GET ${u}/security-logs/?user=another`]: async (world) => ({
      path: `${u}/security-logs/?user=${await world.user()}`,
    }),
    [`GET ${u}/notifications/`]: () => ({ path: `${u}/notifications/` }),
    [`POST ${u}/notifications/mark-read/`]: () => ({
      path: `${u}/notifications/mark-read/`,
      body: { all: true },
    }),
    [`GET ${u}/verify/`]: () => ({ path: `${u}/verify/` }),
  };
}
