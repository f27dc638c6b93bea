import { linkWithToken } from "../auth/links.ts";
import { refuseGuessable } from "../auth/password-rules.ts";
import type { PasswordHasher } from "../auth/passwords.ts";
import type { AdminConnection } from "../db/admin.ts";
import { AppError } from "../errors.ts";
import {
  getDomain,
  verifyDomain,
  type TenantDomain,
  type TxtResolver,
} from "../tenants/domains.ts";
import { scheduleErasure } from "../tenants/erasure.ts";
import {
  renameTenant,
  setTenantMessages,
  setTenantName,
  setTenantStatus,
} from "../tenants/life-cycle.ts";
import { setTenantPlan } from "../tenants/plans.ts";
import { createTenant } from "../tenants/provisioning.ts";
import { parseSubdomain } from "../tenants/subdomains.ts";
import { findTenantById, type TenantRecord, type TenantStatus } from "../tenants/tenants.ts";
import type { CallingOperator } from "./authentication.ts";
import type { Platform } from "./context.ts";
import { type OperatorAction, recordOperatorAction } from "./operator-log.ts";

/** A tenant that an operator asks for. */
export interface TenantRequest {
  readonly name: string;
  readonly subdomain: string;
  readonly owner: {
    readonly full_name: string;
    readonly email: string;
    readonly phone: string;
    readonly password?: string | undefined;
  };
}

/** @throws AppError `not_found` */
export async function getTenantById(admin: AdminConnection, id: number): Promise<TenantRecord> {
  const tenant = await findTenantById(admin.query, id);
  if (!tenant) throw new AppError("not_found", "There is no such tenant.");
  return tenant;
}

/**
 * Makes a tenant with its owner: all of it, or nothing.
 *
 * @returns the tenant, and a link for the owner to set a password with when none was given
 * @throws AppError `validation_error`, `conflict`, `overloaded`
 */
export async function createPlatformTenant(
  { pool, apiRole, migrations }: Platform,
  passwords: PasswordHasher,
  frontendUrl: string,
  operator: CallingOperator,
  { name, subdomain: written, owner }: TenantRequest,
): Promise<TenantRecord & { password_link: string | null }> {
  const subdomain = parseSubdomain(written);
  const { password } = owner;
  const person = { full_name: owner.full_name, email: owner.email, primary_mobile: owner.phone };
  if (password !== undefined) await refuseGuessable("owner.password", password, person);
  const passwordHash = password === undefined ? undefined : await passwords.hash(password);
  const files = await migrations();
  return pool.use(async (admin) => {
    const created = await createTenant(
      admin,
      files,
      apiRole,
      {
        name,
        subdomain,
        owner: {
          fullName: owner.full_name,
          email: owner.email,
          phone: owner.phone,
          ...(passwordHash === undefined ? {} : { passwordHash }),
        },
      },
      (tenantId) =>
        recordOperatorAction(admin.query, {
          action: "TENANT_CREATED",
          operator,
          client: operator.client,
          tenantId,
          metadata: { subdomain },
        }),
    );
    const { passwordToken } = created;
    const link =
      passwordToken === undefined
        ? null
        : linkWithToken({ frontendUrl, subdomain }, "reset-password", passwordToken);
    return { ...(await getTenantById(admin, created.id)), password_link: link };
  });
}

/** Runs a change of one tenant and its entry in the operators' log in one transaction. */
async function change(
  { pool }: Platform,
  operator: CallingOperator,
  id: number,
  action: OperatorAction,
  metadata: Readonly<Record<string, string | number | boolean | null>>,
  work: (admin: AdminConnection, tenant: TenantRecord) => Promise<unknown>,
): Promise<TenantRecord> {
  return pool.transaction(async (admin) => {
    await admin.query`select 1 from public.tenants where id = ${id} for no key update`;
    await work(admin, await getTenantById(admin, id));
    await recordOperatorAction(admin.query, {
      action,
      operator,
      client: operator.client,
      tenantId: id,
      metadata,
    });
    return getTenantById(admin, id);
  });
}

const STATUS_ACTIONS = {
  suspended: "TENANT_SUSPENDED",
  active: "TENANT_ACTIVATED",
  read_only: "TENANT_MADE_READ_ONLY",
} as const satisfies Record<TenantStatus, OperatorAction>;

/** @throws AppError `not_found` */
export function changeStatus(
  platform: Platform,
  operator: CallingOperator,
  id: number,
  status: TenantStatus,
): Promise<TenantRecord> {
  return change(platform, operator, id, STATUS_ACTIONS[status], {}, (admin, { subdomain }) =>
    setTenantStatus(admin.query, subdomain, status),
  );
}

export interface TenantChange {
  readonly name?: string | undefined;
  readonly subdomain?: string | undefined;
  readonly sends_messages?: boolean | undefined;
  readonly paid_until?: Date | null | undefined;
  readonly on_trial?: boolean | undefined;
  readonly rate_limits?: Readonly<Record<string, string | null>> | undefined;
}

/** @throws AppError `not_found`, `validation_error`, `conflict` for a subdomain that is taken */
export function changeTenant(
  platform: Platform,
  operator: CallingOperator,
  id: number,
  request: TenantChange,
): Promise<TenantRecord> {
  const { name, subdomain: newSubdomain, sends_messages: sendsMessages, ...plan } = request;
  const metadata = { changed: JSON.stringify(request) };
  return change(
    platform,
    operator,
    id,
    "TENANT_CHANGED",
    metadata,
    async (admin, { subdomain }) => {
      if (name !== undefined) await setTenantName(admin.query, subdomain, name);
      if (sendsMessages !== undefined)
        await setTenantMessages(admin.query, subdomain, sendsMessages);
      if (Object.keys(plan).length > 0) await setTenantPlan(admin.query, subdomain, plan);
      if (newSubdomain !== undefined) await renameTenant(admin.query, subdomain, newSubdomain);
    },
  );
}

/**
 * Suspends a tenant and says when it may be erased; who erases it has to be at the machine.
 *
 * @throws AppError `not_found`
 */
export function scheduleDeletion(
  platform: Platform,
  operator: CallingOperator,
  id: number,
  graceDays: number,
): Promise<TenantRecord> {
  const metadata = { grace_days: graceDays };
  return change(
    platform,
    operator,
    id,
    "TENANT_DELETION_SCHEDULED",
    metadata,
    (admin, { subdomain }) => scheduleErasure(admin.query, subdomain, graceDays),
  );
}

/**
 * Changes the domains of a tenant, with the entry in the operators' log.
 *
 * @throws what `work` throws; AppError `not_found`
 */
export async function changeDomain<T>(
  platform: Platform,
  operator: CallingOperator,
  id: number,
  action: "DOMAIN_ADDED" | "DOMAIN_REMOVED",
  work: (admin: AdminConnection, subdomain: string) => Promise<{ domain: string; result: T }>,
): Promise<T> {
  return platform.pool.transaction(async (admin) => {
    const { subdomain } = await getTenantById(admin, id);
    const { domain, result } = await work(admin, subdomain);
    await recordOperatorAction(admin.query, {
      action,
      operator,
      client: operator.client,
      tenantId: id,
      metadata: { domain },
    });
    return result;
  });
}

/**
 * Makes a domain the tenant's when its TXT record says so. No transaction is open while the name server is
 * asked, so the entry in the log follows the change.
 *
 * @throws AppError `not_found`, `conflict`
 */
export async function verifyPlatformDomain(
  { pool }: Platform,
  operator: CallingOperator,
  id: number,
  domainId: number,
  resolve: TxtResolver | undefined,
): Promise<TenantDomain> {
  return pool.use(async (admin) => {
    const { subdomain } = await getTenantById(admin, id);
    const { domain } = await getDomain(admin, id, domainId);
    const verified = await verifyDomain(admin, subdomain, domain, resolve);
    await recordOperatorAction(admin.query, {
      action: "DOMAIN_VERIFIED",
      operator,
      client: operator.client,
      tenantId: id,
      metadata: { domain },
    });
    return verified;
  });
}
