import type { TenantConnection } from "../db/tenant-database.ts";
import { AppError } from "../errors.ts";
import { findAccess } from "./access.ts";
import type { MyPermissions } from "./schemas.ts";

/**
 * What the caller may do in a company, by code. One query.
 *
 * @throws AppError `not_found` where the caller does not see the company
 */
export async function getMyPermissions(
  tenant: TenantConnection,
  userId: number,
  company: number,
): Promise<MyPermissions> {
  const access = await findAccess(tenant.query, userId, company);
  if (!access) throw new AppError("not_found", "There is no such company.");
  return { company, permissions: [...access.codes] };
}
