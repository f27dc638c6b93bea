import {
  accessFrom,
  type AccessRow,
  accessStatement,
  requireAccess,
} from "../access-control/access.ts";
import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { notify } from "../audit/notifications.ts";
import { json, sql, type Statement } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { lockCompany, noSuchCompany } from "./companies.ts";
import type { CompanySettings, CompanySettingsChange } from "./schemas.ts";

interface SettingsRow extends CompanySettings {
  company_name: string;
}

/** @throws AppError `not_found` also for a company that the caller does not belong to */
export async function getCompanySettings(
  tenant: TenantConnection,
  { userId }: Actor,
  id: number,
): Promise<CompanySettings> {
  const [[access], [row]] = await tenant.batch<[AccessRow[], SettingsRow[]]>(() => [
    accessStatement(userId, id),
    settingsStatement(id),
  ]);
  if (!row || !accessFrom(access)) throw noSuchCompany();
  return settingsOf(row);
}

/**
 * Changes a company's settings; its other members are notified. A change of nothing leaves no trace.
 *
 * @throws AppError `not_found`, `permission_denied`
 */
export async function changeCompanySettings(
  tx: TenantSql,
  actor: Actor,
  id: number,
  change: CompanySettingsChange,
): Promise<CompanySettings> {
  await lockCompany(tx, id);
  await requireAccess(tx, actor, id, "company.settings");
  const [row] = await tx<SettingsRow[]>`${settingsStatement(id)}`;
  if (!row) throw noSuchCompany();
  const before = settingsOf(row);
  const after: CompanySettings = {
    default_language: change.default_language ?? before.default_language,
    default_currency: change.default_currency ?? before.default_currency,
    timezone: change.timezone ?? before.timezone,
    fiscal_year_start_month: change.fiscal_year_start_month ?? before.fiscal_year_start_month,
    feature_flags: change.feature_flags ?? before.feature_flags,
  };
  await tx`
    update company_settings set
      default_language = ${after.default_language}, default_currency = ${after.default_currency},
      timezone = ${after.timezone}, fiscal_year_start_month = ${after.fiscal_year_start_month},
      feature_flags = ${json(after.feature_flags)}::jsonb, updated_at = now()
    where company = ${id}`;
  const isChanged = recordActivity(tx, actor, {
    action: "UPDATE",
    entity: "CompanySettings",
    entityId: id,
    companyId: id,
    before,
    after,
  });
  if (isChanged) {
    const members = await tx<{ user: number }[]>`
      select "user" from user_companies
       where company = ${id} and is_active and deleted_at is null and "user" <> ${actor.userId}`;
    await notify(
      tx,
      members.map(({ user }) => user),
      `The settings of ${row.company_name} were changed.`,
    );
  }
  return after;
}

function settingsStatement(id: number): Statement {
  return sql`
    select
      s.default_language, s.default_currency, s.timezone, s.fiscal_year_start_month,
      s.feature_flags, c.name as company_name
    from company_settings s
    join companies c on c.id = s.company
    where c.id = ${id} and c.deleted_at is null`;
}

function settingsOf(row: SettingsRow): CompanySettings {
  const { company_name: _, ...settings } = row;
  return settings;
}
