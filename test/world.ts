import { randomBytes } from "node:crypto";
import { sha256 } from "../src/keys.ts";
import { newEmail, newPhone, PASSWORD, type TestApp, type TestTenant } from "./app.ts";

/** The columns of the table: kinds of callers. */
export const CALLERS = [
  "tenant admin",
  "owner",
  "admin",
  "member with",
  "member without",
  "other company",
  "other tenant",
  "nobody",
] as const;
export type Caller = (typeof CALLERS)[number];

export interface Person {
  readonly id: number;
  readonly email: string;
  readonly phone: string;
  readonly username: string;
  /** An access token; undefined for nobody. */
  readonly token: string | undefined;
  readonly sessionId: number;
}

/**
 * One company C with an owner of its own, made for one request, and rows of it that nobody else touches.
 * Written by SQL: how they come about by requests is what other tests are for.
 */
export class World {
  readonly app: TestApp;
  readonly tenant: TestTenant;
  readonly company: number;
  /** Another company of the same tenant. */
  readonly otherCompany: number;

  private constructor(app: TestApp, tenant: TestTenant, company: number, otherCompany: number) {
    this.app = app;
    this.tenant = tenant;
    this.company = company;
    this.otherCompany = otherCompany;
  }

  static async create(app: TestApp, tenant: TestTenant, passwordHash: string): Promise<World> {
    World.#passwordHash = passwordHash;
    const owner = await insertUser(tenant, {});
    const company = await insertCompany(tenant, owner.id);
    const otherCompany = await insertCompany(tenant, owner.id);
    const world = new World(app, tenant, company, otherCompany);
    await world.member(owner.id, company, ["Owner"]);
    await world.member(owner.id, otherCompany, ["Owner"]);
    return world;
  }

  static #passwordHash = "";

  /** Somebody of a column; `needs` is what the role of "member with" grants. */
  async person(caller: Caller, needs = "", foreign = this.tenant): Promise<Person> {
    if (caller === "nobody") {
      return {
        id: 0,
        email: newEmail(),
        phone: newPhone(),
        username: "",
        token: undefined,
        sessionId: 0,
      };
    }
    const tenant = caller === "other tenant" ? foreign : this.tenant;
    const user = await insertUser(tenant, {
      passwordHash: World.#passwordHash,
      isTenantAdmin: caller === "tenant admin",
    });
    if (caller === "owner") await this.member(user.id, this.company, ["Owner"]);
    if (caller === "admin") await this.member(user.id, this.company, ["Admin"]);
    if (caller === "member without") await this.member(user.id, this.company, ["Member"]);
    if (caller === "other company") await this.member(user.id, this.otherCompany, ["Member"]);
    if (caller === "member with") {
      const membership = await this.member(user.id, this.company, []);
      await this.assign(membership, await this.role([needs]));
    }
    // Each from an address of its own: there are more of them than one may log in from.
    const [a, b, c] = randomBytes(3);
    const { access: token } = await this.app.logIn(tenant, user.username, PASSWORD, {
      remoteAddress: `10.${a}.${b}.${c}`,
    });
    const sessionId = await one(tenant.sql<{ id: number }[]>`
      select id from login_sessions where user_id = ${user.id}`);
    return { ...user, token, sessionId };
  }

  /** Calls the API as somebody. */
  as({ token }: Pick<Person, "token">) {
    const client = this.app.client(this.tenant);
    const options = token === undefined ? {} : { token };
    return {
      get: (path: string) => client.get(path, options),
      post: (path: string, body?: object) => client.post(path, body, options),
      put: (path: string, body: object) => client.put(path, body, options),
      patch: (path: string, body: object) => client.patch(path, body, options),
      delete: (path: string) => client.delete(path, options),
    };
  }

  /** A member of C whose role grants these and denies those. */
  async memberHolding(granted: readonly string[], denied: readonly string[] = []): Promise<Person> {
    const person = await this.person("member with", "");
    const membership = await this.membershipOf(person.id);
    const role = await this.role(granted);
    await this.tenant.sql`
      insert into role_permissions (role, permission, granted)
      select ${role}, id, false from permissions where code = any(${[...denied]}::text[])`;
    await this.assign(membership, role);
    return person;
  }

  /** Somebody's membership of C. */
  async membershipOf(user: number): Promise<number> {
    return one(this.tenant.sql<{ id: number }[]>`
      select id from user_companies
       where "user" = ${user} and company = ${this.company} and deleted_at is null`);
  }

  /** A user of the tenant without a login. */
  async user(fields: { isTenantAdmin?: boolean } = {}): Promise<number> {
    return (await insertUser(this.tenant, fields)).id;
  }

  /** Makes a user a member; gives the membership. */
  async member(user: number, company: number, systemRoles: readonly string[]): Promise<number> {
    const membership = await one(this.tenant.sql<{ id: number }[]>`
      insert into user_companies ("user", company) values (${user}, ${company}) returning id`);
    for (const name of systemRoles) await this.assign(membership, await this.systemRole(name));
    return membership;
  }

  /** Gives a membership a role; gives the assignment. */
  async assign(membership: number, role: number): Promise<number> {
    return one(this.tenant.sql<{ id: number }[]>`
      insert into user_company_roles (user_company, role) values (${membership}, ${role}) returning id`);
  }

  async systemRole(name: string): Promise<number> {
    return one(this.tenant.sql<{ id: number }[]>`
      select id from roles where is_system_role and role = ${name}`);
  }

  /** A role of C that grants these, as far as they are permissions. */
  async role(codes: readonly string[] = []): Promise<number> {
    const role = await one(this.tenant.sql<{ id: number }[]>`
      insert into roles (role, company) values (${unique()}, ${this.company}) returning id`);
    await this.tenant.sql`
      insert into role_permissions (role, permission)
      select ${role}, id from permissions where code = any(${[...codes]}::text[])`;
    return role;
  }

  async permission(code: string): Promise<number> {
    return one(this.tenant.sql<{ id: number }[]>`
      select id from permissions where code = ${code} and deleted_at is null`);
  }

  /** A permission that the tenant has added. */
  async ownPermission(): Promise<number> {
    return one(this.tenant.sql<{ id: number }[]>`
      insert into permissions (code, module) values (${unique()}, 'reports') returning id`);
  }

  /** A pending invitation to C; gives its id and token. */
  async invitation(
    email: string = newEmail(),
  ): Promise<{ id: number; token: string; email: string; role: number }> {
    const token = unique();
    const role = await this.role();
    const inviter = await this.user();
    const id = await one(this.tenant.sql<{ id: number }[]>`
      insert into invitations (email, company, role, token_hash, invited_by, expires_at)
      values (${email}, ${this.company}, ${role}, ${sha256(token)}, ${inviter}, now() + interval '1 day')
      returning id`);
    return { id, token, email, role };
  }
}

/** A text that nothing else has. */
export function unique(): string {
  return `x${randomBytes(16).toString("hex")}`;
}

async function one(rows: Promise<readonly { id: number }[]>): Promise<number> {
  const [row] = await rows;
  if (!row) throw new Error("There is no row");
  return row.id;
}

async function insertUser(
  { sql }: TestTenant,
  { passwordHash, isTenantAdmin = false }: { passwordHash?: string; isTenantAdmin?: boolean },
): Promise<{ id: number; email: string; phone: string; username: string }> {
  const user = { email: newEmail(), phone: newPhone(), username: unique() };
  const id = await one(sql<{ id: number }[]>`
    insert into users (
      username, full_name, email, primary_mobile, password_hash, email_verified_at, phone_verified_at,
      is_tenant_admin
    )
    values (
      ${user.username}, 'Ada Lovelace', ${user.email}, ${user.phone}, ${passwordHash ?? null},
      now(), now(), ${isTenantAdmin}
    )
    returning id`);
  return { id, ...user };
}

async function insertCompany({ sql }: TestTenant, creator: number): Promise<number> {
  const id = await one(sql<{ id: number }[]>`
    insert into companies (name, create_by) values (${unique()}, ${creator}) returning id`);
  await sql`insert into company_settings (company) values (${id})`;
  return id;
}
